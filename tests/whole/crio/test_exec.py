"""CRI-O's exec-sync: kubelet's probes and ``crictl exec --sync``."""

import os
import select
import signal
from pathlib import Path

import pytest
from crio import MOST_OUTPUT, Container, Crio, ExecFailed, Said, with_both
from harness import PATIENCE, is_alive, wait_for

CALLS = 50

PASSED_ON = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


@pytest.fixture
def container(crio: Crio) -> Container:
    """A container that runs, with a monitor that is at work."""
    made = crio.run("sh", "-c", "echo up; exec sleep 1000")
    wait_for(made.log.read_bytes)
    return made


def descriptors_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def processes_with(mark: str) -> list[int]:
    """Return the pids whose command line has a text in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def keeper_of(state: Path) -> int:
    """Return the pid of an exec's keeper."""
    return int((state / "keeper.pid").read_text())


def servers_of(state: Path) -> list[int]:
    """Return the pid of an exec's server, in a list."""
    keeper = keeper_of(state)
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return [pid for pid in map(int, children) if pid in processes_with("attachd.doors")]


@with_both()
@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_codes(container: Container, code: int) -> None:
    """Told on the pipe, and the monitor's own status, too."""
    asked = container.begin_exec("sh", "-c", f"exit {code}")

    assert asked.finish() == Said(code, b"", b"")
    assert asked.status == code


@with_both()
def test_ended_by_a_signal(container: Container) -> None:
    """128 and the signal's number."""
    asked = container.begin_exec("sh", "-c", "kill -9 $$")

    assert asked.finish().code == 137
    assert asked.status == 137


@with_both()
def test_both_streams(container: Container) -> None:
    """Byte for byte, from the log; nothing comes on the monitor's own stdout and stderr."""
    script = r"printf 'a\n\nb\001'; printf 'x y\r\n' >&2; echo; printf end >&2"
    asked = container.begin_exec("sh", "-c", script)

    assert asked.finish() == Said(0, b"a\n\nb\1\n", b"x y\r\nend")
    assert (asked.stdout, asked.stderr) == (b"", b"")


@with_both()
def test_much_output(container: Container) -> None:
    """Megabytes of one line, and of many."""
    lines = "seq 100000; head -c 3000000 /dev/zero | tr '\\000' z >&2"
    said = container.exec_sync("sh", "-c", lines)

    assert said.stdout == b"".join(b"%d\n" % number for number in range(1, 100001))
    assert said.stderr == b"z" * 3000000


@with_both()
def test_it_has_no_stdin(container: Container) -> None:
    """A program that reads gets the end at once."""
    assert container.exec_sync("cat") == Said(0, b"", b"")


@with_both()
def test_a_program_that_is_not_there(container: Container) -> None:
    """The runtime's words are in the message, though the pid file was there, empty."""
    asked = container.begin_exec("/no-such-program")
    with pytest.raises(ExecFailed, match="no-such-program"):
        asked.finish()

    assert asked.status == 1


@with_both()
def test_a_container_that_is_not_there(crio: Crio) -> None:
    """The same."""
    container = crio.create("true")
    crio.runc("delete", "--force", container.id)
    with pytest.raises(ExecFailed, match="does not exist"):
        container.exec_sync("true")


@with_both()
def test_timeout(container: Container) -> None:
    """The program and its group are killed, CRI-O is told so, and the monitor ends with 255."""
    script = "sleep 98765 & sleep 98764 & echo started; wait"
    asked = container.begin_exec("sh", "-c", script, timeout=2)
    wait_for(lambda: b"started" in Path(asked.log).read_bytes())
    assert len(processes_with("9876")) >= 2

    assert asked.finish() == Said(-1, b"", b"command timed out")
    assert asked.status == 255
    wait_for(lambda: not processes_with("sleep\x009876"))


@with_both()
def test_a_program_that_ends_in_time(container: Container) -> None:
    """Is not timed out, and nothing waits for the rest of the time."""
    assert container.exec_sync("sh", "-c", "echo in; exit 5", timeout=3000) == Said(
        5, b"in\n", b""
    )


