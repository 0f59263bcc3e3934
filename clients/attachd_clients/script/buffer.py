"""The output since the last match: pieces with their offsets, within a limit. Pure."""

from collections import deque
from typing import NamedTuple

#: What one expectation may look back over unless told otherwise; a program that says more
#: than this before the awaited word is told about by its log, not by a failure's text.
LIMIT = 64 * 1024 * 1024


class Piece(NamedTuple):
    """Bytes of one stream; a gap is a piece without a stream, and without bytes."""

    offset: int
    stream: str
    data: bytes = b""

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + len(self.data)


class Buffer:
    """What came and was not matched yet. What is too old is dropped, and counted."""

    def __init__(self, start: int, limit: int = LIMIT) -> None:
        self.start = start  #: where the next search begins
        self.end = start  #: the offset of the next byte to come
        self.dropped = 0  #: bytes that were dropped since the last match
        self.missing = 0  #: bytes that are in gaps since the last match
        self.pieces: deque[Piece] = deque()
        self.first = 0  #: the number of the first piece; they are counted from the beginning
        self._limit = limit
        self.size = 0  #: bytes that are kept

    def append(self, offset: int, stream: str, data: bytes) -> None:
        """Take output."""
        self.pieces.append(Piece(offset, stream, data))
        self.size += len(data)
        self.end = offset + len(data)
        while self.size > self._limit and len(self.pieces) > 1:
            self.dropped += len(self.pieces[0].data)
            self._drop()
            self.start = self.pieces[0].offset

    def skip(self, start: int, end: int) -> None:
        """Note that bytes are missing: nothing matches across."""
        self.missing += end - start
        self.pieces.append(Piece(end, ""))
        self.end = end

    def forget(self, offset: int) -> None:
        """Begin anew at an offset: what is before it was matched, or is behind a gap."""
        while self.pieces and self.pieces[0].end <= offset:
            self._drop()
        if self.pieces and self.pieces[0].offset < offset:
            first = self.pieces[0]
            rest = first.data[offset - first.offset :]
            self.pieces[0] = Piece(offset, first.stream, rest)
            self.size -= len(first.data) - len(rest)
        self.start, self.dropped, self.missing = offset, 0, 0

    def forget_gap(self, offset: int) -> None:
        """Begin anew behind a gap that ends at an offset."""
        while self.pieces and self.pieces[0] != (offset, "", b""):
            self._drop()
        self._drop()
        self.start = offset

    def read(self, end: int | None = None) -> bytes:
        """Return the output from where the search begins, up to an offset; all without one."""
        found = (
            p.data if end is None or p.end <= end else p.data[: max(0, end - p.offset)]
            for p in self.pieces
        )
        return b"".join(found)

    def tail(self, size: int) -> bytes:
        """Return the last bytes, without joining what is before them."""
        found: list[bytes] = []
        for piece in reversed(self.pieces):
            if size <= 0:
                break
            found.append(piece.data[-size:])
            size -= len(piece.data)
        return b"".join(reversed(found))

    def _drop(self) -> None:
        self.size -= len(self.pieces.popleft().data)
        self.first += 1
