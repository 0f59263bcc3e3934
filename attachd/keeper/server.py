"""The server process, as the keeper sees it: started, stopped, and started again when it dies."""

import os
import signal
import stat
import sys
import time

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
#: being mapped, faulted in and unmapped for each batch; it doubles the log's speed.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}

#: shim.log is begun anew when it is larger: a server that cannot start writes a traceback each
#: time, and may do so for days.
SHIM_LOG_BYTES = 256 * 1024


class Server:
    """Started with every descriptor by name, and again when it dies."""

    def __init__(
        self, table: descriptors.Table, post: int, environment: dict[str, str]
    ) -> None:
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
        module = "attachd.doors" if any(n.startswith(DOOR) for n in names) else "attachd.live"
        argv = [sys.executable, "-s", "-P", "-m", module]
        argv += [f"{name}={fd}" for name, fd in names.items()]
        environment = self.environment | {"PYTHONPATH": package_parent()} | MALLOC
        self._born = time.monotonic()
        try:
            self.pid = spawn(argv, environment, (0, 1, 2), tuple(names.values()))
        except OSError as error:
            return error
        return None

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
