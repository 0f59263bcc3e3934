"""One segment's output: which offset each byte of its text has.

Forward, offsets are counted from the segment's first; what the text does not have is Missed.
Backward, they are counted from its end, which is quick near the end of a long file and gives the
same, or is given up for the way forward at the first line that is not as the shim writes it.
"""

import sys
from collections.abc import Generator
from contextlib import closing
from itertools import chain
from typing import NamedTuple

from attachd.history.segments import Segment
from attachd.history.unpack import TextFile, Unsure
from attachd.state.logparse import Grammar, Hole, Item, Piece
from attachd.state.ring import Missed


class Chunk(NamedTuple):
    """Output with the absolute offset of its first byte; never empty."""

    start: int
    stream: int  #: STDOUT or STDERR
    time: int  #: nanoseconds since the Unix epoch; 0 in a raw log
    data: bytes

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.start + len(self.data)

    def cut(self, start: int, end: int) -> "Chunk":
        """Return [start, end) of it; start must be in it and before end."""
        if start == self.start and self.end <= end:
            return self
        data = self.data[start - self.start : end - self.start]
        return self._replace(start=start, data=data)


class _Debt:
    """The output that corrupt lines stood for, up to where an offset is known again."""

    def __init__(self, size: int | None, lines: int) -> None:
        self._size = size  # None: nobody knows
        self._lines = lines

    def pay(self, estimate: int) -> int:
        """Return how much one line stood for; the last one all that the others did not."""
        self._lines -= 1
        if self._size is None:
            return estimate
        paid = min(estimate, self._size) if self._lines else self._size
        self._size -= paid
        return paid


