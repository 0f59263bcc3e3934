"""Execs at the keeper: a runtime is called once, and two deaths are noted, in whatever order."""

import itertools
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.keeper.descriptors import make_ring, map_header
from attachd.keeper.execs import ENDS, KILLED, NOT_EXECUTED, Execs, parcel
from attachd.keeper.processes import Runtime
from attachd.state.header import Header

RUNTIME = """#!/bin/sh
for word; do echo "$word"; done >{out}/argv
echo called >>{out}/calls
cat >{out}/stdin
echo out
echo err >&2
exit 3
"""

#: Pids that nobody has: over the kernel's limit (proc(5), pid_max).
GONE = itertools.count(1 << 23)


def death(pid: int, status: int = 0, code: int = os.CLD_EXITED) -> os.waitid_result:
    return os.waitid_result((pid, 0, signal.SIGCHLD, status, code))


class Bench:
    """A keeper's execs on a runtime that only takes notes."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.held: dict[str, int] = {}
        runtime = directory / "runtime"
        runtime.write_text(RUNTIME.format(out=directory))
        runtime.chmod(0o755)
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.runtime = Runtime(str(runtime), "/its root", ("--systemd-cgroup",))
        self.execs = self.make()

    def make(self) -> Execs:
        environment = {"PATH": os.environ["PATH"]}
        return Execs(self.directory, self.runtime, "box", environment, self.held)

    def bring(self, name: str, *, terminal: bool = False) -> Header:
        """Have the parcels of an exec come; return its header."""
        (self.path / "exec" / name).mkdir(parents=True)
        self.held[parcel(name, "ring")], header = make_ring(65536)
        self.held[parcel(name, "header")] = header
        if terminal:
            self.held[parcel(name, "inner")] = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        for end in () if terminal else ENDS:
            flags = os.O_RDONLY if end == "end0" else os.O_RDWR | os.O_CREAT
            target = os.devnull if end == "end0" else self.path / end
            self.held[parcel(name, end)] = os.open(target, flags | os.O_CLOEXEC)
        return map_header(header)

    def tell_pid(self, name: str, pid: int) -> None:
        (self.path / "exec" / name / "container.pid").write_text(str(pid))

    def begun(self, name: str, **how: bool) -> Header:
        """Return the header of one whose runtime has been called, and has ended in truth."""
        header = self.bring(name, **how)
        self.execs.begin(name)
        os.waitpid(header.runtime_pid, 0)
        return header

    def close(self) -> None:
        for fd in (*self.held.values(), self.directory):
            os.close(fd)


@pytest.fixture
def bench(tmp_path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_the_runtime_is_called_as_the_container_was_made(bench) -> None:
    """With its root and options, the exec's files, and the program's ends as its own."""
    header = bench.begun("x")
    argv = (bench.path / "argv").read_text().split("\n")[:-1]
    at = f"{bench.path}/exec/x"

    assert argv == [
        "--log", f"{at}/runtime.log", "--log-format", "json", "--systemd-cgroup",
        "--root", "/its root", "exec", "--detach", "--pid-file", f"{at}/container.pid",
        "--process", f"{at}/process.json", "box",
    ]  # fmt: skip
    assert (bench.path / "end1").read_text() == "out\n"
    assert (bench.path / "end2").read_text() == "err\n"
    assert (bench.path / "stdin").read_text() == ""
    assert sorted(bench.held) == ["exec/x/header", "exec/x/ring"]  # the ends are not kept
    assert (header.started, header.failed, header.exit_code) == (0, 0, 0)


def test_it_is_called_once_whoever_asks_again(bench) -> None:
    """A server that was killed may not know that it had asked."""
    header = bench.bring("x")
    bench.execs.begin("nobody")
    for _ in range(3):
        bench.execs.begin("x")
    os.waitpid(header.runtime_pid, 0)

    assert (bench.path / "calls").read_text() == "called\n"


def test_the_runtimes_end_then_the_programs(bench) -> None:
    """The usual order."""
    header, pid = bench.begun("x"), next(GONE)
    bench.tell_pid("x", pid)

    assert bench.execs.saw(death(header.runtime_pid))
    assert (header.pid, header.failed) == (pid, 0)
    assert header.started > 0
    assert not bench.execs.saw(death(header.runtime_pid))  # its number is another's now
    assert bench.execs.saw(death(pid, 42))
    assert (header.exit_code, header.exit_status) == (os.CLD_EXITED, 42)
    assert header.exit_time > 0
    assert not bench.execs.saw(death(pid))
    assert header.exit_status == 42


def test_a_program_that_is_seen_to_end_before_its_runtime(bench) -> None:
    """It has run: that is no failure of the runtime, and its code is kept."""
    header, pid = bench.begun("x"), next(GONE)
    bench.tell_pid("x", pid)

    assert bench.execs.saw(death(pid, signal.SIGKILL, os.CLD_KILLED))
    assert bench.execs.saw(death(header.runtime_pid))
    assert (header.pid, header.failed) == (pid, 0)
    assert header.started > 0
    assert (header.exit_code, header.exit_status) == (os.CLD_KILLED, signal.SIGKILL)


@pytest.mark.parametrize(
    ("ended", "failed"),
    [((1, os.CLD_EXITED), 1), ((signal.SIGKILL, os.CLD_KILLED), 137), ((0, os.CLD_EXITED), 1)],
    ids=["failed", "killed", "worked and wrote no pid"],
)
def test_a_runtime_that_did_not_work_is_noted_as_shells_tell_it(bench, ended, failed) -> None:
    """And nothing that dies later is taken for the program."""
    header = bench.begun("x")
    assert bench.execs.saw(death(header.runtime_pid, *ended))

    assert (header.failed, header.started, header.pid) == (failed, 0, 0)
    bench.tell_pid("x", 4711)
    assert not bench.execs.saw(death(4711))
    assert header.exit_code == 0


def test_a_runtime_that_cannot_be_started_is_noted(bench) -> None:
    """The order is answered all the same."""
    header = bench.bring("x")
    os.unlink(bench.path / "runtime")
    bench.execs.begin("x")

    assert (header.failed, header.runtime_pid) == (NOT_EXECUTED, 0)
    assert sorted(bench.held) == ["exec/x/header", "exec/x/ring"]


def test_pipes_that_have_gone_with_a_keeper_count_as_a_kill(bench) -> None:
    """The keeper before us had them, and was killed before it had called the runtime."""
    header = bench.bring("x")
    os.close(bench.held.pop(parcel("x", ENDS[1])))
    bench.execs.begin("x")

    assert (header.failed, header.runtime_pid) == (KILLED, 0)
    assert sorted(bench.held) == ["exec/x/header", "exec/x/ring"]


@pytest.mark.parametrize("why", ["the runtime was killed", "no terminal came"])
def test_a_program_that_nobody_would_know_of_is_killed(bench, why) -> None:
    """It runs, and its exec has failed: it must not be left in the container."""
    header = bench.begun("x", terminal=why == "no terminal came")
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    bench.tell_pid("x", pid)
    killed = why == "the runtime was killed"
    bench.execs.saw(death(header.runtime_pid, 9, os.CLD_KILLED if killed else os.CLD_EXITED))
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert header.failed
    assert header.started == 0


def test_whoever_has_the_programs_number_by_now_is_not_killed(bench) -> None:
    """A pid in a file is killed only while it is our child's."""
    header = bench.begun("x")
    bench.tell_pid("x", os.getpid())  # not a child of ours

    assert bench.execs.saw(death(header.runtime_pid, 1))
    assert header.failed == 1


