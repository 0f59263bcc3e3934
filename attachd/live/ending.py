"""The end, in order: the last bytes, the record on the disk, the clean-up. Each step repeatable."""

import contextlib
import errno
import logging
import os
from collections.abc import Sequence

import trio

from attachd.errors import RuntimeFailed
from attachd.keeper import files
from attachd.keeper.processes import clean_environment
from attachd.live.container import Container
from attachd.live.feed import Feed
from attachd.live.log import Log
from attachd.live.settings import Settings
from attachd.live.spare import NO_SPARE, Spare
from attachd.state.exitrecord import Ending, exit_record, to_json
from attachd.state.header import Header
from attachd.state.ring import STREAM_NAMES, STREAMS

_log = logging.getLogger(__name__)

#: How often it is looked whether a client still has the last bytes wait.
PAUSE_SECONDS = 0.1

#: A copy of the record for which there is no room is tried for so long: a minute is what somebody
#: needs who was woken by a full disk; and so often.
COPY_SECONDS = 60.0
COPY_PAUSE_SECONDS = 0.5

#: What may be over in a moment: room on a disk, descriptors, memory.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO)


async def drain(feed: Feed, pumps: trio.CancelScope, limit: float, owed: int = 0) -> bool:
    """Wait for the last bytes of an ended container; return False when ``limit`` seconds passed.

    A grandchild can keep a pipe open for as long as it likes; then the pumps are stopped. But
    output before the offset ``owed`` was written by then, and comes as fast as a client takes it
    that may have it wait: the pumps are stopped before that only when they do not move at all.
    """
    bell = feed.subscribe()
    pause = max(limit, PAUSE_SECONDS)
    while not feed.ended:
        before, held = feed.index.newest, feed.braked
        with trio.move_on_after(pause):
            while not feed.ended:
                await bell.wait()
        pause, newest = PAUSE_SECONDS, feed.index.newest
        stuck = newest == before and not held
        if not feed.braked and (stuck or newest >= owed):
            break
    feed.unsubscribe(bell)
    drained = feed.ended
    pumps.cancel()
    for stream in STREAMS:
        feed.end_stream(stream)
    return drained


def write_record(
    header: Header,
    feed: Feed,
    *,
    container: str,
    stream_id: str,
    execution: str = "",
    path: str,
    oom_kills: int,
    drained: bool,
    recovered: int = 0,
    logs: Sequence[Log] = (),
    spare: Spare = NO_SPARE,
) -> dict[str, object]:
    """Put the exit record where readers look for it, whole and on the disk; return it.

    What a server before us has put at ``path`` stays as it is, however little later that one
    died: somebody may have read it.
    """
    told = _told_before(path, stream_id)
    if told is not None:
        header.ended = 1
        return told
    index = feed.index
    ending = Ending(
        code=header.exit_code,
        status=header.exit_status,
        finished=header.exit_time,
        started=header.started,
        oom_kills=oom_kills,
        timed_out=bool(header.timed_out),
        drained=drained,
        streams={STREAM_NAMES[stream]: index.bytes_of(stream) for stream in STREAMS},
        log_offset=min((log.offset for log in logs), default=index.newest),
        log_dropped=max((log.dropped for log in logs), default=0),
        restarts=header.restarts,
        base=header.base,
        recovered=recovered,
    )
    record = exit_record(container, stream_id, ending, execution=execution)
    try:
        with spare.lent():
            files.write_record(path, to_json(record))
    except OSError as error:
        _log.error("cannot write %s: %s", path, error)
    header.ended = 1
    return record


class Copy:
    """The record at a place that somebody has asked for, where there may be no room just now.

    With an empty path nobody has.
    """

    def __init__(self, header: Header, record: dict[str, object], path: str) -> None:
        self._header = header
        self._data = to_json(record)
        self._path = path

    def write(self) -> None:
        """Try it, before anybody is told of the end; what can never be is given up at once."""
        error = self._try()
        if error is None:
            return
        patient = error.errno in NO_ROOM
        self._header.copied = 0 if patient else 1
        again = f"; tried again for {COPY_SECONDS:g} s" if patient else ""
        _log.error("cannot write %s: %s%s", self._path, error.strerror, again)

    async def write_again(self) -> None:
        """Return when it is there, or when there has been no room for a minute: that is told."""
        if self._header.copied or not self._path:
            return
        with trio.move_on_after(COPY_SECONDS):
            while self._try() is not None:  # noqa: ASYNC110  # there is no event for room
                await trio.sleep(COPY_PAUSE_SECONDS)
            _log.error("%s is written after all", self._path)
            return
        self._header.copied = 1
        _log.error("%s was given up: there was no room for it", self._path)

    def _try(self) -> OSError | None:
        if self._path and not self._header.copied:
            try:
                files.write_whole(self._path, self._data, sync=True)
            except OSError as error:
                return error
            self._header.copied = 1
        return None


def _told_before(path: str, stream_id: str) -> dict[str, object] | None:
    """Return the record that is there already, unless it is another program's."""
    with contextlib.suppress(OSError, ValueError):
        found = files.read_json(path)
        return found if found.get("stream_id") == stream_id else None
    return None


async def clean_up(header: Header, container: Container, settings: Settings) -> None:
    """Delete from the runtime and run the exit command, where they were asked for."""
    if settings.rm:
        try:
            await container.call_runtime("delete", "--force", settings.id)
            container.write_phase(deleted=True)
        except RuntimeFailed as error:
            _log.error("cannot delete the container from its runtime: %s", error)
    await run_exit_command(header, settings)


async def run_exit_command(header: Header, settings: Settings) -> None:
    """Run it to its end, if there is one.

    It is begun once: a server that dies while it runs does not run it again.
    """
    if settings.exit_command and not header.cleaned:
        header.cleaned = 1
        try:
            environment = clean_environment(os.environ)
            await trio.run_process(settings.exit_command, check=False, env=environment)
        except OSError as error:
            _log.error("cannot run the exit command %s: %s", settings.exit_command[0], error)
