"""Prints records on our own stdout and stderr."""

import os
import sys
from typing import TextIO

from attachd.wire import messages as say
from attachd_clients.lines import Line
from attachd_clients.telling import Sheet, as_json, tell_gap
from attachd_clients.trail import Record

#: In turn: cyan, yellow, green, magenta, blue, red.
_COLOURS = (36, 33, 32, 35, 34, 31)


class Printer:
    """Each stream on its own descriptor; as JSON, everything on stdout.

    ``prefixes`` are the containers whose lines stand behind their id. Raises BrokenPipeError when
    nobody reads any more.
    """

    def __init__(self, prefixes: list[str], *, json: bool, timestamps: bool) -> None:
        self._json = json
        self._ids = prefixes
        self._sheets = {
            stream: Sheet(timestamps, heads(prefixes, is_colourful(sink)))
            for stream, sink in (("stdout", sys.stdout), ("stderr", sys.stderr))
        }

    def tell(self, container: str, records: list[Record]) -> None:
        """Print what came together."""
        if self._json:
            _write(sys.stdout, as_json(container, records))
            return
        lines = [record for record in records if isinstance(record, Line)]
        for stream in dict.fromkeys(line.stream for line in lines):
            some = [line for line in lines if line.stream == stream]
            _write(_sink(stream), self._sheets[stream].add(container, some))
        for record in records:
            if isinstance(record, say.Output):
                _write(_sink(record.stream), record.data)
            elif isinstance(record, say.Gap):
                self._tell_gap(container, record)

    def warn(self, container: str, text: str) -> None:
        """Tell on stderr, on a line of its own, what is wrong with a container."""
        about = f"{container}: " if container in self._ids else ""
        start = self._sheets["stderr"].end_line().decode()
        sys.stderr.write(f"{start}attachctl: {about}{text}\n")
        sys.stderr.flush()

    def _tell_gap(self, container: str, gap: say.Gap) -> None:
        _write(sys.stdout, self._sheets["stdout"].end_line())
        self.warn(container, tell_gap(gap))


def heads(containers: list[str], colourful: bool) -> dict[str, bytes]:
    """Return what stands before each container's lines: the id, as wide as the widest."""
    width = max(map(len, containers), default=0)
    found: dict[str, bytes] = {}
    for number, container in enumerate(containers):
        head = f"{container:{width}} | "
        colour = _COLOURS[number % len(_COLOURS)]
        found[container] = (f"\x1b[{colour}m{head}\x1b[m" if colourful else head).encode()
    return found


def is_colourful(sink: TextIO) -> bool:
    """True for a terminal, unless NO_COLOR says otherwise (no-color.org)."""
    return sink.isatty() and not os.environ.get("NO_COLOR")


def _sink(stream: str) -> TextIO:
    return sys.stderr if stream == "stderr" else sys.stdout


def _write(sink: TextIO, data: bytes) -> None:
    if data:
        sink.flush()
        sink.buffer.write(data)
        sink.buffer.flush()