def test_a_terminal_is_taken_when_the_runtime_has_ended(bench) -> None:
    """It is kept for whichever server there is; the socket is closed."""
    header = bench.begun("x", terminal=True)
    argv = (bench.path / "argv").read_text().split("\n")
    console = argv[argv.index("--console-socket") + 1]
    master, slave = os.openpty()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(console)
        socket.send_fds(peer, [b"/dev/ptmx"], [master])
    os.close(master)
    bench.tell_pid("x", next(GONE))
    bench.execs.saw(death(header.runtime_pid))
    os.write(slave, b"x")
    os.close(slave)

    assert header.started
    assert os.read(bench.held["exec/x/terminal"], 9) == b"x"
    assert not os.get_inheritable(bench.held["exec/x/terminal"])


def test_a_runtime_that_sends_no_terminal_has_failed(bench) -> None:
    """Whatever it said."""
    header = bench.begun("x", terminal=True)
    bench.tell_pid("x", next(GONE))
    bench.execs.saw(death(header.runtime_pid))

    assert (header.failed, header.started) == (1, 0)


def test_deaths_find_their_own_header(bench) -> None:
    """Of many at once, and of none."""
    headers = [bench.begun(str(i)) for i in range(10)]
    pids = [next(GONE) for _ in headers]
    for name, pid in enumerate(pids):
        bench.tell_pid(str(name), pid)
    for header in headers[::-1]:
        assert bench.execs.saw(death(header.runtime_pid))
    for code, pid in enumerate(pids):
        assert bench.execs.saw(death(pid, code))

    assert not bench.execs.saw(death(next(GONE)))
    assert [header.exit_status for header in headers] == list(range(10))


@pytest.mark.parametrize("words", ["", "x", "-5x", "12 13"])
def test_a_pid_file_with_anything_else_is_none(bench, words) -> None:
    """It is half written, or another's."""
    header = bench.begun("x")
    (bench.path / "exec/x/container.pid").write_text(words)
    bench.execs.saw(death(header.runtime_pid))

    assert header.failed == 1


def test_what_was_forgotten_is_nobodys(bench) -> None:
    """Its header was dropped; no descriptor is left but those that are held."""
    before = len(os.listdir("/proc/self/fd"))
    for terminal in (False, True):
        name = f"x{terminal}"
        header = bench.begun(name, terminal=terminal)
        bench.execs.forget("exec/other/header")
        bench.execs.forget(parcel(name, "ring"))
        bench.execs.forget(parcel(name, "header"))
        bench.tell_pid(name, 4711)
        assert not bench.execs.saw(death(4711))
        assert not bench.execs.saw(death(header.runtime_pid))
        for part in ("ring", "header", *(["inner"] if terminal else [])):
            os.close(bench.held.pop(parcel(name, part)))
        del header

    assert bench.held == {}
    assert len(os.listdir("/proc/self/fd")) == before
