"""Faults that conmon has and attachd has not, each seen on both.

Where a test holds attachd to something, its twin shows that the real conmon does otherwise: what
is asked for is not what everybody does, and the harness can tell the difference.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, cri_streams, is_alive, wait_for
from podman_host import Podman

pytestmark = pytest.mark.runc

SIZE = 20_000_000

#: write(2) on x86-64 and on arm64, as /proc/PID/syscall has it.
WRITES = (b"1", b"64")


# A client that is connected and never reads


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        yield made


def connect(client: socket.socket, podman: Podman, name: str) -> None:
    """Connect as Podman does: the path of the socket is longer than an address can be."""
    folder = os.open(podman.userdata(name), os.O_PATH)
    client.connect(f"/proc/self/fd/{folder}/attach")
    os.close(folder)


def watched_writer(podman: Podman, silent: socket.socket) -> str:
    """Start a program that writes a lot, with a client that was there from the first byte."""
    name = podman.create("sh", "-c", f"head -c {SIZE} /dev/zero; exit 7")
    podman.call("init", name)
    connect(silent, podman, name)
    podman.call("start", name)
    return name


def test_a_client_that_does_not_read_stops_nothing(podman_attachd, silent) -> None:
    name = watched_writer(podman_attachd, silent)
    assert podman_attachd.ended(name) == 7
    assert podman_attachd.output(name) == bytes(SIZE)


def test_conmon_waits_for_a_client_that_does_not_read(podman_conmon, silent) -> None:
    """It stays in a write to the client's socket; as soon as that is closed all goes on."""
    name = watched_writer(podman_conmon, silent)
    state = podman_conmon.state(name)
    wait_for(lambda: is_stuck_in_a_socket(state["ConmonPid"]))
    assert is_alive(state["Pid"])
    assert len(podman_conmon.output(name)) < SIZE
    silent.close()
    assert podman_conmon.ended(name) == 7
    assert podman_conmon.output(name) == bytes(SIZE)


def is_stuck_in_a_socket(pid: int) -> bool:
    number, *arguments = Path(f"/proc/{pid}/syscall").read_bytes().split()
    if number not in WRITES:
        return False
    return os.readlink(f"/proc/{pid}/fd/{int(arguments[0], 16)}").startswith("socket:")


# The first of two clients leaves


def two_at_one_program(podman: Podman) -> tuple[str, list[subprocess.Popen[bytes]]]:
    """Attach two clients to a program with stdin; both are there and have been heard."""
    name = podman.run("cat", options=("-i",))
    clients = []
    for line in (b"first\n", b"second\n"):
        clients.append(podman.popen("attach", name, stdin=-1))
        clients[-1].stdin.write(line)
        assert [client.stdout.readline() for client in clients] == [line] * len(clients)
    return name, clients


@pytest.mark.parametrize("leave", ["dies", "ends its input"])
def test_who_leaves_first_does_not_close_the_others_stdin(podman_attachd, leave: str) -> None:
    """The last one does, by ending its input."""
    name, (first, second) = two_at_one_program(podman_attachd)
    leaves(first, leave)
    second.stdin.write(b"still here\n")
    assert second.stdout.readline() == b"still here\n"
    second.stdin.close()
    assert podman_attachd.ended(name) == 0
    assert podman_attachd.output(name) == b"first\nsecond\nstill here\n"


@pytest.mark.parametrize("leave", ["dies", "ends its input"])
def test_at_conmon_who_leaves_first_closes_stdin_for_all(podman_conmon, leave: str) -> None:
    """The program reads its end of file, and ends, while somebody is still typing."""
    name, (first, second) = two_at_one_program(podman_conmon)
    leaves(first, leave)
    assert podman_conmon.ended(name) == 0
    assert second.stdout.readline() in (b"", b"\n")


def leaves(client: subprocess.Popen[bytes], how: str) -> None:
    if how == "dies":
        client.kill()
        client.wait(PATIENCE)
    else:
        client.stdin.close()


# A log that may only grow so far


def counted(podman: Podman) -> str:
    name = podman.run("seq", "1", "2000", options=("--log-opt", "max-size=20kb"))
    assert podman.ended(name) == 0
    return name


def kept(podman: Podman, name: str) -> list[int]:
    """Return the numbers in a log and in what was rotated out of it, named by its beginning."""
    folder = podman.userdata(name)
    files = [*sorted(folder.glob("ctr.log.*")), folder / "ctr.log"]
    return [int(n) for file in files for n in cri_streams(file.read_bytes())["stdout"].split()]


def test_a_limit_of_the_log_loses_no_line(podman_attachd) -> None:
    """What no longer fits is in files beside it, which go with the container."""
    name = counted(podman_attachd)
    assert kept(podman_attachd, name) == list(range(1, 2001))
    assert len(podman_attachd.log(name)) <= 20_000


def test_a_limit_of_conmons_log_loses_most_lines(podman_conmon) -> None:
    found = kept(podman_conmon, counted(podman_conmon))
    assert found == list(range(2001 - len(found), 2001))
    assert len(found) < 1000


# The shim's process is killed


def killed(podman: Podman, gate) -> str:
    """Kill the process that moves the bytes while the program writes; it ends with 7."""
    command = "seq 1000; read go </gate/fifo; seq 1001 20000; exit 7"
    name = podman.run("sh", "-c", command, options=gate.options)
    wait_for(lambda: podman.output(name).endswith(b"\n1000\n"))
    server = podman.server(name)
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not is_alive(server))
    gate.let_pass()
    return name


def test_a_server_that_is_killed_loses_no_output_and_no_exit_code(
    podman_attachd, gate
) -> None:
    name = killed(podman_attachd, gate)
    assert podman_attachd.ended(name) == 7
    assert podman_attachd.output(name) == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert podman_attachd.state(name)["ExitCode"] == 7


def test_a_conmon_that_is_killed_loses_both(podman_conmon, gate) -> None:
    """Podman goes on believing that the program runs, and ``wait`` would wait for ever."""
    name = killed(podman_conmon, gate)
    wait_for(lambda: not is_alive(podman_conmon.state(name)["Pid"]))
    state = podman_conmon.state(name)
    assert (state["Status"], state["ExitCode"]) == ("running", 0)
    podman_conmon.call("rm", "--force", name, check=False)  # learns that it does not; fails
    assert podman_conmon.output(name) == b"".join(b"%d\n" % n for n in range(1, 1001))


# What was before somebody attached


def test_the_output_before_a_client_came_is_there_on_request(podman_attachd, gate) -> None:
    """The native client knows a container by the name that it has in Podman."""
    podman = podman_attachd
    name = podman.run("sh", "-c", "echo before; read go </gate/fifo; echo after",
                      options=gate.options)  # fmt: skip
    wait_for(lambda: podman.output(name) == b"before\n")
    assert {podman.told(name)["Id"], name} <= {
        *podman.native("attachctl", "ls").decode().split()
    }
    client = podman.native_popen("attach", "--from", "start", name)
    assert client.stdout.readline() == b"before\n"
    gate.let_pass()
    assert client.stdout.read() == b"after\n"
    assert podman.ended(name) == 0
