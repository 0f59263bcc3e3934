"""The heir: a keeper that takes the place of one that was killed.

A server starts it: ``python -m attachd.keeper.heir post=FD server=FD name=descriptor …``, with
everything that the keeper held. What was the dead keeper's child is a stranger to it, whose end
it learns from a pidfd; what it starts itself is its child, as usual.
"""

import os
import select
import signal
import sys
import time

from attachd.keeper import descriptors, files, keep, pidfds
from attachd.keeper.execs import Execs, parcel
from attachd.keeper.processes import Runtime, clean_environment
from attachd.state.exitrecord import CLD_EXITED, CLD_UNKNOWN
from attachd.state.header import Header

#: What a server's end counts as when the kernel cannot tell: a death, so that another one looks.
_A_DEATH = 1


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
            if _has_ended(pidfd):
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


def main() -> None:
    """Keep what is handed over; return when the server has finished."""
    named = {name: int(fd) for name, _, fd in (word.partition("=") for word in sys.argv[1:])}
    for fd in named.values():
        os.set_inheritable(fd, False)
    post, strangers = named.pop("post"), Strangers(named.pop("server"))
    own = {name: named.pop(name) for name in descriptors.Table._fields if name in named}
    table = descriptors.Table(**own, kept=named, keeper=os.pidfd_open(os.getpid()))
    header = descriptors.map_header(table.header)
    descriptors.Libc().become_subreaper()
    strangers.add(header, table.init)
    bell = keep.hear_signals(header, lambda number: _send(table.init, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # what came meanwhile is passed on now
    environment = clean_environment(os.environ)
    config = _read_config(table.directory)
    server = keep.Server(table, post, environment)
    execs = Execs(
        table.directory, _runtime(config), str(config["id"]), environment, server.kept
    )
    for kept in list(server.kept):
        if kept.endswith("/header"):
            exec_header = descriptors.map_header(server.kept[kept])
            if exec_header.runtime_pid:
                name = kept.split("/")[1]
                strangers.add(execs.adopt(name), server.kept.get(parcel(name, "pidfd"), -1))
    adjustment = config["oom_score_adj"]
    keep.lower_oom_score(adjustment if isinstance(adjustment, int) else None)
    keep.watch(table, header, server, execs, bell, strangers)


def _read_config(directory: int) -> dict[str, object]:
    config = files.read_json(f"/proc/self/fd/{directory}/{files.STATE}")["config"]
    if not isinstance(config, dict):
        raise TypeError("state.json has no config")
    return config


def _runtime(config: dict[str, object]) -> Runtime:
    arguments = config["runtime_args"]
    words = tuple(map(str, arguments)) if isinstance(arguments, list) else ()
    return Runtime(str(config["runtime"]), str(config["runtime_root"]), words)


def _has_ended(pidfd: int) -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def _status(ending: tuple[int, int] | None) -> int:
    """Return a server's exit status; one that was killed, or nobody knows how, is a death."""
    code, status = ending or (CLD_UNKNOWN, 0)
    return status if code == CLD_EXITED else _A_DEATH


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
