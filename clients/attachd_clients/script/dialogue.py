"""What a session knows of its container: output, screen, end. Pure: events in, facts out."""

from collections.abc import Iterable

import attrs

from attachd.errors import AttachdError, UsageError
from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd_clients.conversation import Event
from attachd_clients.lines import STREAMS
from attachd_clients.script.buffer import LIMIT, Buffer
from attachd_clients.script.failures import TAIL_BYTES, Scene
from attachd_clients.script.match import Match
from attachd_clients.script.screen import Watcher
from attachd_clients.script.transcript import Transcript


@attrs.define(eq=False)
class Dialogue:
    """One session: its buffer, its screen, and what it knows of the container."""

    buffer: Buffer
    transcript: Transcript
    watcher: Watcher | None = None  #: where there is a terminal
    streams: frozenset[str] = frozenset(STREAMS)  #: those that are looked at
    visible: float = 0  #: output before this offset is for the screen alone
    record: say.Record | None = None
    lost: AttachdError | None = None
    over: bool = False  #: nothing comes any more
    blind: bool = False  #: it is attached without output, and without what belongs to it
    match: Match | None = None
    _ended: set[str] = attrs.field(factory=set)

    @classmethod
    def begin(
        cls,
        name: str,
        welcome: say.Welcome | None,
        size: Size | None,
        *,
        visible: float,
        streams: Iterable[str] = STREAMS,
        limit: int = LIMIT,
    ) -> "Dialogue":
        """Return a session's; ``size`` is that of the container's terminal, None without one.

        Raises UsageError for a stream that there is not.
        """
        wanted = frozenset(streams)
        if not wanted or wanted - set(STREAMS):
            raise UsageError(f"streams are some of {', '.join(STREAMS)}")
        start = welcome.offset if welcome is not None else 0
        first = int(max(start, visible)) if visible != float("inf") else start
        watcher = Watcher(size, welcome.modes if welcome else b"") if size else None
        return cls(Buffer(first, limit), Transcript(name), watcher, wanted, visible)

    # What came

    def hear(self, event: Event | None, seconds: float) -> None:
        """Take an event, so many seconds after the session began; None is the end."""
        match event:
            case say.Output():
                self._hear_output(event, seconds)
            case say.Gap():
                if event.end > self.visible:
                    self.buffer.skip(event.start, event.end)
                    missing = f"{event.end - event.start} bytes are missing"
                    self.transcript.note(seconds, "gap", missing)
            case say.Resized():
                if self.watcher is not None:
                    self.watcher.resize(Size(event.columns, event.rows))
                self.transcript.note(seconds, "resized", f"{event.columns}x{event.rows}")
            case say.Eof():
                self._ended.add(event.stream)
            case say.Exit():
                self.record = event.record
                self._ended.update(STREAMS)
                self.transcript.note(seconds, "ended", self.scene().container)
            case None:
                self.over = True
            case say.Writer() | say.Notice():
                pass

    def _hear_output(self, event: say.Output, seconds: float) -> None:
        if self.watcher is not None:
            self.watcher.feed(event.data)
        unseen = max(0, min(len(event.data), self.visible - event.offset))
        data = event.data[int(unseen) :]
        offset = event.offset + int(unseen)
        if not data or event.stream not in self.streams:
            return
        self.buffer.append(offset, event.stream, data)
        self.transcript.note(seconds, "came", data)

    @property
    def ended(self) -> bool:
        """True when no more output can come."""
        return self.over or self.lost is not None or self.streams <= self._ended

    def scene(self) -> Scene:
        """Return what there is to tell."""
        buffer = self.buffer
        return Scene(
            offset=buffer.end,
            waiting=buffer.size,
            tail=buffer.tail(TAIL_BYTES),
            dropped=buffer.dropped,
            missing=buffer.missing,
            screen=self.watcher.snapshot() if self.watcher is not None else None,
            record=self.record,
            output_ended=self.ended,
            lost=str(self.lost or ""),
        )