@with_both()
def test_a_child_that_stays(container: Container) -> None:
    """The exec ends with its program; what that has left behind in the container goes on."""
    said = container.exec_sync("sh", "-c", "sleep 98763 & echo out")

    assert said == Said(0, b"out\n", b"")
    assert processes_with("sleep\x0098763")


@with_both()
def test_in_a_terminal(crio: Crio) -> None:
    """CRI-O gives an exec a terminal when the container has one; all output is stdout."""
    container = crio.run("sleep", "1000", terminal=True)
    said = container.exec_sync("sh", "-c", "test -t 1 && echo yes; echo err >&2; exit 4")

    assert said == Said(4, b"yes\r\nerr\r\n", b"")


@with_both()
@pytest.mark.parametrize("number", PASSED_ON, ids=lambda number: number.name)
def test_signals_are_passed_on(container: Container, number: signal.Signals) -> None:
    """CRI-O interrupts the monitors of execs when a container is stopped."""
    script = (
        f"trap 'echo heard; exit 8' {number.name[3:]}; echo up; while :; do sleep 0.05; done"
    )
    asked = container.begin_exec("sh", "-c", script)
    wait_for(lambda: b"up" in Path(asked.log).read_bytes())
    os.kill(asked.monitor, number)

    assert asked.finish() == Said(8, b"up\nheard\n", b"")
    assert asked.status == 8


@with_both()
def test_stdio_is_let_go(container: Container) -> None:
    """CRI-O's own reads end while the program goes on: nobody of ours holds the other ends."""
    asked = container.begin_exec(
        "sh", "-c", "echo up; while [ ! -e /go ]; do sleep 0.05; done"
    )
    wait_for(lambda: b"up" in Path(asked.log).read_bytes())
    ready, _, _ = select.select([read for read, _ in asked.outputs], [], [], PATIENCE)
    assert ready
    assert [os.read(read, 1) for read, _ in asked.outputs] == [b"", b""]
    assert is_alive(asked.monitor)
    (container.bundle / "rootfs/go").touch()

    assert asked.finish().code == 0


def test_a_signal_that_comes_early(crio: Crio, container: Container) -> None:
    """What comes while the runtime is still at work reaches the program when it is there."""
    gate = crio.home / "gate"
    os.mkfifo(gate)
    slow = crio.home / "slow-runc"
    slow.write_text(f'#!/bin/sh\necho at-work >{gate}\nread go <{gate}\nexec runc "$@"\n')
    slow.chmod(0o755)
    crio.runtime = str(slow)
    asked = container.begin_exec(
        "sh", "-c", "trap 'exit 8' INT; sleep 0.2; while :; do :; done"
    )
    assert gate.read_text() == "at-work\n"
    os.kill(asked.monitor, signal.SIGINT)
    gate.write_text("go\n")
    crio.runtime = "/usr/sbin/runc"

    assert asked.finish().code in (8, 130)


def test_a_monitor_that_is_killed(crio: Crio, container: Container) -> None:
    """CRI-O is not kept waiting; the program ends by itself, and nothing is left then."""
    asked = container.begin_exec(
        "sh", "-c", "echo up; while [ ! -e /go ]; do sleep 0.05; done"
    )
    wait_for(lambda: b"up" in Path(asked.log).read_bytes())
    os.kill(asked.monitor, signal.SIGKILL)
    os.waitpid(asked.monitor, 0)
    for read, _ in asked.outputs:
        assert os.read(read, 1) == b""
    assert crio.execs()
    asked.close()
    (container.bundle / "rootfs/go").touch()

    wait_for(lambda: not crio.execs())


def test_a_caller_that_dies(crio: Crio, container: Container) -> None:
    """Nobody reads the pipe any more: the program goes on to its end, and nothing is left."""
    asked = container.begin_exec(
        "sh", "-c", "echo up; while [ ! -e /go ]; do sleep 0.05; done"
    )
    wait_for(lambda: b"up" in Path(asked.log).read_bytes())
    asked.close()
    (container.bundle / "rootfs/go").touch()

    assert os.waitstatus_to_exitcode(os.waitpid(asked.monitor, 0)[1]) == 0
    assert not crio.execs()


