"""Output cut into lines, and where a follower that has handled a line goes on.

Pure: output, gaps and ends in, lines out. Two streams interleave, so a line of one may be open
while the other speaks. A follower that stops then has handled the one stream farther than the
other; a plain offset cannot say that, a `Position` can. Two rules make a resumed follower see
exactly the lines that would have come: a line is told when the byte comes that decides it, and
a piece begins where the one before it ended. How the output was cut into messages changes
nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import attrs

from attachd.wire import messages as say

#: A longer line is told in pieces: where CRI's logs and docker's cut, too.
MAX_LINE = 16 * 1024

#: Both streams, in the order of their descriptors.
STREAMS = ("stdout", "stderr")

#: What a NamedTuple calls in the end; millions of lines do not take the way around.
_make = tuple.__new__

_OTHER = {"stdout": "stderr", "stderr": "stdout"}


@attrs.frozen
class Position:
    """Where to go on: at ``offset``, without what is before a stream's offset in ``ahead``."""

    offset: int
    ahead: Mapping[str, int] = attrs.field(factory=dict)

    @property
    def furthest(self) -> int:
        """The offset before which all was seen that was seen."""
        return max(self.offset, *self.ahead.values(), 0)


class Line(NamedTuple):
    """A line, without its newline, or a piece of one.

    ``offset`` is that of its first byte, ``time`` (nanoseconds since the epoch; 0 when nobody
    knows) that of the read which brought this byte. ``partial``: no newline comes behind it.
    """

    offset: int
    stream: str
    time: int
    text: bytes
    partial: bool
    end: int  #: its stream was told up to here
    elsewhere: int  #: the other stream was

    @property
    def position(self) -> Position:
        """Where a follower that has handled this line goes on."""
        if self.end == self.elsewhere:
            return Position(self.end)
        if self.end < self.elsewhere:
            return Position(self.end, {_OTHER[self.stream]: self.elsewhere})
        return Position(self.elsewhere, {self.stream: self.end})


@attrs.define(eq=False)
class _Open:
    """A line whose newline has not come."""

    start: int
    time: int
    text: bytearray
    end: int  #: the offset after its last byte


def trim(output: say.Output, ahead: Mapping[str, int]) -> say.Output | None:
    """Cut from ``output`` what its stream was told before; None when nothing is left."""
    skip = ahead.get(output.stream, 0) - output.offset
    if skip <= 0:
        return output
    if skip >= len(output.data):
        return None
    return say.Output(
        offset=output.offset + skip,
        stream=output.stream,
        time=output.time,
        data=output.data[skip:],
    )


class Lines:
    """Cuts one container's output into lines, from ``position`` on; of ``streams`` alone."""

    def __init__(
        self, position: Position | None = None, streams: Iterable[str] = STREAMS
    ) -> None:
        start = position or Position(0)
        self._cursor = start.offset
        self._ahead = dict(start.ahead)
        self._streams = frozenset(streams)
        self._open: dict[str, _Open] = {}

    @property
    def position(self) -> Position:
        """Where a follower goes on that has handled all lines that were told."""
        offset, other = (self._told(stream, self._cursor) for stream in STREAMS)
        return Line(0, STREAMS[0], 0, b"", False, offset, other).position

    def feed(self, output: say.Output) -> list[Line]:
        """Take output; return the lines that are decided by it, in their order."""
        fresh = trim(output, self._ahead) if output.stream in self._streams else None
        lines = self._cut(fresh) if fresh is not None else []
        self._cursor = max(self._cursor, output.offset + len(output.data))
        return lines

    def skip(self, gap: say.Gap) -> list[Line]:
        """Go on behind a gap; return what was open before it, as pieces."""
        pieces = self.flush()
        self._cursor = max(self._cursor, gap.end)
        return pieces

    def flush(self, streams: Iterable[str] = STREAMS) -> list[Line]:
        """Return what is open of ``streams`` as pieces: they have ended, or we are asked to."""
        found = sorted(
            (self._open[stream].start, stream) for stream in streams if stream in self._open
        )
        lines: list[Line] = []
        for _, stream in found:
            rest, cursor = self._open.pop(stream), self._cursor
            elsewhere = self._told(_OTHER[stream], cursor)
            lines.append(
                Line(rest.start, stream, rest.time, bytes(rest.text), True, cursor, elsewhere)
            )
        return lines

    def _told(self, stream: str, cursor: int) -> int:
        """Return up to where a stream was told when all before ``cursor`` was seen."""
        rest = self._open.get(stream)
        return rest.start if rest else max(cursor, self._ahead.get(stream, 0))

    def _cut(self, output: say.Output) -> list[Line]:
        texts = output.data.split(b"\n")
        tail = texts.pop()
        stream, at = output.stream, output.offset
        lines: list[Line] = []
        if texts and stream in self._open:
            text = texts.pop(0)
            lines = self._extend(output, at, text)
            at += len(text) + 1
            lines.append(self._close(stream, at))
        if texts and max(map(len, texts)) > MAX_LINE:
            for text in texts:
                lines += self._extend(output, at, text)
                at += len(text) + 1
                lines.append(self._close(stream, at))
        else:
            at = self._tell_whole(output, at, texts, lines)
        return lines + self._extend(output, at, tail) if tail else lines

    def _tell_whole(
        self, output: say.Output, at: int, texts: list[bytes], lines: list[Line]
    ) -> int:
        """Add the lines ``texts``, the first of which begins at ``at``; return where they end.

        This loop runs for each line: the rest of this class is not fast, and need not be.
        """
        stream, time, other = output.stream, output.time, _OTHER[output.stream]
        told, is_open = self._told(other, at), other in self._open
        for text in texts:
            begun = at
            at += len(text) + 1
            elsewhere = told if is_open or told > at else at
            lines.append(_make(Line, (begun, stream, time, text, False, at, elsewhere)))
        return at

    def _extend(self, output: say.Output, at: int, text: bytes) -> list[Line]:
        """Add ``text``, which begins at ``at``, to the open line; return pieces of a long one."""
        stream, time = output.stream, output.time
        rest = self._open.get(stream)
        if rest is None:
            rest = self._open[stream] = _Open(at, time, bytearray(), at)
        pieces: list[Line] = []
        while len(rest.text) + len(text) > MAX_LINE:
            take = MAX_LINE - len(rest.text)
            end = at + take
            elsewhere = self._told(_OTHER[stream], end)
            whole = bytes(rest.text + text[:take])
            pieces.append(Line(rest.start, stream, rest.time, whole, True, end, elsewhere))
            at, text = end, text[take:]
            rest = self._open[stream] = _Open(at, time, bytearray(), at)
        rest.text += text
        rest.end = at + len(text)
        return pieces

    def _close(self, stream: str, end: int) -> Line:
        """End the open line with a newline before ``end``."""
        rest = self._open.pop(stream)
        elsewhere = self._told(_OTHER[stream], end)
        return Line(rest.start, stream, rest.time, bytes(rest.text), False, end, elsewhere)
