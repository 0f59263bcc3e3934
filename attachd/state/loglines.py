"""Log text: chunks of output in, the bytes of a log file out.

A log has the output in the order of its offsets (docs/logs.md), so at most one line is open at
a time: when the other stream speaks, what is held of a line is written as a piece. A format
never reads a clock; whoever owns it calls ``flush`` when a line has been open for too long.
"""

import base64
import json
from typing import NamedTuple, Protocol

from attachd.state.ring import STREAM_NAMES
from attachd.state.times import rfc3339

#: The longest text of one line; a longer one is cut into pieces. 16 KiB is what
#: containerd (max_container_log_line_size) and docker's loggers use.
MAX_LINE = 16 * 1024


class Format(Protocol):
    """What a log writer needs from a format."""

    overhead: int  #: bytes of text around each line, about
    is_patient: bool  #: what is open may wait for its rest, however long that takes

    @property
    def open_start(self) -> int | None:
        """The offset of the open line's first byte, or None when no line is open."""

    @property
    def unfinished(self) -> int:
        """Bit N is set when the last text of stream N was a piece: its line goes on."""

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Take output of one stream; return the text that it completes."""

    def flush(self) -> bytes:
        """Return the text of the open line, as a piece."""

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """Return a record that tells of output that is missing; None where there is none."""

    def begin_file(self) -> None:
        """What comes next goes into a new file; an open line goes on there."""

    def opening(self, time: int) -> bytes:
        """Return what a file begins with; to be asked when its first text was fed."""

    def closing(self, time: int, end: str) -> bytes:
        """Return what tells the container's end; nothing where it has no place, or was told."""


class _Bare:
    """A format whose files begin with their first line, and whose lines do not wait for long."""

    is_patient = False

    def begin_file(self) -> None:
        """Nothing is different in a new file."""

    def opening(self, time: int) -> bytes:
        """Return nothing."""
        return b""

    def closing(self, time: int, end: str) -> bytes:
        """Return nothing: the exit record tells it."""
        return b""


