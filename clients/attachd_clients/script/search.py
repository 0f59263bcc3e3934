"""One expectation's search in output that grows. Pure; it takes no longer than it is told.

What was searched is not searched again, but from where on a match can still begin: the last
line for most patterns; for others the `regex` package tells, which knows what is a partial
match. Where that is far back (``(?s)begin.*end``), a search waits until as much has come as
would be searched again, or until nothing comes. So each character is looked at a few times,
however the output was cut.
"""

from collections.abc import Callable, Sequence

import attrs
import regex

from attachd_clients.script.buffer import Buffer, Piece
from attachd_clients.script.layer import Layer
from attachd_clients.script.patterns import Engine, Wanted

#: So much is searched again without a thought.
CHEAP = 16 * 1024

#: The guide's first step: partial matches of some patterns take the square of what is looked at.
GUIDED = 512

#: The guide only saves work: what would take it longer is not worth it.
GUIDE_SECONDS = 0.05

#: A match that ends so near to the last piece that was looked at may be longer with the next.
_NEAR = 1024

_DRAWN = 256 * 1024  #: as much as one message has


#: How many seconds a search may still take; None: as long as it likes.
Left = Callable[[], float | None]

Found = regex.Match[str] | regex.Match[bytes]


@attrs.frozen
class Hit:
    """A match: of which pattern, from where to where in the container's output."""

    index: int
    start: int
    end: int
    found: Found | None


@attrs.define(eq=False)
class _Way:
    """How far one pattern has come; positions are the layer's."""

    index: int
    wanted: Wanted
    layer: Layer
    resume: int = 0  #: a match can begin from here on
    searched: int = 0  #: and there is none that ends before here
    guided: int = 0  #: how far the guide has looked, which is left until it may help


class Search:
    """The search for the first of several patterns in what is in a buffer, and will be."""

    def __init__(self, wanted: Sequence[Wanted], buffer: Buffer) -> None:
        self.scanned = 0  #: characters that were looked at, all in all
        self._buffer = buffer
        self._next = buffer.first
        kinds = {one.kind for one in wanted if one.live is not None}
        self._layers = {kind: Layer(kind, buffer.start) for kind in kinds}
        self._ways = [
            _Way(index, one, self._layers[one.kind])
            for index, one in enumerate(wanted)
            if one.live is not None
        ]

    def feed(self) -> bool:
        """Take what is in the buffer, as much as is to be searched at once; False: it has no more.

        A gap is the end of what can be searched together: then it is ``due`` before the next.
        """
        took, enough = 0, max(_DRAWN, *(way.layer.end - way.resume for way in self._ways), 0)
        while took < enough and (piece := self._peek()) is not None:
            if not piece.stream and took:
                break
            self._next = max(self._next, self._buffer.first) + 1
            took += self._take(piece)
        return took > 0

    def _peek(self) -> Piece | None:
        index = max(0, self._next - self._buffer.first)
        pieces = self._buffer.pieces
        return pieces[index] if index < len(pieces) else None

    def _take(self, piece: Piece) -> int:
        for layer in self._layers.values():
            if piece.stream:
                layer.feed(piece)
            else:
                layer.begin_anew(piece.offset)
        if not piece.stream:
            self._buffer.forget_gap(piece.offset)
            for way in self._ways:
                way.resume = way.searched = way.guided = way.layer.end
        return max(1, len(piece.data))

    @property
    def due(self) -> bool:
        """True when what is new is worth looking again at what is old."""
        piece = self._peek()
        at_gap = piece is not None and not piece.stream
        return at_gap or any(_is_due(way) for way in self._ways)

    def scan(self, left: Left, *, final: bool = False) -> Hit | None:
        """Return the earliest match in what was fed; the first pattern's, where two begin.

        Raises TimeoutError when no time is left; then it can be called again. ``final``: no more
        can come.
        """
        if final:
            for layer in self._layers.values():
                layer.finish()
        hits = [hit for way in self._ways if (hit := self._look(way, left, final))]
        return min(hits, key=lambda hit: (hit.start, hit.index), default=None)

    def _look(self, way: _Way, left: Left, final: bool) -> Hit | None:
        engine = way.wanted.final if final else way.wanted.live
        layer, text = way.layer, way.layer.join()
        oldest = layer.position_of(self._buffer.start) if self._buffer.dropped else 0
        resume = max(way.resume, oldest)
        assert engine is not None, "only patterns have a way"
        self.scanned += layer.end - resume
        begin = _skip(way.wanted, text, resume - layer.cut)
        found = _search(engine, text, begin, left) if begin >= 0 else None
        if found is not None:
            return _hit(way, found)
        if begin >= 0 or way.wanted.narrow:
            resume = self._resume(way, resume, left)
        way.resume, way.searched = resume, layer.end
        layer.forget(min(other.resume for other in self._ways if other.layer is layer))
        return None

    def _resume(self, way: _Way, resume: int, left: Left) -> int:
        """Return from where on a match can begin, when there is none."""
        layer, text = way.layer, way.layer.text
        if way.wanted.narrow:
            return layer.cut + _line_begin(text, resume - layer.cut, len(text))
        if way.wanted.guide is None:
            return resume
        way.guided = max(way.guided, resume)
        while way.guided < layer.end:
            looked = min(layer.end, way.guided + max(GUIDED, way.guided - resume))
            self.scanned += looked - resume
            try:
                resume = layer.cut + _begin_of(
                    way.wanted.guide, text, resume - layer.cut, looked - layer.cut, left
                )
            except TimeoutError:
                return resume  # from further back than need be, which is right, too
            way.guided = looked
        return resume

    def is_short(self, hit: Hit) -> bool:
        """True when a match might be another one with what is in the buffer already."""
        piece = self._peek()
        if piece is None or not piece.stream or hit.found is None:
            return False
        return len(hit.found.string) - hit.found.end() < _NEAR


