"""What a client is told, as the lines of a recording. Pure: what time it is now is an argument.

A recording that begins in the middle of a terminal's life begins with a picture of it: what came
before is seen by a `Rebuild`, and by nobody else.
"""

import attrs

from attachd.state import asciicast
from attachd.state.asciicast import INPUT, MARKER, OUTPUT, RESIZE, Characters
from attachd.state.sizes import NO_SIZE, Size
from attachd.state.times import parse_rfc3339
from attachd.wire import messages as say
from attachd_clients.conversation import Event
from attachd_clients.outcome import sentence
from attachd_clients.rebuild import Rebuild

#: Why output is missing, as far as a client is told.
_GONE = "no longer there"


@attrs.define(eq=False)
class Recorder:
    """Events in, lines out. The header comes with the first event, or with ``begin``.

    The beginning is when the first output was read, unless ``begin`` came before; no line's time
    is before that of another one above it.
    """

    _size: Size  #: of the container's terminal, or what a recording without one is to have
    _returns: bool  #: newlines are to start lines: there was no terminal to do so
    _more: dict[str, object] = attrs.field(factory=dict)  #: fields of the header
    _rebuild: Rebuild | None = None  #: what sees the output before the recording begins
    _base: int | None = None  #: ns since the epoch
    _time: int = 0  #: of the last event, ns
    _streams: dict[str, Characters] = attrs.field(factory=dict)

    @property
    def base(self) -> int | None:
        """When the recording began, in ns since the epoch; None while it has not."""
        return self._base

    def begin(self, time: int) -> bytes:
        """Return header and first picture, unless it was done; ``time`` is the beginning."""
        if self._base is not None:
            return b""
        self._base = self._time = time
        rebuilt, self._rebuild = self._rebuild, None
        lines = asciicast.header(self._size, time, self._more)
        return lines + (self._output("stdout", 0, rebuilt.paint(NO_SIZE)) if rebuilt else b"")

    def take(self, event: Event | say.Input, now: int) -> bytes:
        """Return the lines of an event, which came at ``now`` if it does not know when it was."""
        rest = self._unseen(event)
        if rest is None:
            return b""
        match rest:
            case say.Output():
                lines = self._at(rest.time, now)
                return lines + self._output(rest.stream, rest.offset, rest.data)
            case say.Input():
                lines = self._at(rest.time, now)
                return lines + self._line(INPUT, self._text(INPUT, 0, rest.data))
            case say.Resized():
                return self._resize(Size(rest.columns, rest.rows), rest.time)
            case say.Gap():
                text = asciicast.missing(rest.start, rest.end, _GONE)
                return self._at(0, now) + self._line(MARKER, text)
            case say.Exit():
                lines = self._at(_finished(rest.record), now) + self._flush()
                return lines + self._line(MARKER, ending(rest.record))
            case _:
                return b""

    def end(self, now: int) -> bytes:
        """Return what is left to make the recording whole."""
        return self.begin(now) + self._flush()

    def _unseen(self, event: Event | say.Input) -> Event | say.Input | None:
        """Return what of an event belongs to the recording; show the rest to the rebuild."""
        rebuild = self._rebuild
        if rebuild is None:
            return event
        if isinstance(event, say.Resized) and event.offset <= rebuild.end:
            self._size = Size(event.columns, event.rows)
            rebuild.resize(self._size)
            return None
        if isinstance(event, say.Gap) and event.start < rebuild.end:
            return None
        if isinstance(event, say.Output) and event.offset < rebuild.end:
            cut = rebuild.end - event.offset
            rebuild.feed(event.data[:cut])
            rest = event.data[cut:]
            return attrs.evolve(event, offset=rebuild.end, data=rest) if rest else None
        return event

    def _at(self, time: int, now: int) -> bytes:
        """Note when something was (0: nobody knows); begin if that was not done."""
        lines = self.begin(time or now)
        self._time = max(self._time, time)
        return lines

    def _resize(self, size: Size, time: int) -> bytes:
        """Note a size: it is the header's while there is none."""
        before, self._size = self._size, size
        if self._base is None or size == before:
            return b""
        return self._at(time, 0) + self._line(RESIZE, str(size))

    def _output(self, stream: str, offset: int, data: bytes) -> bytes:
        return self._line(OUTPUT, self._text(stream, offset, data))

    def _text(self, stream: str, offset: int, data: bytes) -> str:
        if stream not in self._streams:
            returns = self._returns and stream != INPUT
            self._streams[stream] = Characters(returns=returns)
        return self._streams[stream].feed(offset, data)

    def _flush(self) -> bytes:
        """Return what is left of characters that will never be finished."""
        return b"".join(
            self._line(INPUT if stream == INPUT else OUTPUT, characters.flush())
            for stream, characters in self._streams.items()
        )

    def _line(self, code: str, data: str) -> bytes:
        time = self._time - (self._base or 0)
        return asciicast.event(time, code, data) if data else b""


def ending(record: say.Record) -> str:
    """Return the marker of a container's end: ``exit 0``, or how else it ended."""
    code = record.get("exit_code")
    return f"exit {code}" if isinstance(code, int) else f"exit: {sentence(record)}"


def _finished(record: say.Record) -> int:
    """Return when the container ended, ns since the epoch; 0 when nobody has written it down."""
    try:
        return parse_rfc3339(str(record.get("finished_at")))
    except ValueError:
        return 0
