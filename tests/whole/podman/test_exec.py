"""``podman exec``: another program in the container, with a shim of its own."""

import hashlib
import os

import pytest
from harness import wait_for

pytestmark = pytest.mark.runc

IDLE = ("sleep", "1000")


def test_output_keeps_its_streams(podman) -> None:
    name = podman.run(*IDLE)
    done = podman.call("exec", name, "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_each_kind_of_end_has_its_exit_code(podman) -> None:
    name = podman.run(*IDLE)
    for command, code in (
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 125"), 125),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -15 $$"), 143),
        (("/etc",), 126),
        (("no-such-program",), 127),
        (("/no/such/program",), 127),
    ):
        done = podman.call("exec", name, *command, check=False)
        assert done.returncode == code, command
        assert bool(done.stderr) == (
            command[0] in ("/etc", "no-such-program", "/no/such/program")
        )


def test_stdin_goes_to_the_program_and_its_end_ends_it(podman) -> None:
    name = podman.run(*IDLE)
    data = os.urandom(5_000_000)
    done = podman.call("exec", "-i", name, "sha256sum", input=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert podman.call("exec", name, "cat", input=b"typed\n").stdout == b""


def test_a_lot_of_output_arrives_whole(podman) -> None:
    name = podman.run(*IDLE)
    done = podman.call("exec", name, "sh", "-c", "seq 100000; head -c 10000000 /dev/zero")
    expected = b"".join(b"%d\n" % n for n in range(1, 100001)) + bytes(10_000_000)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(expected).digest()


def test_an_exec_is_not_in_the_containers_log(podman) -> None:
    name = podman.run(*IDLE)
    podman.call("exec", name, "echo", "elsewhere")
    assert podman.log(name) == b""


def test_short_programs_lose_nothing(podman) -> None:
    """A program that ends at once has its output and its exit code, one time like the next."""
    name = podman.run(*IDLE)
    for number in range(5):
        done = podman.call(
            "exec", name, "sh", "-c", f"echo {number}; exit {number}", check=False
        )
        assert (done.returncode, done.stdout) == (number, b"%d\n" % number)


def test_an_exec_in_the_background_runs_on(podman, gate) -> None:
    """``-d`` prints the session at once; its exit code is in the events."""
    name = podman.run(*IDLE, options=gate.options)
    done = podman.call("exec", "-d", name, "sh", "-c", "read go </gate/fifo; exit 9")
    session = done.stdout.decode().strip()
    assert len(session) == 64
    gate.let_pass()
    died = wait_for(lambda: [e for e in podman.events(name) if e["Status"] == "exec_died"])
    assert died[0]["ContainerExitCode"] == 9


def test_several_execs_go_on_beside_each_other(podman) -> None:
    name = podman.run(*IDLE)
    clients = [podman.popen("exec", "-i", name, "cat", stdin=-1) for _ in range(3)]
    for number, client in enumerate(clients):
        client.stdin.write(b"%d\n" % number)
    assert [client.stdout.readline() for client in clients] == [b"0\n", b"1\n", b"2\n"]
    for client in clients:
        client.stdin.close()
    assert [client.wait(60) for client in clients] == [0, 0, 0]


def test_an_exec_ends_with_its_container(podman) -> None:
    name = podman.run(*IDLE)
    client = podman.popen("exec", "-i", name, "cat", stdin=-1)
    client.stdin.write(b"here\n")
    assert client.stdout.readline() == b"here\n"
    podman.call("kill", name)
    assert client.wait(60) == 137


def test_nothing_is_executed_in_a_container_that_has_ended(podman) -> None:
    name = podman.run("true")
    podman.ended(name)
    done = podman.call("exec", name, "true", check=False)
    assert done.returncode == 255
    assert b"running" in done.stderr
    assert done.stdout == b""


def test_preserved_descriptors_reach_an_exec(podman, tmp_path) -> None:
    (tmp_path / "third").write_text("from descriptor 3")
    name = podman.run(*IDLE)
    done = podman.call(
        "exec", "--preserve-fds", 1, name, "sh", "-c", "cat <&3",
        before=("sh", "-c", 'exec 3<"$0"; exec "$@"', tmp_path / "third"),
    )  # fmt: skip
    assert done.stdout == b"from descriptor 3"


def test_a_healthcheck_tells_how_the_container_is(podman) -> None:
    options = ("--health-cmd", "test -e /tmp/well", "--health-interval", "disable")
    name = podman.run(*IDLE, options=options)
    assert podman.call("healthcheck", "run", name, check=False).returncode == 1
    podman.call("exec", name, "touch", "/tmp/well")
    assert podman.call("healthcheck", "run", name).returncode == 0
    assert podman.state(name)["Health"]["Status"] == "healthy"
