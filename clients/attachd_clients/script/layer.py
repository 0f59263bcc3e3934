"""Pieces of output as one text, or as one bytes, in which a pattern can be searched. Pure."""

import bisect
import codecs

import attrs

from attachd_clients.script.buffer import Piece

#: How far a lookbehind sees before the place from where on a match can begin.
CONTEXT = 4096

#: Stands where bytes are missing: no line begins behind it, and no match contains it.
_HOLE = b"\0"


@attrs.frozen
class _Mark:
    index: int  #: where its text begins, counted from the beginning
    offset: int
    data: bytes


class Layer:
    """Text is decoded as UTF-8; what is none is replaced, and no character is cut in two.

    ``text`` is what is kept; positions in it are counted from the beginning, ``cut`` is that of
    its first character. Growing is left until somebody looks, so that many small pieces cost
    one copy.
    """

    def __init__(self, kind: type[str] | type[bytes], offset: int) -> None:
        self.text: str | bytes = kind()
        self.cut = 0
        self.end = 0  #: the position behind the last character, also of what is not joined yet
        self._kind = kind
        self._fresh: list[str | bytes] = []
        self._marks = [_Mark(0, offset, b"")]
        self._held = b""  #: the first bytes of a character
        self._last: Piece | None = None

    def feed(self, piece: Piece) -> None:
        """Take output."""
        last = self._last
        if last is not None and (piece.offset, piece.stream) != (last.end, last.stream):
            self.finish()
        self._last = piece
        self._take(self._held + piece.data, piece.end, final=False)

    def finish(self) -> None:
        """The rest of a character will not come."""
        if self._held and self._last is not None:
            self._take(self._held, self._last.end, final=True)

    def begin_anew(self, offset: int) -> None:
        """Bytes are missing before ``offset``: what was before them is gone."""
        self.text, self._fresh, self._held, self.cut = self._kind(), [], b"", self.end
        self._add(_HOLE.decode() if self._kind is str else _HOLE)
        self._marks = [_Mark(self.end, offset, b"")]

    def _take(self, data: bytes, end: int, *, final: bool) -> None:
        offset, used = end - len(data), len(data)
        text: str | bytes = data
        if self._kind is str:
            text, used = codecs.utf_8_decode(data, "replace", final)
        self._held = data[used:]
        if used:
            self._marks.append(_Mark(self.end, offset, data[:used]))
            self._add(text)

    def _add(self, text: str | bytes) -> None:
        self._fresh.append(text)
        self.end += len(text)

    def join(self) -> str | bytes:
        """Return ``text`` with all that came."""
        if self._fresh:
            self.text = self._kind().join([self.text, *self._fresh])  # type: ignore[list-item]
            self._fresh = []
        return self.text

    def forget(self, position: int) -> None:
        """Nothing is searched before ``position``: keep what a lookbehind may see."""
        cut = position - CONTEXT
        if cut - self.cut > CONTEXT:  # not worth a copy before
            self.text = self.text[cut - self.cut :]
            self.cut = cut
            del self._marks[: self._at(cut)]

    def start_of(self, position: int) -> int:
        """Return the offset of the byte with which a character begins."""
        mark = self._marks[self._at(position)]
        return mark.offset + _size(mark.data, position - mark.index, self._kind)

    def end_of(self, position: int) -> int:
        """Return the offset behind the character before ``position``."""
        mark = self._marks[self._at(position - 1)]
        return mark.offset + _size(mark.data, position - mark.index, self._kind)

    def position_of(self, offset: int) -> int:
        """Return the position of the first character of a piece; of the next one, if none is."""
        index = bisect.bisect_left(self._marks, offset, key=lambda mark: mark.offset)
        return self._marks[index].index if index < len(self._marks) else self.end

    def _at(self, position: int) -> int:
        return max(0, bisect.bisect_right(self._marks, position, key=lambda m: m.index) - 1)


def _size(data: bytes, count: int, kind: type[str] | type[bytes]) -> int:
    """Return how many bytes the first ``count`` characters are.

    What is replaced has no length that could be known from the text.
    """
    if kind is bytes or data.isascii():
        return count

    def characters(size: int) -> int:
        return len(codecs.utf_8_decode(data[:size], "replace", True)[0])

    return bisect.bisect_right(range(len(data) + 1), count, key=characters) - 1
