"""What a follower makes of a client's events: where to begin, records, and where to go on.

Pure. Both colours of `attachd_clients.following` have one.
"""

from collections.abc import Iterable

import attrs

from attachd.errors import UsageError
from attachd.wire import messages as say
from attachd_clients.conversation import Event
from attachd_clients.lines import STREAMS, Line, Lines, Position, trim


@attrs.frozen
class Heartbeat:
    """Nothing was said for a while, and the shim is there: ``newest`` is the next offset."""

    newest: int


#: What a follower is told: lines, or output as it came; what is missing; the end.
Record = Line | say.Output | say.Gap | say.Exit | Heartbeat


class Trail:
    """One follower's way through a container's output; ``streams`` are those it wants.

    ``origin`` is where it begins: a ``since`` of the protocol, an offset in bytes, or where
    another follower has left off. Raises UsageError for a stream that there is not.
    """

    def __init__(
        self, origin: str | int | Position, streams: Iterable[str], *, lines: bool
    ) -> None:
        self._streams = frozenset(streams)
        if not self._streams or self._streams - set(STREAMS):
            raise UsageError(f"streams are some of {', '.join(STREAMS)}")
        begin = origin if isinstance(origin, Position) else Position(0)
        self._ahead = begin.ahead
        self._offset = begin.offset
        self._lines = Lines(begin, self._streams) if lines else None
        self._last: Line | None = None
        if isinstance(origin, int):
            origin = Position(origin)
        self.since = origin if isinstance(origin, str) else f"offset:{origin.offset}"

    @property
    def position(self) -> Position:
        """Where a follower goes on that has handled the last record of which ``told`` knows."""
        if self._last is not None:
            return self._last.position
        if self._lines is not None:
            return self._lines.position
        ahead = {stream: at for stream, at in self._ahead.items() if at > self._offset}
        return Position(self._offset, ahead)

    def told(self, record: Record | None) -> None:
        """The caller is given ``record`` now; None for all that was made so far."""
        self._last = record if isinstance(record, Line) else None

    def take(self, event: Event) -> list[Record]:
        """Return the records that an event makes, in their order."""
        match event:
            case say.Output():
                self._offset = event.offset + len(event.data)
                return [*self._lines.feed(event)] if self._lines else self._wanted(event)
            case say.Gap():
                self._offset = event.end
                return [*(self._lines.skip(event) if self._lines else ()), event]
            case say.Eof():
                return self.flush([event.stream])
            case say.Exit():
                return [*self.flush(), event]
            case _:
                return []

    def flush(self, streams: Iterable[str] = STREAMS) -> list[Record]:
        """Return lines that are open as pieces: nothing comes behind them, or we are asked to."""
        return [*self._lines.flush(streams)] if self._lines else []

    def _wanted(self, output: say.Output) -> list[Record]:
        rest = trim(output, self._ahead) if output.stream in self._streams else None
        return [rest] if rest is not None else []