def _is_due(way: _Way) -> bool:
    again, fresh = way.searched - way.resume, way.layer.end - way.searched
    return again <= max(fresh, CHEAP)


def _skip(wanted: Wanted, text: str | bytes, begin: int) -> int:
    """Return from where on to search, as far as what every match needs tells; -1: nowhere."""
    if not wanted.needs:
        return begin
    at = text.find(wanted.needs, begin)  # type: ignore[arg-type]
    return _line_begin(text, begin, at) if at >= 0 and wanted.narrow else min(at, begin)


def _line_begin(text: str | bytes, begin: int, end: int) -> int:
    """Return where the line begins in which ``end`` is, or ``begin`` where it began before."""
    newline = "\n" if isinstance(text, str) else b"\n"
    return max(begin, text.rfind(newline, begin, end) + 1)  # type: ignore[arg-type]


def _search(engine: Engine, text: str | bytes, begin: int, left: Left) -> Found | None:
    seconds = left()
    if seconds is not None and seconds <= 0:
        raise TimeoutError
    return engine.search(text, begin, timeout=seconds, concurrent=True)  # type: ignore[arg-type]


def _begin_of(guide: Engine, text: str | bytes, begin: int, end: int, left: Left) -> int:
    """Return where the first match can begin that reaches ``end``; raises TimeoutError.

    One place is asked first: a search would try all of them, each up to the end.
    """
    seconds = left()
    patience = GUIDE_SECONDS if seconds is None else min(seconds, GUIDE_SECONDS)
    if patience <= 0:
        raise TimeoutError
    for look in (guide.match, guide.search):
        found = look(
            text,  # type: ignore[arg-type]
            begin,
            end,
            partial=True,
            timeout=patience,
            concurrent=True,
        )
        if found is not None:
            return found.start() if found.partial else begin
    return end


def _hit(way: _Way, found: Found) -> Hit:
    layer = way.layer
    start = layer.start_of(layer.cut + found.start())
    empty = found.start() == found.end()
    end = start if empty else layer.end_of(layer.cut + found.end())
    return Hit(way.index, start, end, found)
