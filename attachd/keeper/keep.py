"""The keeper: it brings the container up, then waits, reaps, and starts the server again.

It holds every descriptor for the container's whole life and never touches its output. What it
learns it writes into the header (`state.header`) and rings ``news``; what it is told it reads
there when ``orders`` rings. A server that ends with status 0 has finished its work; any other
end is a death, and a new server takes over where the kernel's positions say.
"""

import os
import select
import signal
import time
from typing import NamedTuple, Protocol

from attachd.errors import AttachdError
from attachd.keeper import creation, descriptors, parcels, renewal, report
from attachd.keeper.caller import Caller, Early
from attachd.keeper.ears import PASSED_ON, Ears
from attachd.keeper.execs import Execs
from attachd.keeper.processes import Runtime, clean_environment, forget_environment
from attachd.keeper.server import Server, how_it_ended, module_of, warm_up, write_trouble
from attachd.state.header import Header

#: How often it is looked at what tells nothing by itself: a stranger that has ended and is not
#: reaped, a server that was asked to stop.
LOOK_MILLISECONDS = 20.0

#: How often it is looked whether there are descriptors again, for parcels that wait.
NO_ROOM_MILLISECONDS = 500.0

#: A server that was asked to stop, and runtimes at work, have so long before an upgrade.
STOP_SECONDS = 5.0
QUIET_SECONDS = 10.0


def keep(shim: creation.Shim, caller: Caller) -> None:
    """Live as the keeper of one container; return when its server has finished.

    A failed creation is undone and reported. Never raises for what a container, a client or
    the server does.
    """
    environment = clean_environment(os.environ)
    forget_environment()
    config, header = shim.config, descriptors.map_header(shim.table.header)
    descriptors.Libc().become_subreaper()
    ears = Ears(header, passed_on=PASSED_ON if config.door else PASSED_ON[:1])
    kept = shim.table.kept
    warm = warm_up(environment, module_of(kept)) if caller.looks_on else None
    try:
        shim = creation.bring_up(shim, header, environment, caller)
    except (AttachdError, OSError) as error:
        creation.undo(shim, environment, error)
        descriptors.unlock_logs(shim.table.kept)  # whoever is told may try again at once
        caller.failed(report.as_attachd_error(error), environment)
        return
    caller.created(header.pid)
    for pid in (os.getpid(), *([warm.pid] if warm is not None else [])):
        lower_oom_score(config.oom_score_adj, pid)
    descriptors.lift_descriptor_limit()
    # Until the server is there, the pipe and the socket's backlog hold what comes.
    table = shim.table._replace(
        keeper=os.pidfd_open(os.getpid()), init=os.pidfd_open(header.pid)
    )
    server = Server(table, shim.post, environment, warm)
    runtime = Runtime(config.runtime, config.runtime_root, config.runtime_args)
    execs = Execs(table.directory, runtime, config.container, environment, server.kept)
    keeper = Keeper(table, header, server, execs, ears)
    keeper.early, keeper.held = caller.watch(table.terminal), list(caller.held)
    keeper.run()


def lower_oom_score(adjustment: int | None, pid: int) -> None:
    """Adjust a process's score, ours or a server's.

    To be done when the container is there, so that it does not inherit it. Going below the
    current value needs CAP_SYS_RESOURCE (proc(5)); a refusal is normal.
    """
    if adjustment is None:
        return
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(adjustment))
    except OSError:
        pass


class Strangers(Protocol):
    """Processes that concern us and are not our children: those of a keeper before us."""

    def fds(self) -> list[int]:
        """Return what becomes readable when one has ended."""

    @property
    def expected(self) -> bool:
        """True while it is to be looked again soon."""

    def look(self, news: int) -> int | None:
        """Note each that has ended; return the wait status of a server that has."""

    def signal_server(self, number: int) -> bool:
        """Send a signal to the server among them; return False when there is none."""


class _Renewal(NamedTuple):
    """An upgrade that goes on: its order, when the server is killed, when runtimes are."""

    order: renewal.Order
    kill_at: float
    quiet_at: float


