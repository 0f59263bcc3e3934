"""The end, in order: the last bytes, the record on the disk, the clean-up. Each step repeatable."""

import contextlib
import logging
import os
from collections.abc import Sequence

import trio

from attachd.errors import RuntimeFailed
from attachd.keeper import files
from attachd.keeper.processes import clean_environment
from attachd.live.container import Container
from attachd.live.feed import Feed
from attachd.live.logfile import LogFile
from attachd.live.settings import Settings
from attachd.state.exitrecord import Ending, exit_record, to_json
from attachd.state.header import Header
from attachd.state.ring import STREAM_NAMES, STREAMS

_log = logging.getLogger(__name__)

#: How often it is looked whether a client still has the last bytes wait.
PAUSE_SECONDS = 0.1


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
    paths: list[str],
    oom_kills: int,
    drained: bool,
    logs: Sequence[LogFile] = (),
) -> dict[str, object]:
    """Put the exit record where readers look for it, whole and on the disk; return it.

    What a server before us has put at the first of ``paths`` stays as it is, however little
    later that one died: somebody may have read it.
    """
    told = _told_before(paths[0], stream_id)
    if told is not None and header.ended:
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
    )
    record = told or exit_record(container, stream_id, ending, execution=execution)
    for path in paths:
        ours = path == paths[0]
        _write(path, to_json(record), mode=0o600 if ours else 0o644)
    header.ended = 1
    return record


def _told_before(path: str, stream_id: str) -> dict[str, object] | None:
    """Return the record that is there already, unless it is another program's."""
    with contextlib.suppress(OSError, ValueError):
        found = files.read_json(path)
        return found if found.get("stream_id") == stream_id else None
    return None


def _write(path: str, data: bytes, *, mode: int) -> None:
    try:
        files.write_whole(path, data, mode=mode, sync=True)
    except OSError as error:
        _log.error("cannot write %s: %s", path, error)


async def clean_up(header: Header, container: Container, settings: Settings) -> None:
    """Delete from the runtime and run the exit command, where they were asked for.

    The command is begun once: a server that dies while it runs does not run it again.
    """
    if settings.rm:
        with contextlib.suppress(RuntimeFailed):
            await container.call_runtime("delete", "--force", settings.id)
            container.write_phase(deleted=True)
    if settings.exit_command and not header.cleaned:
        header.cleaned = 1
        try:
            environment = clean_environment(os.environ)
            await trio.run_process(settings.exit_command, check=False, env=environment)
        except OSError as error:
            _log.error("cannot run the exit command %s: %s", settings.exit_command[0], error)
