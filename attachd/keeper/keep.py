"""The keeper: it brings the container up, then waits, reaps, and starts the server again.

It holds every descriptor for the container's whole life and never touches its output. What it
learns it writes into the header (`state.header`) and rings ``news``; what it is told it reads
there when ``orders`` rings. A server that ends with status 0 has finished its work; any other
end is a death, and a new server takes over where the kernel's positions say.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from attachd.errors import AttachdError, RuntimeFailed
from attachd.keeper import console, descriptors, files, leftovers, parcels, report
from attachd.keeper.config import Config
from attachd.keeper.execs import Execs
from attachd.keeper.processes import (
    Runtime,
    clean_environment,
    forget_environment,
    spawn,
    start_time,
)
from attachd.keeper.runtime import Words, call, failure
from attachd.state.header import Header
from attachd.state.sizes import DEFAULT_SIZE

#: A server that dies is started again at once; one that keeps dying waits longer each time.
#: The container meanwhile blocks on a full pipe, which is better than dying of SIGPIPE.
FIRST_DELAY = 0.05
LAST_DELAY = 5.0

#: glibc (mallopt(3)): blocks of the size of a log batch are kept and used again, instead of
#: being mapped, faulted in and unmapped for each batch; it doubles the log's speed.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(32 << 20)}

#: A server that lived this long was healthy: the next delay is the first one again.
HEALTHY_AFTER = 10.0

#: How often an heir looks whether a stranger that has ended was reaped.
LOOK_MILLISECONDS = 20.0

#: How often it is looked whether there are descriptors again, for parcels that wait.
NO_ROOM_MILLISECONDS = 500.0

#: runc delete and start are quick or stuck.
CALL_LIMIT = 60.0


class Shim(NamedTuple):
    """All there is at the moment of the fork."""

    config: Config
    table: descriptors.Table
    post: int  #: our own end of `parcels`
    ends: tuple[int, ...]  #: the container's descriptors 0 to 2; none with a terminal
    stream_id: str
    made: tuple[str, ...]  #: log files and directories that we created

    @property
    def held(self) -> tuple[int, ...]:
        """Every descriptor that is ours."""
        return (self.post, *self.ends, *self.table.items().values())

    @property
    def runtime(self) -> Runtime:
        """How the runtime is called, with its log where we read the reason of a failure."""
        log = os.path.join(self.config.directory, files.RUNTIME_LOG)
        options = ("--log", log, "--log-format", "json", *self.config.runtime_args)
        return Runtime(self.config.runtime, self.config.runtime_root, options)


def keep(shim: Shim, report_fd: int) -> None:
    """Live as the keeper of one container; return when its server has finished.

    A failed creation is undone and reported. Never raises for what a container, a client or
    the server does.
    """
    environment = clean_environment(os.environ)
    forget_environment()
    config, header = shim.config, descriptors.map_header(shim.table.header)
    descriptors.Libc().become_subreaper()
    bell = hear_signals(header)
    try:
        shim = _bring_up(shim, header, environment)
    except (AttachdError, OSError) as error:
        _undo(shim, header, environment)
        report.send(report_fd, report.of_error(report.as_attachd_error(error)))
        return
    report.send(report_fd, report.of_pid(header.pid))
    lower_oom_score(config.oom_score_adj)
    descriptors.lift_descriptor_limit()
    # Only now: its imports would compete with the runtime for the processor, and whoever waits
    # for the report would pay. The pipe and the socket's backlog hold what comes meanwhile.
    table = shim.table._replace(
        keeper=os.pidfd_open(os.getpid()), init=os.pidfd_open(header.pid)
    )
    server = Server(table, shim.post, environment)
    runtime = Runtime(config.runtime, config.runtime_root, config.runtime_args)
    execs = Execs(table.directory, runtime, config.id, environment, server.kept)
    watch(table, header, server, execs, bell)


def hear_signals(header: Header, send: Callable[[int], None] | None = None) -> int:
    """Turn SIGCHLD into a readable descriptor, pass SIGTERM on, ignore the terminal's signals.

    ``send`` signals a container that is not our child.
    """
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def pass_on(number: int, _frame: object) -> None:
        if send is not None:
            send(number)
        elif header.pid and not header.exit_code:
            os.kill(header.pid, number)

    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    return read


class Server:
    """The server process: started with every descriptor by name, and again when it dies."""

    def __init__(
        self, table: descriptors.Table, post: int, environment: dict[str, str]
    ) -> None:
        package_parent = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        self._environment = environment | {"PYTHONPATH": package_parent} | MALLOC
        self._table = table
        self.kept = dict(table.kept)
        self.post = post
        self._delay = FIRST_DELAY
        self._born = 0.0
        self._stuck = False  #: that it cannot be started was said
        self.pid = 0

    def start(self) -> bool:
        """Start it; the table goes along as ``name=descriptor`` arguments.

        Returns False when there is no process to be had (fork(2), EAGAIN, ENOMEM).
        """
        names = self._table._replace(kept=self.kept).items()
        argv = [sys.executable, "-s", "-P", "-m", "attachd.live"]
        argv += [f"{name}={fd}" for name, fd in names.items()]
        self._born = time.monotonic()
        try:
            self.pid = spawn(argv, self._environment, (0, 1, 2), tuple(names.values()))
        except OSError as error:
            if not self._stuck:
                words = (
                    f"attachd: no server can be started, the container waits: {error.strerror}"
                )
                print(words, file=sys.stderr, flush=True)
            self._stuck = True
            return False
        self._stuck = False
        return True

    def delay_after_death(self) -> float:
        """Return how long to wait before the next start."""
        if time.monotonic() - self._born > HEALTHY_AFTER:
            self._delay = FIRST_DELAY
        delay, self._delay = self._delay, min(self._delay * 2, LAST_DELAY)
        return delay

    def take_parcels(self) -> list[parcels.Parcel]:
        """Take over what a server has made for its successors; return what it has said."""
        return parcels.take_all(self.post, self.kept)

    def forget_stdin(self) -> None:
        """Have the next server begin without the container's stdin."""
        self._table = self._table._replace(stdin=-1)