class Keeper:
    """Waits for deaths and orders, and does what they ask for."""

    def __init__(
        self,
        table: descriptors.Table,
        header: Header,
        server: Server,
        execs: Execs,
        ears: Ears,
        strangers: Strangers | None = None,
    ) -> None:
        self._directory = f"/proc/self/fd/{table.directory}"  # it may get another name
        self._table = table
        self._header = header
        self._server = server
        self._execs = execs
        self._ears = ears
        self._strangers = strangers
        self._stdin = table.stdin
        self._start_at: float | None = None
        self._renewal: _Renewal | None = None
        self._room = parcels.Room()
        self.early: Early | None = None  #: what a server may be too late for
        self.held: list[int] = []  #: to be closed when the container has ended

    def run(self, *, start: bool = True) -> None:
        """Return when a server has finished. Starts one, unless there is one."""
        self._start_at = time.monotonic() if start else None
        while True:
            self._wait()
            self._heed()
            self._close_stdin()
            status = self._reap()
            if status == 0:
                return
            if status is not None:
                self._mourn(status)
            if self._ears.renew:
                self._ears.renew = False
                self._begin_renewal()
            if self._renewal is not None:
                self._go_on_with(self._renewal)
            elif self._start_at is not None and time.monotonic() >= self._start_at:
                self._start_server()

    def _wait(self) -> None:
        """Return when there is something to be done, or may be."""
        now, waits = time.monotonic(), list[float]()
        if self._start_at is not None and self._renewal is None:
            waits.append(max(0.0, self._start_at - now) * 1000)
        if self._renewal is not None or (self._strangers and self._strangers.expected):
            waits.append(LOOK_MILLISECONDS)
        listening = [self._server.post] if self._room.look() else []
        if not listening:
            waits.append(NO_ROOM_MILLISECONDS)
        poller = select.poll()
        theirs = self._strangers.fds() if self._strangers is not None else []
        if self.early is not None:
            self.early.look()
            theirs += self.early.fds
            waits += [LOOK_MILLISECONDS] if self.early.expected else []
        for fd in (self._ears.fd, self._table.orders, *listening, *theirs):
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(min(waits, default=None)):
            if fd in (self._ears.fd, self._table.orders):
                os.read(fd, 4096)

    def _heed(self) -> None:
        """Do what the server has asked for."""
        server, said = self._server, self._server.take_parcels()
        for verb, name, _ in said:
            if verb == "begin":
                self._execs.begin(name)
            elif verb == "drop":
                self._execs.forget(name)
            elif verb == "want" and name in server.kept:
                parcels.Post(server.post).send("have", name, server.kept[name], wait=False)
        if said:
            os.eventfd_write(self._table.news, 1)

    def _close_stdin(self) -> None:
        if self._header.stdin_closed and self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1
            self._server.forget_stdin()

    # The server

    def _start_server(self) -> None:
        self._start_at = None
        self._heed()  # what the one before has said last
        error = self._server.start()
        if error is not None:
            delay = self._server.delay_after_failure()
            self._start_at = time.monotonic() + delay
            self._tell_trouble(f"cannot start the server: {error.strerror}", delay)

    def _mourn(self, status: int) -> None:
        """The server has died; another one comes."""
        server, header = self._server, self._header
        came_up = header.up == server.pid
        delay = server.delay_after_death(status, came_up=came_up)
        server.pid = 0
        self._start_at = time.monotonic() + delay
        if self._renewal is None:
            header.restarts += 1
        if server.failures:
            self._tell_trouble(how_it_ended(status), delay)

    def _tell_trouble(self, why: str, delay: float) -> None:
        write_trouble(self._directory, self._server.failures, why, delay)

    def _reap(self) -> int | None:
        """Reap every dead child, look at strangers; return the server's wait status when it died.

        The end of the container or of an exec is in its header before its zombie is gone, so
        that no death of ours in between can lose it.
        """
        found: int | None = None
        while (dead := _next_dead()) is not None:
            if self._is_news(dead):
                os.eventfd_write(self._table.news, 1)
            _, status = os.waitpid(dead.si_pid, 0)
            if dead.si_pid == self._server.pid:
                found = status
        if found is None and self._strangers is not None:
            found = self._strangers.look(self._table.news)
        return found

    def _is_news(self, dead: os.waitid_result) -> bool:
        """Note the end of the container or of an exec; return False when it is none of these."""
        header = self._header
        if dead.si_pid != header.pid or header.exit_code:
            return self._execs.saw(dead)
        while self.held:
            os.close(self.held.pop())  # before anybody hears of the end, and needs them
        header.exit_time = time.time_ns()
        header.exit_status = dead.si_status
        header.exit_code = dead.si_code
        return True

    # An upgrade

    def _begin_renewal(self) -> None:
        """Ask the new code; stop the server when it can take over, and say why when it cannot."""
        token = ""
        try:
            order = renewal.read_order(self._directory)
            token = order.token
            renewal.check(order, self._server.table, self._server.environment)
        except AttachdError as error:
            renewal.answer(self._directory, token, str(error))
            return
        now = time.monotonic()
        self._renewal = _Renewal(order, now + STOP_SECONDS, now + STOP_SECONDS + QUIET_SECONDS)
        self._signal_server(signal.SIGTERM)

    def _go_on_with(self, wanted: _Renewal) -> None:
        """When the server is gone and no runtime is at work, become the new code's keeper."""
        now = time.monotonic()
        if self._signal_server(0):
            if now >= wanted.kill_at:
                self._signal_server(signal.SIGKILL)
            return
        self._heed()  # what it has said last
        if self._execs.busy and now < wanted.quiet_at:
            return
        server, header = self._server, self._header
        header.upgrades += 1
        renewal.answer(self._directory, wanted.order.token)
        try:
            renewal.become(
                wanted.order, server.table, server.post, self.held, server.environment
            )
        except OSError as error:
            header.upgrades -= 1
            why = f"cannot run {wanted.order.python}: {error.strerror}"
            renewal.answer(self._directory, wanted.order.token, why)
        self._renewal, self._start_at = None, time.monotonic()

    def _signal_server(self, number: int) -> bool:
        """Send a signal, or 0, to the server; return False when there is none."""
        if self._server.pid:
            os.kill(self._server.pid, number)  # our child, and not reaped
            return True
        return self._strangers is not None and self._strangers.signal_server(number)


def _next_dead() -> os.waitid_result | None:
    """Return a dead child, still unreaped."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