class Counter:
    """Counts through one segment's file, which it does not close."""

    def __init__(self, segment: Segment, file: TextFile, grammar: Grammar) -> None:
        self._segment = segment
        self._file = file
        self._grammar = grammar
        self.corrupt = 0  #: corrupt lines met by ``read``, each time

    def read(self, offset: int) -> Generator[Chunk | Missed, None, None]:
        """Yield the segment's output from ``offset`` on; each item begins where the last ended.

        Where the segment's end is known, the last one ends there.
        """
        at, first, end = offset, self._segment.first, self._segment.end
        if at < first:
            yield Missed(at, first)
            at = first
        limit = sys.maxsize if end is None else end
        with closing(self._stated(*self._place_before(offset))) as stated:
            for item in stated:
                start, stop = item.start, item.end
                if at == start < stop <= limit:
                    yield item  # as nearly all are
                    at = stop
                    continue
                if start >= limit and isinstance(item, Chunk):
                    break  # corrupt lines are counted to the last
                start, stop = max(at, start), min(stop, limit)
                if start >= stop:
                    continue
                if start > at:
                    yield Missed(at, start)
                yield item.cut(start, stop) if isinstance(item, Chunk) else Missed(start, stop)
                at = stop
        if end is not None and at < end:
            yield Missed(at, end)

    def newline_before(self, end: int, count: int) -> tuple[int, int]:
        """Return the offset after the count-th newline before ``end``, and 0.

        When the segment has fewer, return (its first, how many more are to be found).
        """
        try:
            return self._newline_back(end, count)
        except Unsure:
            return self._newline_through(end, count)

    # Forward

    def _blocks(self, position: int) -> Generator[tuple[int, bytes], None, None]:
        file, size = self._file, self._segment.size
        if self._grammar.has_lines:
            return file.line_blocks(position, size)
        return file.blocks(position, size)

    def _stated(self, position: int, at: int) -> Generator[Chunk | Missed, None, None]:
        """Yield what the text from ``position`` on says, when its first byte is at ``at``.

        Corrupt lines and gap records are Missed; a gap record knows better where it is.
        """
        debt: _Debt | None = None
        with closing(self._blocks(position)) as blocks:
            for after, text in blocks:
                items = list(self._grammar.parse(text))
                for number, item in enumerate(items):
                    if isinstance(item, Piece):
                        yield Chunk(at, item.stream, item.time, item.data)
                        at += len(item.data)
                    elif isinstance(item, Hole):
                        yield Missed(*item)
                        at, debt = item.end, None
                    else:
                        debt = debt or self._debt(at, items[number:], after)
                        lost = debt.pay(item.size)
                        self.corrupt += 1
                        yield Missed(at, at + lost)
                        at += lost

    def _debt(self, at: int, items: list[Item], after: int) -> _Debt:
        """Look ahead: what is missing before the next gap record, or the segment's end."""
        good = lines = 0
        end = self._segment.end
        with closing(self._blocks(after)) as blocks:
            rest = chain.from_iterable(self._grammar.parse(text) for _, text in blocks)
            for item in chain(items, rest):
                if isinstance(item, Hole):
                    end = item.start
                    break
                if isinstance(item, Piece):
                    good += len(item.data)
                else:
                    lines += 1
        return _Debt(None if end is None else max(0, end - at - good), lines)

    def _newline_through(self, end: int, count: int) -> tuple[int, int]:
        """Count all newlines, then those before the one that is looked for: memory stays flat."""
        total = sum(chunk.data.count(b"\n") for chunk in self._chunks_before(end))
        if total < count:
            return self._segment.first, count - total
        skip = total - count
        for chunk in self._chunks_before(end):
            here = chunk.data.count(b"\n")
            if here > skip:
                return chunk.start + _after_newline(chunk.data, here - skip), 0
            skip -= here
        return self._newline_through(end, count)  # somebody has cut the file meanwhile

    def _chunks_before(self, end: int) -> Generator[Chunk, None, None]:
        with closing(self.read(self._segment.first)) as items:
            for item in items:
                if item.start >= end:
                    return
                if isinstance(item, Chunk):
                    yield item.cut(item.start, end)

    # Backward

    def _place_before(self, offset: int) -> tuple[int, int]:
        """Return a position in the text, and the offset there: at most ``offset``."""
        first, start, end = self._segment.first, self._segment.start, self._segment.end
        if not self._grammar.has_lines:
            return start + max(0, offset - first), max(offset, first)
        # Going back costs as much as going forward, and from there on again.
        if end is not None and 2 * (end - offset) < offset - first:
            try:
                for position, at, _ in self._back():
                    if at <= offset:
                        return position, at
            except Unsure:
                pass
        return start, first

    def _newline_back(self, end: int, count: int) -> tuple[int, int]:
        for _, at, chunks in self._back():
            if at >= end:
                continue
            for chunk in chunks:
                if chunk.start < end:
                    data = chunk.cut(chunk.start, end).data
                    here = data.count(b"\n")
                    if here >= count:
                        return chunk.start + _after_newline(data, count), 0
                    count -= here
        return self._segment.first, count

    def _back(self) -> Generator[tuple[int, int, list[Chunk]], None, None]:
        """Yield (position, offset, chunks, last first) of each block's start, last block first."""
        start = self._segment.start
        position, at = self._end_of_text()
        if self._grammar.has_lines:
            blocks = self._file.line_blocks_back(start, position)
        else:
            blocks = self._file.blocks_back(start, position)
        with closing(blocks):
            for position, text in blocks:
                at, chunks = _counted_back(at, list(self._grammar.parse(text)))
                yield position, at, chunks
        if at != self._segment.first:
            raise Unsure

    def _end_of_text(self) -> tuple[int, int]:
        """Return the last position of the text and the offset there; raise Unsure."""
        _, first, start, size, end, *_ = self._segment
        now = self._file.size
        if now is None:
            raise Unsure
        if self._grammar.has_lines:
            if size is None or end is None:
                raise Unsure
            return size, end
        ends = (now, size, None if end is None else start + end - first)
        last = max(start, min(position for position in ends if position is not None))
        return last, first + last - start


def _counted_back(at: int, items: list[Item]) -> tuple[int, list[Chunk]]:
    """Return the offset of the first of ``items`` and its chunks, last first; ``at`` is their end.

    Raises Unsure for a corrupt line, and for a gap that ends elsewhere than it says.
    """
    chunks: list[Chunk] = []
    for item in reversed(items):
        if isinstance(item, Piece):
            at -= len(item.data)
            chunks.append(Chunk(at, *item))
        elif isinstance(item, Hole) and item.end == at:
            at = item.start
        else:
            raise Unsure
    return at, chunks


def _after_newline(data: bytes, count: int) -> int:
    """Return the place after the count-th newline from the end of ``data``, which has it."""
    at = len(data)
    for _ in range(count):
        at = data.rindex(b"\n", 0, at)
    return at + 1
