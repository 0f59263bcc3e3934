"""Output from files alone: what a shim that is gone would have sent."""

import os
import sys
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from attachd.errors import UsageError
from attachd.state.times import parse_rfc3339
from attachd.wire import messages as say
from attachd.wire.origin import Origin, parse_origin
from attachd_clients.conversation import Event
from attachd_clients.places import Place

_READ_BYTES = 256 * 1024

#: How much of a log an ended container's screen is rebuilt from: as much as a running one's,
#: and what the log puts around it.
SCREEN_BYTES = 512 * 1024


def recall(place: Place, since: str) -> Iterator[Event]:
    """Yield the output from ``since`` on, the ends of both streams, and the exit record.

    Raises UsageError when the container has not ended, or left neither record nor log.
    """
    record = place.exit_record()
    if record is None:
        raise UsageError(f"the shim of {place.id} is gone, and there is no exit record")
    origin = parse_origin(since)
    if origin.kind == "screen":
        yield from read_log(place, last=SCREEN_BYTES)
    elif origin.kind not in ("none", "live"):
        yield from cut(read_log(place), origin)
    if origin.kind != "none":
        yield say.Eof(stream="stdout")
        yield say.Eof(stream="stderr")
    yield say.Exit(record=record)


def read_log(
    place: Place, end: int | None = None, *, last: int | None = None
) -> Iterator[say.Output]:
    """Yield all output in the container's first log, in the log's order, from offset 0.

    ``end`` is the size up to which the file is read; with ``last`` only about so many bytes at
    the end of the file are, and offsets count from there. Offsets count what the log has before: a
    line that stayed open is logged behind what the other stream said meanwhile, so they equal
    the shim's for a container that uses one stream, and otherwise nearly so.

    Raises UsageError when no log was kept or it cannot be read. Lines that are not in the
    log's format are skipped.
    """
    logs = place.state().get("logs")
    if not isinstance(logs, list) or not logs:
        raise UsageError(f"{place.id} keeps no log (--log none)")
    log = logs[0]
    try:
        file = open(log["path"], "rb")  # noqa: SIM115  (closed below, over the whole iteration)
    except OSError as error:
        raise UsageError(f"cannot read the log {log['path']}: {error.strerror}") from None
    with file:
        file.seek(log["start"])
        if last is not None:
            _skip_to_the_last(file, log["start"], last)
        left = sys.maxsize if end is None else end - log["start"]
        yield from _raw(file, left) if log["format"] == "raw" else _cri(file, left)


def _skip_to_the_last(file: BinaryIO, start: int, count: int) -> None:
    """Go to the beginning of a line that is about ``count`` bytes before the end."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(start, size - count))
    if file.tell() > start:
        file.readline()


def cut(outputs: Iterator[say.Output], origin: Origin) -> Iterator[say.Output]:
    """Yield what comes after ``origin`` (start, tail or offset)."""
    if origin.kind == "tail":
        yield from _last_lines(outputs, origin.number)
        return
    for output in outputs:
        skip = max(0, origin.number - output.offset)
        if skip < len(output.data):
            yield _from(output, skip)


def _from(output: say.Output, skip: int) -> say.Output:
    return say.Output(
        offset=output.offset + skip,
        stream=output.stream,
        time=output.time,
        data=output.data[skip:],
    )


def _last_lines(outputs: Iterator[say.Output], lines: int) -> Iterator[say.Output]:
    """Keep the outputs that the last ``lines`` lines touch, then cut the first of them."""
    kept: deque[say.Output] = deque()
    ends = 0  # newlines in kept, but for a last one at the very end
    for output in outputs:
        kept.append(output)
        ends += output.data.count(b"\n")
        while kept and ends - kept[0].data.count(b"\n") > lines:
            ends -= kept.popleft().data.count(b"\n")
    if not kept or not lines:
        return
    extra = ends - lines + (not kept[-1].data.endswith(b"\n"))
    for output in kept:
        skip = 0
        while extra > 0 and (at := output.data.find(b"\n", skip)) >= 0:
            skip, extra = at + 1, extra - 1
        if extra <= 0 and skip < len(output.data):
            yield _from(output, skip)


def _raw(file: BinaryIO, left: int) -> Iterator[say.Output]:
    """A raw log does not say which stream a byte is of: all are told as stdout."""
    offset = 0
    while data := file.read(min(_READ_BYTES, left - offset)):
        yield say.Output(offset=offset, stream="stdout", time=0, data=data)
        offset += len(data)


def _cri(file: BinaryIO, left: int) -> Iterator[say.Output]:
    offset = 0
    for line in file:
        left -= len(line)
        if left < 0:
            return
        fields = line.split(b" ", 3)
        if len(fields) != 4 or not line.endswith(b"\n"):
            continue
        if fields[1] not in (b"stdout", b"stderr") or fields[2] not in (b"F", b"P"):
            continue
        try:
            time = parse_rfc3339(fields[0].decode())
        except ValueError:
            continue
        data = fields[3] if fields[2] == b"F" else fields[3][:-1]
        if data:
            yield say.Output(offset=offset, stream=fields[1].decode(), time=time, data=data)
            offset += len(data)
