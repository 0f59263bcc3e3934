"""The heir: a keeper that takes the place of another one, with everything that one held.

``python -m attachd.keeper.heir post=FD [server=FD] name=descriptor …``, and there are two ways.
A server starts it when the keeper was killed; what was the dead keeper's child is then a stranger
to it, whose end it learns from a pidfd. And a keeper becomes it in an upgrade (`renewal`), without
a server; then all children stay children.

``python -m attachd.keeper.heir check name=descriptor …`` ends with 0 when it could do that, and
with its reason on stderr when it could not: nothing is touched.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from attachd.errors import AttachdError
from attachd.keeper import descriptors, files, keep, pidfds
from attachd.keeper.ears import PASSED_ON, Ears
from attachd.keeper.execs import Execs, parcel
from attachd.keeper.processes import Runtime, clean_environment
from attachd.keeper.renewal import HELD
from attachd.keeper.server import Server
from attachd.state.exitrecord import CLD_EXITED, CLD_UNKNOWN
from attachd.state.header import Header


class Strangers:
    """Pidfds of the container, of its execs, and of the server that has started us."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._programs: dict[int, Header] = {}
        self._ended: dict[int, float] = {}  #: when each was seen to have ended

    def add(self, header: Header, pidfd: int) -> None:
        """Watch the program that a header is about, unless its end is known.

        One that has ended before anybody had a pidfd of it has ended nobody knows how.
        """
        if header.exit_code or not header.pid:
            return
        try:
            fd = os.pidfd_open(header.pid) if pidfd < 0 else os.dup(pidfd)
        except OSError:
            _note(header, None)
            return
        os.set_inheritable(fd, False)
        self._programs[fd] = header

    @property
    def have_server(self) -> bool:
        """True until the server among them has ended, if there is one."""
        return self._server >= 0

    def signal_server(self, number: int) -> bool:
        """Send a signal to the server among them; return False when there is none."""
        if self._server < 0:
            return False
        _send(self._server, number)
        return True

    def fds(self) -> list[int]:
        """Return what becomes readable when one has ended, of those that have not."""
        return [
            fd for fd in (*self._programs, self._server) if fd >= 0 and fd not in self._ended
        ]

    @property
    def expected(self) -> bool:
        """True while one has ended and the kernel does not tell yet how."""
        return bool(self._ended)

    def look(self, news: int) -> int | None:
        """Note each that has ended; return the wait status of the server when it has."""
        for pidfd in self.fds():
            if pidfds.has_ended(pidfd):
                self._ended[pidfd] = time.monotonic()
        status = None
        for pidfd in list(self._ended):
            ending = pidfds.exit_of(pidfd)
            late = time.monotonic() > self._ended[pidfd] + pidfds.REAP_SECONDS
            if ending is None and not late:
                continue
            if pidfd == self._server:
                status = _status(ending)
                self._server = -1
            else:
                _note(self._programs.pop(pidfd), ending)
                os.eventfd_write(news, 1)
            del self._ended[pidfd]
            os.close(pidfd)
        return status


class Estate(NamedTuple):
    """What is handed over, and what the container's maker wished of a keeper."""

    table: descriptors.Table
    header: Header
    id: str
    runtime: Runtime
    oom_score_adj: int | None
    through_door: bool = False

    @classmethod
    def of(cls, named: dict[str, int]) -> "Estate":
        """Take descriptors by name; raises AttachdError when this code cannot keep them."""
        for fd in named.values():
            os.set_inheritable(fd, False)
        return cls.in_hand(descriptors.Table.of(named))

    @classmethod
    def in_hand(cls, table: descriptors.Table) -> "Estate":
        """Look at what is ours already; raises AttachdError when this code cannot keep it."""
        header = descriptors.map_header(table.header)
        if not header.known:
            raise AttachdError(header.why_unknown)
        try:
            config = files.read_json(f"/proc/self/fd/{table.directory}/{files.STATE}")[
                "config"
            ]
            assert isinstance(config, dict)
            score, door = config["oom_score_adj"], config["door"]
            wished = None if score is None else int(str(score))
            assert isinstance(door, dict)
            container = str(door["exec_of"] or config["id"])
            return cls(table, header, container, _runtime(config), wished, bool(door["kind"]))
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise AttachdError(f"state.json is of another attachd: {error!r}") from None


def main() -> None:
    """Keep what is handed over; return when the server has finished."""
    words = sys.argv[1:]
    if words[:1] == ["check"]:
        _check(words[1:])
        return
    named = descriptors.parse_named(words)
    post, server = named.pop("post"), named.pop("server", -1)
    held = [named.pop(name) for name in list(named) if name.startswith(HELD)]
    for fd in (post, *held):
        os.set_inheritable(fd, False)
    keep_on(Estate.of(named).table, post, clean_environment(os.environ), server, held)


def keep_on(
    table: descriptors.Table,
    post: int,
    environment: dict[str, str],
    server: int = -1,
    held: Sequence[int] = (),
) -> None:
    """Be the keeper of what there is; return when the server has finished.

    ``server`` is a pidfd of the one that is at work; without it one is started. ``held`` is
    closed when the container has ended.
    """
    estate = Estate.in_hand(table)
    header = estate.header
    if table.keeper >= 0:
        os.close(table.keeper)  # of the one before us
    table = table._replace(keeper=os.pidfd_open(os.getpid()))
    descriptors.Libc().become_subreaper()
    strangers = Strangers(server)
    strangers.add(header, table.init)
    passed_on = PASSED_ON if estate.through_door else PASSED_ON[:1]
    ears = Ears(header, lambda number: _send(table.init, number), passed_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what came meanwhile is passed on now
    servers = Server(table, post, environment)
    execs = Execs(table.directory, estate.runtime, estate.id, environment, servers.kept)
    for kept in list(servers.kept):
        if kept.endswith("/header"):
            exec_header = descriptors.map_header(servers.kept[kept])
            if exec_header.runtime_pid:
                name = kept.split("/")[1]
                strangers.add(execs.adopt(name), servers.kept.get(parcel(name, "pidfd"), -1))
    os.eventfd_write(table.news, 1)  # the server may wait for what was noted of them
    keep.lower_oom_score(estate.oom_score_adj, os.getpid())
    keeper = keep.Keeper(table, header, servers, execs, ears, strangers)
    keeper.held = list(held)
    keeper.run(start=not strangers.have_server)


def _check(words: list[str]) -> None:
    """End with 0, or with a reason, whether this code could keep what is named."""
    try:
        Estate.of(descriptors.parse_named(words))
    except (AttachdError, OSError, ValueError, TypeError) as error:
        raise SystemExit(str(error) or repr(error)) from None


def _runtime(config: dict[str, object]) -> Runtime:
    arguments = config["runtime_args"]
    assert isinstance(arguments, list)
    words = tuple(map(str, arguments))
    return Runtime(str(config["runtime"]), str(config["runtime_root"]), words)


def _status(ending: tuple[int, int] | None) -> int:
    """Return a server's wait status; when nobody knows it, that of one that was killed."""
    code, status = ending or (CLD_UNKNOWN, signal.SIGKILL)
    return status << 8 if code == CLD_EXITED else status


def _note(header: Header, ending: tuple[int, int] | None) -> None:
    """Write an end into its header, unless the server has."""
    if header.exit_code:
        return
    code, status = ending or (CLD_UNKNOWN, 0)
    header.exit_time = time.time_ns()
    header.exit_status = status
    header.exit_code = code


def _send(pidfd: int, number: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (OSError, ValueError):
        pass  # it has ended


if __name__ == "__main__":
    main()
