"""Log text: chunks of output in, the bytes of a log file out.

A format is an object with the state of the lines that are still open. It never reads a clock;
whoever owns it calls ``flush`` when a line has been open for too long.
"""

from typing import NamedTuple, Protocol

from attachd.state.ring import STREAM_NAMES
from attachd.state.times import rfc3339

#: The longest text of one CRI line; a longer one is cut into P pieces. 16 KiB is what
#: containerd (max_container_log_line_size) and docker's loggers use.
MAX_LINE = 16 * 1024


class Format(Protocol):
    """What a log writer needs from a format."""

    def open_start(self, stream: int) -> int | None:
        """Return the offset of the open line's first byte, or None when no line is open."""

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Take output of one stream; return the text that it completes."""

    def flush(self, stream: int) -> bytes:
        """Return the text of the open line, as an unfinished one."""


class RawLines:
    """Format ``raw``: the bytes of both streams as they were read, and nothing else."""

    def open_start(self, stream: int) -> int | None:
        """Nothing is ever held back."""
        return None

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Return ``data``."""
        return data

    def flush(self, stream: int) -> bytes:
        """Return nothing."""
        return b""


class _Open(NamedTuple):
    """A line without its end: its text so far, where and when its first byte was read."""

    text: bytes
    start: int
    time: int


class CriLines:
    """Format ``cri``: ``<RFC 3339 nanoseconds> <stdout|stderr> <P|F> <text>`` a line.

    F ends a line; P is a piece of one: of a line over 16 KiB, or of one that was left open.
    Joining the texts, with a newline after each F, gives back the exact bytes of the stream.
    The time is that of the read which brought the piece's first byte.
    Source: Kubernetes, "CRI logging format" (design-proposals-archive, node).
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def open_start(self, stream: int) -> int | None:
        """Return the offset of the open line's first byte, or None."""
        line = self._open.get(stream)
        return line.start if line else None

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Take output of one stream; return the text of the lines and pieces it completes."""
        parts: list[bytes] = []
        held = self._open.pop(stream, None)
        if held:
            end = data.find(b"\n") + 1 or len(data)
            parts.append(self._hold(stream, held, offset, data[:end], time))
            data, offset = data[end:], offset + end
        if data:
            cut = data.rfind(b"\n") + 1
            if cut:
                whole = data if cut == len(data) else data[:cut]
                parts.append(_whole_lines(stream, time, whole))
            if cut < len(data):
                fresh = _Open(b"", offset + cut, time)
                parts.append(self._hold(stream, fresh, offset + cut, data[cut:], time))
        return b"".join(parts)

    def flush(self, stream: int) -> bytes:
        """Return the open line as a P piece."""
        line = self._open.pop(stream, None)
        return _prefix(line.time, stream, b"P") + line.text + b"\n" if line else b""

    def _hold(self, stream: int, line: _Open, offset: int, more: bytes, time: int) -> bytes:
        """Go on with an open line by ``more`` at ``offset``; its only newline can be its last byte.

        Bytes of the other stream may lie between the two, so a piece's start is counted in
        ``more``: an open text is never over the limit, so each later piece begins there.
        """
        text = line.text + more
        ended = text.endswith(b"\n")
        if ended:
            text = text[:-1]
        pieces, rest = _pieces(stream, line.time, time, text)
        if ended:
            when = line.time if rest == 0 else time
            return pieces + _prefix(when, stream, b"F") + text[rest:] + b"\n"
        if rest:
            line = _Open(b"", offset + rest - len(line.text), time)
        self._open[stream] = line._replace(text=text[rest:])
        return pieces


def _prefix(time: int, stream: int, tag: bytes) -> bytes:
    return f"{rfc3339(time)} {STREAM_NAMES[stream]} ".encode() + tag + b" "


def _pieces(stream: int, first: int, later: int, text: bytes) -> tuple[bytes, int]:
    """Return the P pieces of ``text`` that are over the limit, and where its rest begins."""
    out: list[bytes] = []
    at = 0
    while len(text) - at > MAX_LINE:
        prefix = _prefix(first if at == 0 else later, stream, b"P")
        out.append(prefix + text[at : at + MAX_LINE] + b"\n")
        at += MAX_LINE
    return b"".join(out), at


def _has_long_line(body: bytes) -> bool:
    """Hop from newline to newline, each hop as far as the limit allows."""
    at = 0
    while len(body) - at > MAX_LINE:
        newline = body.rfind(b"\n", at, at + MAX_LINE + 1)
        if newline < 0:
            return True
        at = newline + 1
    return False


def _whole_lines(stream: int, time: int, body: bytes) -> bytes:
    """Return the text of whole lines, each with its newline. Few copies: this is the hot path."""
    full = _prefix(time, stream, b"F")
    if not _has_long_line(body):
        text = body.replace(b"\n", b"\n" + full)
        return b"".join((full, memoryview(text)[: -len(full)]))
    out: list[bytes] = []
    for line in body[:-1].split(b"\n"):
        pieces, rest = _pieces(stream, time, time, line)
        out += (pieces, full, line[rest:], b"\n")
    return b"".join(out)


FORMATS: dict[str, type[Format]] = {"cri": CriLines, "raw": RawLines}
