"""The server process, as the keeper sees it: started, stopped, and started again when it dies."""

import array
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from attachd.keeper import descriptors, files, parcels
from attachd.keeper.caller import DOOR
from attachd.keeper.processes import package_parent, spawn
from attachd.state.times import rfc3339

#: A server that dies is started again at once; one that keeps dying waits longer each time.
#: The container meanwhile blocks on a full pipe, which is better than dying of SIGPIPE.
FIRST_DELAY = 0.05
LAST_DELAY = 5.0

#: A server that lived this long was healthy: the next delay is the first one again.
HEALTHY_AFTER = 10.0

#: How a server ends that was asked to, between two steps of every task; any other end but 0 is
#: a death as well. EX_TEMPFAIL of sysexits(3): try again.
STOPPED = 75

#: glibc (mallopt(3)): blocks of the size of a log batch are kept and used again, instead of
#: being mapped, faulted in and unmapped for each batch; it doubles the log's speed. One arena for
#: all threads: else each of those that read history keeps for itself what one of them has needed
#: at most, and after some thousand reads a server has 44 MB instead of 31.
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}

#: shim.log is begun anew when it is larger: a server that cannot start writes a traceback each
#: time, and may do so for days.
SHIM_LOG_BYTES = 256 * 1024


#: A table has some twenty names; SCM_MAX_FD of the kernel is 253 (unix(7)).
_MAX_NAMES = 4096
_MAX_DESCRIPTORS = 253


class Warm(NamedTuple):
    """An interpreter that has loaded the server's code, or is at it, and waits to be one."""

    pid: int
    fd: int  #: where it waits for its descriptors; closed, it ends


def warm_up(environment: dict[str, str], module: str) -> Warm | None:
    """Have the first server's code loaded while the runtime is at work; None when that fails."""
    try:
        ours, theirs = parcels.make()
    except OSError:
        return None
    try:
        argv = [*_program(module), f"warm={theirs}"]
        return Warm(spawn(argv, _surroundings(environment), (0, 1, 2), (theirs,)), ours)
    except OSError:
        os.close(ours)
        return None
    finally:
        os.close(theirs)


def receive_words(fd: int) -> list[str]:
    """Wait for what `Server.start` sends; return it as ``name=descriptor``, nothing at its end."""
    peer = socket.socket(fileno=fd)
    with peer:
        names, fds = descriptors.receive_fds(peer, _MAX_NAMES, _MAX_DESCRIPTORS)
    return [f"{name}={fd}" for name, fd in zip(names.decode().split(), fds, strict=True)]


def module_of(names: Iterable[str]) -> str:
    """Return the program that serves a container with descriptors of these names."""
    return "attachd.doors" if any(name.startswith(DOOR) for name in names) else "attachd.live"


def _program(module: str) -> list[str]:
    return [sys.executable, "-s", "-P", "-m", module]


def _surroundings(environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PYTHONPATH": package_parent()} | MALLOC


class Server:
    """Started with every descriptor by name, and again when it dies."""

    def __init__(
        self,
        table: descriptors.Table,
        post: int,
        environment: dict[str, str],
        warm: Warm | None = None,
    ) -> None:
        self._warm = warm
        self.environment = environment
        self.kept = dict(table.kept)
        self.post = post
        self.pid = 0
        self.failures = 0  #: deaths in a row for which the server itself is to blame
        self._table = table
        self._delay = FIRST_DELAY
        self._born = -float("inf")

    @property
    def table(self) -> descriptors.Table:
        """What the next server gets."""
        return self._table._replace(kept=self.kept)

    def start(self) -> OSError | None:
        """Start it; the table goes along as ``name=descriptor`` arguments.

        Returns what went wrong when there is no process to be had (fork(2), EAGAIN, ENOMEM).
        """
        _bound_shim_log()
        names = self.table.items()
        self._born = time.monotonic()
        if self._wake(names):
            return None
        argv = _program(module_of(names))
        argv += [f"{name}={fd}" for name, fd in names.items()]
        environment = _surroundings(self.environment)
        try:
            self.pid = spawn(argv, environment, (0, 1, 2), tuple(names.values()))
        except OSError as error:
            return error
        return None

    def _wake(self, names: dict[str, int]) -> bool:
        """Make a server of the interpreter that waits, if there is one; it is no loss if not."""
        warm, self._warm = self._warm, None
        if warm is None:
            return False
        rights = array.array("i", names.values())
        try:
            with socket.socket(fileno=warm.fd) as peer:
                control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
                peer.sendmsg([" ".join(names).encode()], control)
        except OSError:
            return False
        self.pid = warm.pid
        return True

    def delay_after_death(self, status: int, *, came_up: bool) -> float:
        """Return how long to wait before the next start; ``status`` is a wait status.

        One that worked and was killed from outside is not to blame.
        """
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        stopped = os.WIFEXITED(status) and os.WEXITSTATUS(status) == STOPPED
        blameless = came_up and (killed or stopped)
        if blameless or time.monotonic() - self._born > HEALTHY_AFTER:
            self._delay, self.failures = FIRST_DELAY, 0
        return self.delay_after_failure() if not blameless else FIRST_DELAY

    def delay_after_failure(self) -> float:
        """Return how long to wait after it could not be started, or did not go on by itself."""
        self.failures += 1
        delay, self._delay = self._delay, min(self._delay * 2, LAST_DELAY)
        return delay

    def take_parcels(self) -> list[parcels.Parcel]:
        """Take over what a server has made for its successors; return what it has said."""
        return parcels.take_all(self.post, self.kept)

    def forget_stdin(self) -> None:
        """Have the next server begin without the container's stdin."""
        self._table = self._table._replace(stdin=-1)


def write_trouble(directory: str, failures: int, why: str, delay: float) -> None:
    """Leave word for ``attachctl inspect`` that the server does not stay; a full disk has none."""
    told = {
        "schema": 1,
        "failures": failures,
        "why": why,
        "time": rfc3339(time.time_ns()),
        "next_try_seconds": delay,
    }
    try:
        files.write_json(os.path.join(directory, files.TROUBLE), told)
    except OSError:
        pass


def how_it_ended(status: int) -> str:
    """Return a wait status in words."""
    if os.WIFSIGNALED(status):
        return f"the server was killed by signal {os.WTERMSIG(status)}"
    return f"the server ended with code {os.WEXITSTATUS(status)}"


def _bound_shim_log() -> None:
    """Begin shim.log, which is our stderr, anew when it is too large."""
    try:
        found = os.fstat(2)
        if stat.S_ISREG(found.st_mode) and found.st_size > SHIM_LOG_BYTES:
            os.ftruncate(2, 0)
    except OSError:
        pass
