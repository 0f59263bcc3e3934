"""The keeper as its server sees it: whether it lives, and an heir when it does not."""

import os
import signal
import sys
from collections.abc import Callable

import trio

from attachd.keeper import parcels, pidfds
from attachd.keeper.descriptors import Table
from attachd.keeper.processes import spawn
from attachd.state.header import Header

#: When there is no process or no descriptor to be had (EAGAIN, ENOMEM, EMFILE), it is tried again.
RETRY_SECONDS = 1.0


class Guardian:
    """Holds what a keeper needs, and starts one as often as it takes."""

    def __init__(
        self,
        table: Table,
        header: Header,
        post: parcels.Post,
        when_changed: Callable[[int], None],
    ) -> None:
        self._table = table
        self._header = header
        self._post = post
        self._pidfd = table.keeper
        self._when_changed = when_changed  #: called with the new keeper's pid
        self.pid = _pid_of(self._pidfd)

    @property
    def alive(self) -> bool:
        """False from its death until there is an heir."""
        return not pidfds.has_ended(self._pidfd)

    async def run(self) -> None:
        """Start an heir whenever the keeper has been killed. Ends when cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._pidfd)
            ours = self.pid
            while not self._start_heir():  # noqa: ASYNC110  # there is no event for "now it works"
                await trio.sleep(RETRY_SECONDS)
            _reap(ours)
            self._when_changed(self.pid)

    def _start_heir(self) -> bool:
        """Hand all that we have to a new keeper.

        Returns False when there are no descriptors for it now, or no process.
        """
        try:
            server, keeper = parcels.make()
        except OSError:
            return False
        try:
            pid = self._spawn_heir(server, keeper)
        except OSError:
            os.close(server)
            return False
        finally:
            os.close(keeper)
        os.close(self._pidfd)
        self._pidfd, self.pid = os.pidfd_open(pid), pid
        self._post.redirect(server)
        return True

    def _spawn_heir(self, server: int, keeper: int) -> int:
        """Start it with both ends of the parcels' way; return its pid. Raises OSError."""
        own = os.pidfd_open(os.getpid())
        stdin = -1 if self._header.stdin_closed else self._table.stdin
        table = self._table._replace(
            parcels=server, keeper=-1, stdin=stdin, kept=self._post.kept
        )
        named = {"post": keeper, "server": own, **table.items()}
        argv = [sys.executable, "-s", "-P", "-m", "attachd.keeper.heir"]
        argv += [f"{name}={fd}" for name, fd in named.items()]
        try:
            inherit = tuple(named.values())
            return spawn(argv, dict(os.environ), (0, 1, 2), inherit, (signal.SIGTERM,))
        finally:
            os.close(own)


def _pid_of(pidfd: int) -> int:
    """Return whose pidfd it is (proc(5), fdinfo); -1 when that has ended."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["Pid"])


def _reap(pid: int) -> None:
    """An heir was our child; the keeper that has started us was not."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OverflowError):
        pass
