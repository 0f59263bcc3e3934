"""``podman run`` and its options, as they are with conmon."""

import hashlib
import os
from pathlib import Path

import pytest
from harness import is_alive
from podman_host import IMAGE

pytestmark = pytest.mark.runc

MEBIBYTE = 1 << 20


def test_output_keeps_its_streams_and_the_exit_code_is_the_programs(podman) -> None:
    done = podman.call("run", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((IMAGE, "true"), 0),
        ((IMAGE, "sh", "-c", "exit 125"), 125),
        (("--no-such-option", IMAGE, "true"), 125),
        ((IMAGE, "/etc"), 126),
        ((IMAGE, "/no/such/program"), 127),
        ((IMAGE, "no-such-program"), 127),
        # In the host's pid namespace, or it was the namespace's init, which no signal kills.
        (("--pid", "host", IMAGE, "sh", "-c", "kill -9 $$"), 137),
        (("--pid", "host", IMAGE, "sh", "-c", "kill -15 $$"), 143),
    ],
)
def test_each_kind_of_end_has_its_exit_code(podman, words: tuple, code: int) -> None:
    """A program's own, 125 Podman's, 126 and 127 if it could not run, 128 and the signal."""
    done = podman.call("run", *words, check=False)
    assert done.returncode == code
    assert bool(done.stderr) == (code in (125, 126, 127) and words[1] != "sh")


def test_a_program_that_cannot_run_is_told_with_the_runtimes_reason(podman) -> None:
    done = podman.call("run", IMAGE, "/no/such/program", check=False)
    assert b"no such file or directory" in done.stderr
    assert b"OCI runtime" in done.stderr


def test_a_hundred_megabytes_of_stdin_arrive_whole(podman, tmp_path: Path) -> None:
    block = os.urandom(MEBIBYTE - 8)
    digest = hashlib.sha256()
    with open(tmp_path / "stdin", "wb") as file:
        for number in range(100):
            data = number.to_bytes(8, "big") + block
            digest.update(data)
            file.write(data)
    with open(tmp_path / "stdin", "rb") as file:
        done = podman.call("run", "-i", "--log-driver", "none", IMAGE, "sha256sum", stdin=file)
    assert done.stdout.split()[0].decode() == digest.hexdigest()


def test_a_lot_of_output_arrives_whole_and_in_order(podman) -> None:
    """Short lines and bytes that are no lines, the last without its newline."""
    command = "seq 100000; head -c 20000000 /dev/zero; printf end"
    done = podman.call("run", "--rm", IMAGE, "sh", "-c", command)
    expected = b"".join(b"%d\n" % n for n in range(1, 100001)) + bytes(20_000_000) + b"end"
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(expected).digest()


def test_stdin_is_not_read_without_i(podman) -> None:
    assert podman.call("run", "--rm", IMAGE, "cat", input=b"typed\n").stdout == b""


def test_stdin_goes_to_the_program_and_its_end_ends_it(podman) -> None:
    done = podman.call("run", "--rm", "-i", IMAGE, "cat", input=b"no newline at the end")
    assert done.stdout == b"no newline at the end"


def test_a_conversation_goes_to_and_fro(podman) -> None:
    client = podman.popen("run", "--rm", "-i", IMAGE, "cat", stdin=-1)
    for line in (b"one\n", b"two\n"):
        client.stdin.write(line)
        assert client.stdout.readline() == line
    client.stdin.close()
    assert client.wait(60) == 0


def test_a_container_in_the_background_is_told_of_at_once(podman, tmp_path: Path) -> None:
    """``-d`` prints the id, and the files that were asked for are there."""
    cid, pid = tmp_path / "cid", tmp_path / "pid"
    options = ("--cidfile", cid, "--conmon-pidfile", pid)
    name = podman.name()
    done = podman.call("run", "-d", "--name", name, *options, IMAGE, "sleep", "1000")
    told = podman.told(name)
    assert done.stdout.decode() == f"{told['Id']}\n"
    assert cid.read_text() == told["Id"]
    assert pid.read_text() == str(told["State"]["ConmonPid"])
    assert is_alive(told["State"]["ConmonPid"])
    assert told["State"]["Status"] == "running"
    status = Path(f"/proc/{told['State']['Pid']}/cmdline").read_bytes()
    assert status == b"sleep\x001000\0"


def test_a_container_is_in_no_session_of_who_started_it(podman) -> None:
    """The terminal that ``run -d`` was called from may be closed."""
    name = podman.name()
    words = ("run", "-d", "--name", name, IMAGE, "sleep", "1000")
    starter = podman.popen(*words, start_new_session=True)
    assert starter.wait(60) == 0
    state = podman.state(name)
    sessions = {os.getsid(state["ConmonPid"]), os.getsid(podman.server(name))}
    assert not sessions & {starter.pid, os.getsid(0)}


def test_preserved_descriptors_reach_the_program(podman, tmp_path: Path) -> None:
    (tmp_path / "third").write_text("from descriptor 3")
    done = podman.call(
        "run", "--preserve-fds", 1, IMAGE, "sh", "-c", "cat <&3",
        before=("sh", "-c", 'exec 3<"$0"; exec "$@"', tmp_path / "third"),
    )  # fmt: skip
    assert done.stdout == b"from descriptor 3"


def test_a_timeout_kills_the_program(podman) -> None:
    name = podman.name()
    done = podman.call(
        "run", "--name", name, "--timeout", 1, IMAGE, "sleep", "1000", check=False
    )
    assert done.returncode == 255
    assert podman.state(name)["ExitCode"] == -1


def test_an_init_is_put_before_the_program(podman, tmp_path: Path) -> None:
    init = tmp_path / "init"
    init.write_text('#!/bin/sh\nshift\n"$@"\necho "init: $?"\nexit 3\n')
    init.chmod(0o755)
    done = podman.call(
        "run", "--init", "--init-path", init, IMAGE, "sh", "-c", "exit 9", check=False
    )
    assert (done.returncode, done.stdout) == (3, b"init: 9\n")