def _bring_up(shim: Shim, header: Header, environment: dict[str, str]) -> Shim:
    """Create, note, and for ``run`` start the container; raises AttachdError or OSError.

    Returns the shim with what creation has added to its table.
    """
    config = shim.config
    _write_state(shim, header, "creating")
    pid_file = os.path.join(config.directory, files.PID)
    words = ("create", "--bundle", config.bundle, "--pid-file", pid_file)
    if config.terminal:
        shim = _create_with_terminal(shim, words, environment)
    else:
        _create_with_pipes(shim, words, environment)
    header.pid = _read_pid(pid_file)
    os.chmod(pid_file, 0o600)
    _write_files(shim, header, "created")
    if config.start:
        start(shim, header, environment)
        _write_state(shim, header, "running")
    header.created = 1
    return shim


def _create_with_pipes(
    shim: Shim, words: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Run ``runc create``: what it has to say comes where the container's stderr will."""
    stdin, stdout, stderr = shim.ends
    heard = Words(shim.table.stderr)
    try:
        words = (*words, shim.config.id)
        _ask(shim, "create", words, environment, (stdin, stdout, stderr), heard)
    finally:
        for fd in shim.ends:
            os.close(fd)


def _create_with_terminal(
    shim: Shim, words: tuple[str, ...], environment: dict[str, str]
) -> Shim:
    """Run ``runc create`` with a console socket; take the terminal that it sends."""
    config, directory = shim.config, shim.table.directory
    listener = descriptors.make_listener(directory, console.SOCKET)
    try:
        words = (*words, "--console-socket", console.path(directory), config.id)
        _ask_aside(shim, "create", words, environment)
        terminal = console.receive(listener)
    finally:
        os.close(listener)
        os.unlink(console.SOCKET, dir_fd=directory)
    console.set_size(terminal, config.size or DEFAULT_SIZE)
    return shim._replace(table=shim.table._replace(terminal=terminal))


def _read_pid(path: str) -> int:
    """Return what the runtime wrote there; raises AttachdError when it did not."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        raise AttachdError("the runtime said that it worked, and wrote no pid") from None


def start(shim: Shim, header: Header, environment: dict[str, str]) -> None:
    """Run ``runc start``; raises RuntimeFailed."""
    # Before: it may have ended when the runtime returns.
    begun, clock = time.time_ns(), time.monotonic_ns()
    _ask_aside(shim, "start", ("start", shim.config.id), environment)
    header.started_clock = clock
    header.started = begun


def _ask_aside(
    shim: Shim, verb: str, words: tuple[str, ...], environment: dict[str, str]
) -> None:
    """Call the runtime with a pipe of its own for its words; raises RuntimeFailed."""
    read, write = _make_pipe()
    try:
        _ask(shim, verb, words, environment, (0, 1, write), Words(read))
    finally:
        os.close(read)
        os.close(write)


def _make_pipe() -> tuple[int, int]:
    """Return a pipe that we do not wait at; who writes does, or would lose what has no room."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    return read, write


def _ask(
    shim: Shim,
    verb: str,
    words: tuple[str, ...],
    environment: dict[str, str],
    stdio: tuple[int, int, int],
    heard: Words,
) -> None:
    argv = shim.runtime.command(*words)
    status = call(argv, environment, stdio, heard, shim.config.create_timeout)
    if status != 0:
        log = os.path.join(shim.config.directory, files.RUNTIME_LOG)
        raise failure(verb, status, heard.text, log)


def _write_files(shim: Shim, header: Header, phase: str) -> None:
    """Write state.json and the pid files that were asked for; raises OSError."""
    config = shim.config
    _write_state(shim, header, phase)
    ours = os.path.join(config.directory, files.KEEPER_PID)
    files.write_number(ours, os.getpid(), mode=0o600)
    if config.keeper_pid_file:
        files.write_number(config.keeper_pid_file, os.getpid())
    if config.pid_file:
        files.write_number(config.pid_file, header.pid)


def _write_state(shim: Shim, header: Header, phase: str) -> None:
    config = shim.config
    logs = [spec._asdict() for spec in config.logs]
    state = {
        "schema": 1,
        "id": config.id,
        "stream_id": shim.stream_id,
        "phase": phase,
        "pid": header.pid or None,
        "pid_start": start_time(header.pid) if header.pid else None,
        "keeper_pid": os.getpid(),
        "keeper_start": start_time(os.getpid()),
        "bundle": config.bundle,
        "runtime": list(shim.runtime.command()),
        "cgroups": _cgroups(header.pid),
        "logs": logs,
        "made": list(shim.made),
        "deleted": False,
        "config": config._asdict()
        | {"logs": logs, "log_care": config.log_care._asdict()}
        | {"rights": config.rights._asdict()},
    }
    files.write_json(os.path.join(config.directory, files.STATE), state)


def _cgroups(pid: int) -> list[str]:
    """Return the lines of /proc/PID/cgroup: where to look for OOM kills when it has ended."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _undo(shim: Shim, header: Header, environment: dict[str, str]) -> None:
    """Leave nothing of a failed creation: container, files, directory, log."""
    config = shim.config
    known = _known(shim, environment)
    if known.get("bundle") == config.bundle:
        _quietly(shim, environment, "delete", "--force", config.id)
    _reap_all(header)
    leftovers.kill_children()
    if not known:
        leftovers.remove_cgroups(config.id, config.bundle)
    for path in (config.keeper_pid_file, config.pid_file):
        if path:
            files.remove_file(path)
    descriptors.unmake(list(shim.made))
    files.empty_directory(config.directory)
    descriptors.unmake([config.directory])


def _known(shim: Shim, environment: dict[str, str]) -> dict[str, object]:
    """Ask the runtime: the id may be another's, and that is why creation failed. Nothing: {}."""
    try:
        state = json.loads(_quietly(shim, environment, "state", shim.config.id))
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _quietly(shim: Shim, environment: dict[str, str], *words: str) -> str:
    """Call the runtime, whatever comes of it; return its stdout."""
    read, write = _make_pipe()
    heard = Words(read)
    try:
        call(shim.runtime.command(*words), environment, (0, write, 1), heard, CALL_LIMIT)
    except RuntimeFailed:
        pass
    finally:
        os.close(read)
        os.close(write)
    return heard.text


def lower_oom_score(adjustment: int | None) -> None:
    """Adjust our own score, after the container was made so that it does not inherit it.

    Going below the current value needs CAP_SYS_RESOURCE (proc(5)); a refusal is normal.
    """
    if adjustment is None:
        return
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
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


def watch(
    table: descriptors.Table,
    header: Header,
    server: Server,
    execs: Execs,
    bell: int,
    strangers: Strangers | None = None,
) -> None:
    """Wait for deaths and orders until the server has finished.

    Begins with starting one, unless it is among ``strangers``.
    """
    stdin, room = table.stdin, parcels.Room()
    start_at: float | None = time.monotonic() if strangers is None else None
    while True:
        wait = None if start_at is None else max(0.0, start_at - time.monotonic()) * 1000
        if strangers is not None and strangers.expected:
            wait = LOOK_MILLISECONDS if wait is None else min(wait, LOOK_MILLISECONDS)
        listening = [server.post] if room.look() else []
        if not listening:
            wait = NO_ROOM_MILLISECONDS if wait is None else min(wait, NO_ROOM_MILLISECONDS)
        poller = select.poll()
        theirs = strangers.fds() if strangers is not None else []
        for fd in (bell, table.orders, *listening, *theirs):
            poller.register(fd, select.POLLIN)
        for fd, _ in poller.poll(wait):
            if fd in (bell, table.orders):
                os.read(fd, 4096)
        _heed(server, execs, table.news)
        if header.stdin_closed and stdin >= 0:
            os.close(stdin)
            stdin = -1
            server.forget_stdin()
        status = _reap_all(header, table.news, server.pid, execs)
        if status is None and strangers is not None:
            status = strangers.look(table.news)
        if status == 0:
            return
        if status is not None:
            start_at = time.monotonic() + server.delay_after_death()
            header.restarts += 1
        if start_at is not None and time.monotonic() >= start_at:
            start_at = None
            _heed(server, execs, table.news)  # what the one before has said last
            if not server.start():
                start_at = time.monotonic() + server.delay_after_death()


def _heed(server: Server, execs: Execs, news: int) -> None:
    """Do what the server has asked for."""
    said = server.take_parcels()
    for verb, name, _ in said:
        if verb == "begin":
            execs.begin(name)
        elif verb == "drop":
            execs.forget(name)
        elif verb == "want" and name in server.kept:
            parcels.Post(server.post).send("have", name, server.kept[name], wait=False)
    if said:
        os.eventfd_write(news, 1)


def _reap_all(
    header: Header, news: int = -1, server: int = 0, execs: Execs | None = None
) -> int | None:
    """Reap every dead child; return the server's wait status when it was among them.

    The end of the container or of an exec is in its header before its zombie is gone, so that
    no death of ours in between can lose it.
    """
    found: int | None = None
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return found
        if dead is None:
            return found
        if dead.si_pid == header.pid and not header.exit_code:
            header.exit_time = time.time_ns()
            header.exit_status = dead.si_status
            header.exit_code = dead.si_code
            if news >= 0:
                os.eventfd_write(news, 1)
        elif execs is not None and execs.saw(dead):
            os.eventfd_write(news, 1)
        _, status = os.waitpid(dead.si_pid, 0)
        if dead.si_pid == server:
            found = status
