"""What a shim that is gone has left: its state file, its container's process, its execs."""

import contextlib
import os
import time
from typing import NamedTuple

from attachd.errors import UsageError
from attachd.keeper import files
from attachd.keeper.config import LogSpec
from attachd.keeper.pidfds import has_ended
from attachd.keeper.processes import boot_id, start_time
from attachd.state.eofpolicy import NEVER
from attachd.state.exitrecord import CLD_UNSEEN, Ending, exit_record, to_json
from attachd.state.rights import Policy


class Left(NamedTuple):
    """The part of state.json that matters here, and the whole."""

    state: dict[str, object]
    config: dict[str, object]
    logs: list[LogSpec]
    rights: Policy
    pipes: dict[str, int]
    pid: int
    pid_start: int
    started: int
    started_clock: int
    stream_id: str
    terminal: bool  #: the container had one, and nobody can have it again
    lasting_stdin: bool
    ring_size: int
    times: int  #: how often it was recovered before
    same_boot: bool  #: pids and inodes are still those of the same things


def read(directory: str) -> Left:
    """Return what state.json tells; raises UsageError when no container was ever made here."""
    try:
        state = files.read_json(os.path.join(directory, files.STATE))
        config, logs, pipes = state["config"], state["logs"], state["pipes"]
        assert isinstance(config, dict)
        assert isinstance(logs, list)
        assert isinstance(pipes, dict)
        if state["phase"] == "creating" or not state["pid"]:
            raise UsageError("its shim was gone before the container was made: remove it")
        return Left(
            state=state,
            config=config,
            logs=[LogSpec(*(entry[name] for name in LogSpec._fields)) for entry in logs],
            rights=Policy(*(tuple(config["rights"][name]) for name in Policy._fields)),
            pipes={name: int(inode) for name, inode in pipes.items()},
            pid=int(str(state["pid"])),
            pid_start=int(str(state["pid_start"])),
            started=int(str(state["started"])),
            started_clock=int(str(state["started_clock"])),
            stream_id=str(state["stream_id"]),
            terminal=bool(config["terminal"]),
            lasting_stdin=config["stdin_eof"] == NEVER,
            ring_size=int(str(config["ring_size"])),
            times=int(str(state["recovered"])),
            same_boot=state.get("boot_id", boot_id()) == boot_id(),
        )
    except FileNotFoundError:
        raise UsageError(
            "its shim was gone before the container was made: remove it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UsageError(f"its state.json is of another attachd: {error!r}") from None


def find_init(left: Left) -> int:
    """Return a pidfd of the container's init; -1 when it has ended."""
    if not left.same_boot:
        return -1
    try:
        pidfd = os.pidfd_open(left.pid)
    except OSError:
        return -1
    if start_time(left.pid) == left.pid_start and not has_ended(pidfd):
        return pidfd
    os.close(pidfd)
    return -1


def close_execs(directory: str, left: Left) -> list[str]:
    """Write for each exec that was running that nobody knows how it ended; return their names.

    Their pipes have gone with the shim: what they say next kills them, or has no reader.
    """
    path, closed = os.path.join(directory, files.EXECS), list[str]()
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(path)):
            record = os.path.join(path, name, files.EXIT)
            if not os.path.exists(record):
                files.write_whole(record, _unknown(name, left), mode=0o600, sync=True)
                closed.append(name)
    return closed


def _unknown(name: str, left: Left) -> bytes:
    ending = Ending(
        code=CLD_UNSEEN,
        status=0,
        finished=time.time_ns(),
        started=0,
        oom_kills=0,
        timed_out=False,
        drained=False,
        streams={"stdout": 0, "stderr": 0},
        log_offset=0,
        log_dropped=0,
        restarts=0,
        recovered=1,
    )
    return to_json(exit_record(str(left.state["id"]), left.stream_id, ending, execution=name))
