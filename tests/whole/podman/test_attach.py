"""``podman create``, ``start`` and ``attach``: who comes and goes while the container runs.

Podman 4.3's ``attach`` does not end with the container's exit code; ``start -a`` and ``run`` do.
"""

import pytest
from harness import wait_for
from podman_host import IMAGE

pytestmark = pytest.mark.runc

#: A program that a signal ends as it does any other: it is not the init of its namespace.
MORTAL = ("--pid", "host")


def type_line(client, line: bytes) -> None:
    """Type a line and read it back: then the client is surely attached, and it is an echo."""
    client.stdin.write(line)
    assert client.stdout.readline() == line


def test_start_a_tells_everything_from_the_start(podman) -> None:
    name = podman.create("sh", "-c", "echo out; echo err >&2; exit 7")
    assert podman.state(name)["Status"] == "created"
    done = podman.call("start", "-a", name, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")


def test_a_container_starts_again_with_a_log_that_goes_on(podman) -> None:
    name = podman.create("sh", "-c", "echo started")
    for _ in range(2):
        assert podman.call("start", "-a", name).stdout == b"started\n"
    assert podman.call("logs", name).stdout == b"started\n" * 2


def test_start_ai_gives_the_program_stdin(podman) -> None:
    name = podman.create("cat", options=("-i",))
    assert podman.call("start", "-ai", name, input=b"typed\n").stdout == b"typed\n"


def test_a_container_may_wait_between_its_creation_and_its_start(podman) -> None:
    """``podman init`` starts the shim and ``runc create``: the program has not run yet."""
    name = podman.create("echo", "ran")
    podman.call("init", name)
    state = podman.state(name)
    assert state["Status"] == "initialized"
    assert state["ConmonPid"]
    assert podman.log(name) == b""
    podman.call("start", name)
    assert podman.ended(name) == 0
    assert podman.output(name) == b"ran\n"


def test_all_who_are_attached_see_what_anyone_types(podman) -> None:
    name = podman.run("cat", options=("-i",))
    clients = []
    for line in (b"one\n", b"two\n", b"three\n"):
        clients.append(podman.popen("attach", name, stdin=-1))
        clients[-1].stdin.write(line)
        assert [client.stdout.readline() for client in clients] == [line] * len(clients)
    podman.call("kill", name)
    assert [client.wait(60) for client in clients] == [0] * 3
    assert podman.output(name) == b"one\ntwo\nthree\n"


def test_the_end_of_the_only_clients_stdin_ends_the_programs(podman) -> None:
    name = podman.run("cat", options=("-i",))
    client = podman.popen("attach", name, stdin=-1)
    type_line(client, b"typed\n")
    client.stdin.close()
    assert client.wait(60) == 0
    assert podman.ended(name) == 0


def test_who_attaches_gets_the_streams_apart(podman, gate) -> None:
    """As they come after it is there, to the last byte; what was before is in the log."""
    command = "echo before; cat; read go </gate/fifo; echo out; echo err >&2; exit 7"
    name = podman.run("sh", "-c", command, options=("-i", *gate.options))
    wait_for(lambda: podman.output(name) == b"before\n")
    client = podman.popen("attach", name, stdin=-1)
    type_line(client, b"here\n")
    client.stdin.close()
    gate.let_pass()
    assert client.stdout.read() == b"out\n" + b"\n"  # the second is Podman's own
    assert client.stderr.read() == b"err\n"
    assert client.wait(60) == 0
    assert podman.ended(name) == 7
    assert podman.output(name) == b"before\nhere\nout\n"


def test_a_client_that_dies_is_no_trouble_to_the_container(podman, gate) -> None:
    name = podman.run("sh", "-c", "cat; read go </gate/fifo; seq 50000",
                      options=("-i", *gate.options))  # fmt: skip
    client = podman.popen("attach", name, stdin=-1)
    type_line(client, b"here\n")
    client.kill()
    gate.let_pass()
    assert podman.ended(name) == 0
    assert podman.output(name) == b"here\n" + b"".join(b"%d\n" % n for n in range(1, 50001))


def test_a_signal_to_an_attached_podman_reaches_the_program(podman) -> None:
    name = podman.run("cat", options=("-i", *MORTAL))
    client = podman.popen("attach", name, stdin=-1)
    type_line(client, b"here\n")
    client.terminate()
    assert podman.ended(name) == 143
    assert client.wait(60) == 0


def test_nobody_attaches_to_a_container_that_has_ended(podman) -> None:
    name = podman.run("true")
    podman.ended(name)
    done = podman.call("attach", name, check=False)
    assert done.returncode == 125
    assert b"running" in done.stderr


def test_an_attached_client_of_a_container_without_stdin_only_looks_on(podman, gate) -> None:
    """What it types goes nowhere, and does not keep it from the output and the end."""
    name = podman.create(
        "sh", "-c", "read go </gate/fifo; cat; echo done", options=gate.options
    )
    client = podman.popen("start", "-a", name, stdin=-1)
    client.stdin.write(b"typed\n")
    gate.let_pass()
    assert podman.ended(name) == 0
    assert podman.output(name) == b"done\n"
    assert client.wait(60) == 0


def test_run_and_attach_see_the_same(podman) -> None:
    """Who has started the container and who came later, both with all that came since."""
    name = podman.name()
    starter = podman.popen("run", "-i", "--name", name, IMAGE, "cat", stdin=-1)
    type_line(starter, b"first\n")
    later = podman.popen("attach", name, stdin=-1)
    later.stdin.write(b"second\n")
    assert starter.stdout.readline() == later.stdout.readline() == b"second\n"
    podman.call("kill", name)
    assert [starter.wait(60), later.wait(60)] == [137, 0]
