"""What is left of a container when its shim is gone: its log files and its exit record.

The same output at the same offsets as the shim would tell, from `attachd.history`.
"""

import os
from collections.abc import Iterator

from attachd.errors import UsageError
from attachd.history.reading import Chunk, History, Missed
from attachd.history.segments import Segment, segments_of
from attachd.state import asciicast, journal
from attachd.state.ring import STREAM_NAMES
from attachd.wire import messages as say
from attachd.wire.origin import Origin, parse_origin
from attachd_clients.conversation import Event
from attachd_clients.places import Place

#: How much output an ended container's screen is rebuilt from: as much as a running one's,
#: and more, since nobody has noted the modes before it.
SCREEN_BYTES = 512 * 1024

#: Logs that do not give back what they were given.
_NO_HISTORY = (asciicast.FORMAT, journal.FORMAT)


def recall(place: Place, since: str) -> Iterator[Event]:
    """Yield the output from ``since`` on, the ends of both streams, and the exit record.

    Raises UsageError when the container has not ended, or left neither record nor log.
    """
    record = place.exit_record()
    if record is None:
        raise UsageError(f"the shim of {place.id} is gone, and there is no exit record")
    origin = parse_origin(since)
    if origin.kind not in ("none", "live"):
        yield from read_log(place, origin)
    if origin.kind != "none":
        yield say.Eof(stream="stdout")
        yield say.Eof(stream="stderr")
    yield say.Exit(record=record)


def recall_exec(place: Place, name: str, since: str) -> Iterator[Event]:
    """Yield what is left of an exec: that its output is gone, and its exit record.

    Raises UsageError when it has not ended.
    """
    record = place.exec_record(name)
    if record is None:
        raise UsageError(f"the shim of {place.id} is gone, and exec {name} has no exit record")
    origin, end = parse_origin(since), _known_end(record)
    start = origin.number if origin.kind == "offset" else 0
    if origin.kind not in ("none", "live"):
        if end is not None and start < end:
            yield say.Gap(start=start, end=end)
        yield say.Eof(stream="stdout")
        yield say.Eof(stream="stderr")
    yield say.Exit(record=record)


def read_log(place: Place, origin: Origin) -> Iterator[say.Output | say.Gap]:
    """Yield all output that the log files have from ``origin`` on, and what they should have.

    Raises UsageError when no log was kept, it cannot be read, or ``origin`` is an offset that
    there never was. A raw log does not say which stream a byte is of: all is told as stdout.
    """
    form, number = _best_log(place)
    end = _known_end(place.exit_record())

    def list_segments() -> list[Segment]:
        return _settle(segments_of(place.path, number)[1], end)

    history = History(list_segments, form)
    at = _find(history, origin, end)
    for item in history.read(at):
        at = item.end
        yield _gap(item) if isinstance(item, Missed) else _output(item)
    if end is not None and at < end:
        yield say.Gap(start=at, end=end)  # the last file is not there any more


def _best_log(place: Place) -> tuple[str, int]:
    """Return format and number of a log that knows streams and times, if there is one."""
    logs = place.state().get("logs")
    if not isinstance(logs, list) or not logs:
        raise UsageError(f"{place.id} keeps no log (--log none)")
    forms = [str(log["format"]) for log in logs]
    kept = [(form, n) for n, form in enumerate(forms) if form not in _NO_HISTORY]
    if not kept and journal.FORMAT in forms:
        raise UsageError(
            f"{place.id} logs to the journal: journalctl CONTAINER_ID_FULL={place.id}"
        )
    if not kept:
        raise UsageError(f"{place.id} keeps no log but recordings, which are no history")
    return min(kept, key=lambda log: log[0] == "raw")


def _known_end(record: say.Record | None) -> int | None:
    """Return the offset after the last byte; None when nobody has written it down."""
    end = (record or {}).get("offset")
    return end if isinstance(end, int) else None


def _settle(segments: list[Segment], end: int | None) -> list[Segment]:
    """Tell of the last file where it ends: nobody writes it any more."""
    if segments and end is not None:
        last = segments[-1]
        try:
            size = os.stat(last.path).st_size
        except OSError:
            return segments
        segments[-1] = last._replace(size=size, end=max(end, last.first))
    return segments


def _find(history: History, origin: Origin, end: int | None) -> int:
    """Return the offset where ``origin`` is."""
    if origin.kind == "time":
        return history.at_time(origin.number)
    if origin.kind in ("tail", "screen", "offset"):
        end = _count(history) if end is None else end
    if origin.kind == "offset" and end is not None and origin.number > end:
        raise UsageError(f"offset {origin.number} is in the future of {end}")
    if origin.kind == "offset":
        return origin.number
    if origin.kind == "screen":
        return max(0, (end or 0) - SCREEN_BYTES)
    if origin.kind == "tail" and end:
        last = next(history.read(end - 1), None)
        whole = isinstance(last, Chunk) and last.data.endswith(b"\n")
        count = origin.number + whole if origin.number else 0
        return history.newline_before(end, count)
    return 0


def _count(history: History) -> int:
    end = 0
    for item in history.read(0):
        end = item.end
    return end


def _gap(missed: Missed) -> say.Gap:
    return say.Gap(start=missed.start, end=missed.end)


def _output(chunk: Chunk) -> say.Output:
    stream = STREAM_NAMES[chunk.stream]
    return say.Output(offset=chunk.start, stream=stream, time=chunk.time, data=chunk.data)
