"""asciicast v2: a terminal's output with its times, as asciinema and its players take it.

A header, and then one line for each event, ``[SECONDS, CODE, DATA]``: ``o`` output, ``i`` input,
``r`` a new size, ``m`` a marker. There is no event for the end, so a marker tells it.
Source: https://docs.asciinema.org/manual/asciicast/v2/.
"""

import codecs
import json
from collections.abc import Iterator, Mapping

from attachd.state.exitrecord import CLD_DUMPED, CLD_EXITED, CLD_KILLED
from attachd.state.ring import STDERR, STDOUT
from attachd.state.sizes import DEFAULT_SIZE, Size
from attachd.state.timeline import Change, Timeline

#: The name of the log format.
FORMAT = "asciicast"

#: The header of a log is far shorter.
MAX_HEADER = 4096

#: The bit of ``unfinished`` that is not a stream's.
END_TOLD = 1 << 8

OUTPUT, INPUT, RESIZE, MARKER = "o", "i", "r", "m"

_SECOND = 1_000_000_000
_MICRO = 1_000


def header(size: Size, time: int, more: Mapping[str, object] | None = None) -> bytes:
    """Return the first line; ``time`` is the recording's beginning, ns since the epoch.

    ``more`` are the fields that may be there: ``title``, ``command``, ``env``.
    """
    fields = {"version": 2, "width": size.columns, "height": size.rows}
    return _line(fields | {"timestamp": time // _SECOND} | dict(more or {}))


def event(time: int, code: str, data: str) -> bytes:
    """Return an event's line; ``time`` is ns since the beginning, told in microseconds."""
    seconds, rest = divmod(max(0, time) // _MICRO, _SECOND // _MICRO)
    return f'[{seconds}.{rest:06d}, "{code}", '.encode() + _line(data)[:-1] + b"]\n"


def missing(start: int, end: int, reason: str) -> str:
    """Return a marker's text for output that is not there."""
    return f"gap: {end - start} bytes from offset {start}: {reason}"


def end_text(code: int, status: int) -> str:
    """Return a marker's text for an end, of which si_code and si_status are known (waitid(2))."""
    if code == CLD_EXITED:
        return f"exit {status}"
    killed = code in (CLD_KILLED, CLD_DUMPED)
    return f"exit: killed by signal {status}" if killed else "exit: nobody saw how"


def _line(value: object) -> bytes:
    """Return JSON as asciinema writes it: what is not ASCII as it is, control characters not."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


class Characters:
    """Output of one stream as text: what was cut is joined, what is no UTF-8 is U+FFFD.

    ``returns``: a newline is to start a line, as a terminal's driver has it for a program
    (termios(3), ONLCR); pipes have no driver, and players are terminals.
    """

    def __init__(self, *, returns: bool) -> None:
        self._returns = returns
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.start: int | None = None  #: the offset of an unfinished character, or None

    def feed(self, offset: int, data: bytes) -> str:
        """Return the text that ``data`` completes."""
        text = self._decoder.decode(data)
        held = len(self._decoder.getstate()[0])
        if held <= len(data):  # otherwise a character goes on that was unfinished before
            self.start = offset + len(data) - held if held else None
        return self._ended(text)

    def flush(self) -> str:
        """Return U+FFFD for an unfinished character, if there is one."""
        self.start = None
        return self._ended(self._decoder.decode(b"", final=True))

    def _ended(self, text: str) -> str:
        return text.replace("\n", "\r\n") if self._returns else text


class CastLines:
    """Log format ``asciicast``, one whole recording in each file.

    ``timeline`` are the sizes of the container's terminal, None without one; ``base`` is the
    beginning of the file's recording in ns, None where nothing is in it; output before ``at``
    was written. A change of size is written before the first output that came after it, and so
    whoever goes on at an offset knows which changes were. The beginning is the whole second in
    which the first output was read: the header tells it to a successor.
    """

    #: A newline is four characters of text; many others are six, which nobody counts.
    overhead = 3

    #: Half a character is of no use to anybody.
    is_patient = True

    def __init__(
        self,
        timeline: Timeline | None = None,
        base: int | None = None,
        at: int = 0,
        unfinished: int = 0,
    ) -> None:
        #: A file may end anywhere, no event is open: only whether the end was told is noted.
        self.unfinished = unfinished & END_TOLD
        self._timeline = timeline
        self._base = base
        self._size = DEFAULT_SIZE
        self._told = timeline.at(at - 1).number if timeline and at else 0
        self._time = base or 0  #: of the last output
        self._characters = {
            stream: Characters(returns=timeline is None) for stream in (STDOUT, STDERR)
        }

    @property
    def open_start(self) -> int | None:
        """The offset of the first unfinished character, or None."""
        starts = [its.start for its in self._characters.values() if its.start is not None]
        return min(starts, default=None)

    def begin_file(self) -> None:
        """What comes next begins a recording of its own."""
        self._base = None

    def opening(self, time: int) -> bytes:
        """Return the header of a file whose first output was fed, or told to be missing."""
        return header(self._size, self._begun(time))

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Take output of one stream; return the events that it completes."""
        if self._base is None:
            self._begin(self._timeline.at(offset) if self._timeline else None, time)
        self._time, end = time, offset + len(data)
        characters, parts, at = self._characters[stream], list[bytes](), offset
        for change in self._changes_before(end):
            cut = max(at, change.offset)
            parts += self._output(characters.feed(at, data[at - offset : cut - offset]))
            parts.append(self._event(min(change.time, time), RESIZE, str(change.size)))
            at = cut
        return b"".join((*parts, *self._output(characters.feed(at, data[at - offset :]))))

    def flush(self) -> bytes:
        """Return what is left of characters that will never be finished."""
        texts = [characters.flush() for characters in self._characters.values()]
        return b"".join(line for text in texts for line in self._output(text))

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """Return a marker that tells what is missing."""
        return self._event(time, MARKER, missing(start, end, reason))

    def closing(self, time: int, end: str) -> bytes:
        """Return a marker that tells the container's end, once.

        Its last output may have been read later than ``time``; then it comes with that.
        """
        if self.unfinished:
            return b""
        self.unfinished = END_TOLD
        return self._event(max(time, self._time), MARKER, end)

    def _begin(self, change: Change | None, time: int) -> int:
        base = self._base = time - time % _SECOND
        if change is not None:
            self._size, self._told = change.size, change.number
        return base

    def _changes_before(self, end: int) -> Iterator[Change]:
        while self._timeline and (change := self._timeline.after(self._told)):
            if change.offset >= end:
                return
            self._told = change.number
            yield change

    def _output(self, text: str) -> list[bytes]:
        return [self._event(self._time, OUTPUT, text)] if text else []

    def _event(self, time: int, code: str, data: str) -> bytes:
        return event(time - self._begun(time), code, data)

    def _begun(self, time: int) -> int:
        """Return the beginning, which is now where nothing was fed since the file's."""
        if self._base is None:
            return self._begin(self._timeline.last if self._timeline else None, time)
        return self._base


def base_of(first_line: bytes) -> int | None:
    """Return the beginning that a header tells, ns since the epoch; None for anything else."""
    try:
        fields: object = json.loads(first_line)
    except (ValueError, RecursionError):
        return None
    found = fields.get("timestamp") if isinstance(fields, dict) else None
    return found * _SECOND if isinstance(found, int) else None


def outputs(text: bytes) -> Iterator[str]:
    """Yield the output in whole lines of a recording that we have written."""
    for line in text.splitlines():
        fields: object = json.loads(line)
        if isinstance(fields, list) and fields[1] == OUTPUT:
            yield fields[2]