class RawLines(_Bare):
    """Format ``raw``: the bytes of both streams as they were read, and nothing else."""

    overhead = 0

    def __init__(self, unfinished: int = 0) -> None:
        self._unfinished = unfinished

    @property
    def open_start(self) -> int | None:
        """Nothing is ever held back."""
        return None

    @property
    def unfinished(self) -> int:
        """The last byte was not a newline."""
        return self._unfinished

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Return ``data``."""
        self._unfinished = 0 if data.endswith(b"\n") else 1
        return data

    def flush(self) -> bytes:
        """Return nothing."""
        return b""

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """There is no place for words of ours: a new file begins instead."""
        return None


class _Open(NamedTuple):
    """A line without its end: its text so far, where and when its first byte was read."""

    stream: int
    text: bytes
    start: int
    time: int


class _Lines(_Bare):
    """The assembly of lines, for the formats that have a record for each."""

    overhead = 0

    def __init__(self, unfinished: int = 0) -> None:
        self._open: _Open | None = None
        self._unfinished = unfinished

    @property
    def open_start(self) -> int | None:
        """The offset of the open line's first byte, or None."""
        return self._open.start if self._open else None

    @property
    def unfinished(self) -> int:
        """Bit N is set when the last text of stream N was a piece."""
        return self._unfinished

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Take output of one stream; return the text of the lines and pieces it completes."""
        parts: list[bytes] = []
        if self._open and self._open.stream != stream:
            parts.append(self.flush())
        if self._open:
            end = data.find(b"\n") + 1 or len(data)
            parts.append(self._hold(self._open, data[:end], time))
            data, offset = data[end:], offset + end
        if data:
            cut = data.rfind(b"\n") + 1
            if cut:
                self._unfinished &= ~(1 << stream)
                parts.append(
                    self._lines(stream, time, data if cut == len(data) else data[:cut])
                )
            if cut < len(data):
                fresh = _Open(stream, b"", offset + cut, time)
                parts.append(self._hold(fresh, data[cut:], time))
        return b"".join(parts)

    def flush(self) -> bytes:
        """Return the open line as a piece."""
        line, self._open = self._open, None
        if line is None:
            return b""
        self._unfinished |= 1 << line.stream
        return self._piece(line.stream, line.time, line.text)

    def _hold(self, line: _Open, more: bytes, time: int) -> bytes:
        """Go on with an open line by ``more``, whose only newline can be its last byte."""
        text, at, when = line.text + more, 0, line.time
        ended = text.endswith(b"\n")
        parts: list[bytes] = []
        while len(text) - ended - at > MAX_LINE:
            end = at + self._cut(text, at)
            parts.append(self._piece(line.stream, when, text[at:end]))
            self._unfinished |= 1 << line.stream
            at, when = end, time
        if ended:
            self._open = None
            self._unfinished &= ~(1 << line.stream)
            parts.append(self._whole(line.stream, when, text[at:]))
        else:
            self._open = _Open(line.stream, text[at:], line.start + at, when)
        return b"".join(parts)

    def _lines(self, stream: int, time: int, body: bytes) -> bytes:
        """Return the text of whole lines, each with its newline."""
        if not _has_long_line(body):
            return self._whole(stream, time, body)
        out: list[bytes] = []
        for line in body[:-1].split(b"\n"):
            at = 0
            while len(line) - at > MAX_LINE:
                end = at + self._cut(line, at)
                out.append(self._piece(stream, time, line[at:end]))
                at = end
            out.append(self._whole(stream, time, line[at:] + b"\n"))
        return b"".join(out)

    def _cut(self, text: bytes, at: int) -> int:
        """Return how long the piece of ``text`` from ``at`` on is to be."""
        return MAX_LINE

    def _whole(self, stream: int, time: int, body: bytes) -> bytes:
        """Return the text of lines that are not over the limit."""
        raise NotImplementedError

    def _piece(self, stream: int, time: int, text: bytes) -> bytes:
        """Return the text of a piece of a line."""
        raise NotImplementedError


class CriLines(_Lines):
    """Format ``cri``: ``<RFC 3339 nanoseconds> <stdout|stderr> <P|F> <text>`` a line.

    Joining the texts, with a newline after each F, gives back the exact bytes of a stream.
    The time is that of the read which brought the piece's first byte.
    Source: Kubernetes, "CRI logging format" (design-proposals-archive, node); further tags
    behind a colon are allowed for there.
    """

    overhead = len("2024-05-01T12:00:00.000000001Z stdout F ")

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """Return a line with the tag ``F:gap:START:END``, which a person can read, too."""
        text = _missing(start, end, reason)
        return f"{rfc3339(time)} stderr F:gap:{start}:{end} {text}\n".encode()

    def _whole(self, stream: int, time: int, body: bytes) -> bytes:
        return _before_each_line(_prefix(time, stream, b"F"), body)

    def _piece(self, stream: int, time: int, text: bytes) -> bytes:
        return _prefix(time, stream, b"P") + text + b"\n"


class ShimmyLines(_Lines):
    """Format ``shimmy``: ``<RFC 3339 nanoseconds> <stdout|stderr> <text>`` a line.

    shimmy's own (docs/shimmy.md), whose times end in ``+00:00``. That of a piece ends in ``Z``,
    which says the same to others, so that the exact bytes can be had back.
    """

    overhead = len("2024-05-01T12:00:00.000000001+00:00 stdout ")

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """Return a line whose time ends in ``-00:00``, with ``START:END`` before the words."""
        text = f"{start}:{end} {_missing(start, end, reason)}"
        return _prefix_of(time, "-00:00", "stderr") + text.encode() + b"\n"

    def _whole(self, stream: int, time: int, body: bytes) -> bytes:
        return _before_each_line(_prefix_of(time, "+00:00", STREAM_NAMES[stream]), body)

    def _piece(self, stream: int, time: int, text: bytes) -> bytes:
        return _prefix_of(time, "Z", STREAM_NAMES[stream]) + text + b"\n"


class JsonLines(_Lines):
    """Format ``json-file``: ``{"log":…,"stream":…,"time":…}`` a line; docker's own.

    A piece has no newline at the end of its ``log``. Bytes that are not UTF-8 are in ``raw``,
    base64, exactly. Source: docker, daemon/logger/jsonfilelog/jsonlog (unknown keys are
    skipped by its readers).
    """

    overhead = len('{"log":"\\n","stream":"stdout","time":"2024-05-01T12:00:00.000000001Z"}\n')

    def gap(self, start: int, end: int, time: int, reason: str) -> bytes | None:
        """Return an object with ``gap``, and words for a person as its text."""
        text = json.dumps(_missing(start, end, reason) + "\n", ensure_ascii=False)
        return f'{{"log":{text}{_tail(time, "stderr")[:-2]},"gap":[{start},{end}]}}\n'.encode()

    def _cut(self, text: bytes, at: int) -> int:
        """Do not cut a character: at most three bytes of it can be before the limit."""
        for size in range(MAX_LINE, MAX_LINE - 4, -1):
            if text[at + size] & 0xC0 != 0x80:
                return size
        return MAX_LINE

    def _whole(self, stream: int, time: int, body: bytes) -> bytes:
        try:
            lines = body.decode().split("\n")
        except UnicodeDecodeError:
            parts = body.split(b"\n")[:-1]
            return b"".join(self._object(stream, time, part + b"\n") for part in parts)
        # A NUL in a text is escaped, so that one between two of them cannot be mistaken.
        text = json.dumps(lines[:-1], ensure_ascii=False, separators=("\0", ":"))[2:-2]
        tail = "\\n" + '"' + _tail(time, STREAM_NAMES[stream])
        return ('{"log":"' + text.replace('"\0"', tail + '{"log":"') + tail).encode()

    def _piece(self, stream: int, time: int, text: bytes) -> bytes:
        return self._object(stream, time, text)

    def _object(self, stream: int, time: int, text: bytes) -> bytes:
        log = json.dumps(text.decode(errors="replace"), ensure_ascii=False)
        tail = _tail(time, STREAM_NAMES[stream])
        try:
            text.decode()
        except UnicodeDecodeError:
            raw = base64.b64encode(text).decode()
            tail = f'{tail[:-2]},"raw":"{raw}"}}\n'
        return f'{{"log":{log}{tail}'.encode()


def _missing(start: int, end: int, reason: str) -> str:
    return f"attachd: {end - start} bytes of output are missing here: {reason}"


def _tail(time: int, stream: str) -> str:
    return f',"stream":"{stream}","time":"{rfc3339(time)}"}}\n'


def _prefix(time: int, stream: int, tag: bytes) -> bytes:
    return f"{rfc3339(time)} {STREAM_NAMES[stream]} ".encode() + tag + b" "


def _prefix_of(time: int, zone: str, stream: str) -> bytes:
    return f"{rfc3339(time)[:-1]}{zone} {stream} ".encode()


def _before_each_line(prefix: bytes, body: bytes) -> bytes:
    """Return whole lines with ``prefix`` before each. Few copies: this is the hot path."""
    text = body.replace(b"\n", b"\n" + prefix)
    return b"".join((prefix, memoryview(text)[: -len(prefix)]))


def _has_long_line(body: bytes) -> bool:
    """Hop from newline to newline, each hop as far as the limit allows."""
    at = 0
    while len(body) - at > MAX_LINE:
        newline = body.rfind(b"\n", at, at + MAX_LINE + 1)
        if newline < 0:
            return True
        at = newline + 1
    return False


#: A format is made with the ``unfinished`` that its predecessor left. (``asciicast`` needs more.)
FORMATS: dict[str, type[CriLines] | type[JsonLines] | type[RawLines] | type[ShimmyLines]] = {
    "cri": CriLines,
    "json-file": JsonLines,
    "raw": RawLines,
    "shimmy": ShimmyLines,
}
