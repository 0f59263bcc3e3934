"""The processes of a shim, as /proc tells of them."""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

_SERVER = b"attachd.live"


@contextlib.contextmanager
def pidfd_of(pid: object, begun: object) -> Iterator[int | None]:
    """Give a pidfd of the process ``pid`` that began at ``begun``; None when that one is gone."""
    fd = -1
    try:
        with contextlib.suppress(OSError, ValueError):
            fd = os.pidfd_open(int(str(pid)))
        there = fd >= 0 and not has_ended(fd) and start_time(int(str(pid))) == begun
        yield fd if there else None
    finally:
        if fd >= 0:
            os.close(fd)


def has_ended(pidfd: int) -> bool:
    """True for a process that has ended, be it reaped or not."""
    return bool(select.select([pidfd], [], [], 0)[0])


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat (proc(5)), which tells a reused pid; 0 if it is gone."""
    try:
        return int(_stat(pid)[19])
    except OSError:
        return 0


def kill_shim(keeper: object, begun: object) -> None:
    """Kill a keeper and its server, neither of which may start the other again.

    The keeper is stopped first; an heir's server may be its parent. Whoever is gone is no error.
    """
    with pidfd_of(keeper, begun) as fd:
        if fd is None:
            return
        signal.pidfd_send_signal(fd, signal.SIGSTOP)
        pid = int(str(keeper))
        with contextlib.suppress(OSError):
            for server in (*_children(pid), int(_stat(pid)[1])):
                if _SERVER in Path(f"/proc/{server}/cmdline").read_bytes().split(b"\0"):
                    os.kill(server, signal.SIGKILL)
        signal.pidfd_send_signal(fd, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(w) for w in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the third on. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