def test_a_server_that_is_killed(crio: Crio, container: Container) -> None:
    """The exec's status and output come all the same, once."""
    script = "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two; exit 6"
    asked = container.begin_exec("sh", "-c", script)
    wait_for(lambda: b"one" in Path(asked.log).read_bytes())
    (state,) = crio.execs()
    (server,) = servers_of(state)
    os.kill(server, signal.SIGKILL)
    (container.bundle / "rootfs/go").touch()

    assert asked.finish() == Said(6, b"one\ntwo\n", b"")


def test_a_keeper_that_is_killed(crio: Crio, container: Container) -> None:
    """The exec's status and output come all the same; another keeper takes its place."""
    script = "echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two; exit 6"
    asked = container.begin_exec("sh", "-c", script)
    wait_for(lambda: b"one" in Path(asked.log).read_bytes())
    (state,) = crio.execs()
    before = keeper_of(state)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: keeper_of(state) != before)
    (container.bundle / "rootfs/go").touch()

    assert asked.finish() == Said(6, b"one\ntwo\n", b"")


def test_a_shim_that_is_killed(crio: Crio, container: Container) -> None:
    """Nobody knows the status: CRI-O is told by the end of the pipe, and no state is left."""
    asked = container.begin_exec("sh", "-c", "echo one; exec sleep 98762")
    wait_for(lambda: b"one" in Path(asked.log).read_bytes())
    (state,) = crio.execs()
    keeper, shim = keeper_of(state), servers_of(state)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in (keeper, *shim):
            os.kill(pid, number)

    with pytest.raises(ExecFailed, match="EOF"):
        asked.finish()
    assert asked.status == 1
    assert not crio.execs()


def test_the_container_ends_first(crio: Crio, container: Container) -> None:
    """Its execs are killed with it, and told so."""
    asked = container.begin_exec("sh", "-c", "echo up; sleep 1000")
    wait_for(lambda: b"up" in Path(asked.log).read_bytes())
    container.kill()

    assert asked.finish().code == 137
    assert container.exit_code() == 137


def test_nothing_is_left(crio: Crio, container: Container) -> None:
    """When the monitor has ended nothing of the exec is there, whatever became of it."""
    before = set(crio.left())
    container.exec_sync("true")
    with pytest.raises(ExecFailed):
        container.exec_sync("/no-such-program")
    container.exec_sync("sleep", "1000", timeout=1)

    assert not crio.execs()
    assert set(crio.left()) <= before


def test_the_limit_on_output(container: Container) -> None:
    """CRI-O reads 16 MiB of log; there is not much more, and the program is not held up."""
    asked = container.begin_exec("sh", "-c", "yes 0123456789abcdef | head -c 40000000; exit 3")
    asked.finish_monitor()
    size = os.stat(asked.log).st_size

    assert MOST_OUTPUT <= size < MOST_OUTPUT + 100
    said = asked.finish()
    assert said.code == 3
    assert said.stdout.startswith(b"0123456789abcdef\n" * 100000)


def test_fifty_execs(crio: Crio, container: Container) -> None:
    """CRI-O, and the monitor and server of the container, have no descriptor more than before."""
    container.exec_sync("true")
    watched = [os.getpid(), *processes_with(container.id), container.monitor_pid]
    before = [descriptors_of(pid) for pid in watched]
    codes = [container.exec_sync("sh", "-c", f"exit {n}").code for n in range(CALLS)]

    assert codes == list(range(CALLS))
    assert [descriptors_of(pid) for pid in watched] == before
    assert not crio.execs()
    assert not list(crio.temporary.iterdir())


def test_execs_at_once(crio: Crio, container: Container) -> None:
    """Each has its own output and status."""
    asked = [container.begin_exec("sh", "-c", f"echo {n}; exit {n}") for n in range(6)]

    assert [one.finish() for one in asked] == [Said(n, b"%d\n" % n, b"") for n in range(6)]
    assert not crio.execs()
