"""``attachd shimmy`` under conman: its call, its report, its files, its attach."""

import json
import os
import signal

import pytest
from attachd_clients import attach_blocking
from conman import Conman
from harness import PATIENCE, is_alive, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


@pytest.fixture
def conman(shop):
    """Everything of its containers is gone afterwards."""
    made = Conman(shop)
    yield made
    made.close()


def test_a_container_lives_as_conman_expects(shop, conman) -> None:
    """Created, alive, started, logged, ended: and nothing is left but conman's own files."""
    box = conman.create("sh", "-c", "echo 'stdout line'; >&2 echo 'stderr line'")
    shim, init = conman.pid(box, "shimmy"), conman.pid(box, "container")
    assert is_alive(shim)
    assert is_alive(init)
    assert json.loads(conman.runc("state", box))["status"] == "created"
    conman.runc("start", box)

    assert conman.ended(box)["exitCode"] == 0
    conman.gone(box)
    assert not is_alive(init)
    assert {(line.stream, line.text) for line in conman.log(box)} == {
        ("stdout", "stdout line"),
        ("stderr", "stderr line"),
    }
    assert json.loads(conman.runc("state", box))["status"] == "stopped"
    assert not conman.attach_path(box).exists()
    conman.runc("delete", box)
    wait_for(lambda: not shop.processes())


def test_the_words_may_be_told_in_conmans_other_ways(conman) -> None:
    """The runtime's argument as a word of its own, and the pipe by the environment."""
    box = conman.prepare("true")
    words = []
    for word in conman.words(box):
        option, equals, value = word.partition("=")
        words += [option, value] if equals and option == "--runtime-arg" else [word]
    called = conman.call(words, variable=True)

    assert (called.code, called.stderr) == (0, b"")
    assert called.told["pid"] == conman.pid(box, "container")


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (("sh", "-c", "exit 7"), {"reason": "exited", "exitCode": 7}),
        (("sh", "-c", "exit 127"), {"reason": "exited", "exitCode": 127}),
        (("sleep", "1000"), {"reason": "signaled", "signal": 9}),
    ],
)
def test_the_exit_file_tells_how_it_ended(conman, command, ending) -> None:
    """Code or signal, never both, and one line of JSON."""
    box = conman.run(*command)
    if ending["reason"] == "signaled":
        conman.runc("kill", box, "KILL")
    found = conman.ended(box)
    at = found.pop("at")

    assert found == ending
    assert conman.exit_path(box).read_text() == json.dumps({"at": at} | ending)


def test_a_runtime_that_fails_is_reported_in_its_own_words(shop, conman) -> None:
    """conman's own test: an argument that runc does not know; the shim ends, its pid file stays."""
    box = conman.prepare("true")
    words = [word for word in conman.words(box) if not word.startswith("--runtime-arg")]
    called = conman.call([*words, "--runtime-arg", "foobar=123"])

    assert (called.code, called.stdout, called.stderr) == (0, b"", b"")
    assert called.told["kind"] == "runtime_abnormal_termination"
    assert called.told["status"] == "Runtime Exited with code 3."
    assert "No help topic for 'foobar=123'" in called.told["stderr"]
    conman.gone(box)
    assert not shop.path(box).exists()
    assert not conman.attach_path(box).exists()
    assert not conman.log_file(box).exists()
    assert not conman.exit_path(box).exists()


def test_a_program_that_is_not_there_is_reported(conman) -> None:
    """conman's own test: the runtime's words are in the report, and the shim ends."""
    box = conman.prepare("i_am_not_a_valid_executable")
    called = conman.call(conman.words(box))

    assert called.told["kind"] == "runtime_abnormal_termination"
    assert called.told["status"] == "Runtime Exited with code 1."
    assert "i_am_not_a_valid_executable" in called.told["stderr"]
    assert "executable file not found in $PATH" in called.told["stderr"]
    conman.gone(box)


def test_a_runtime_that_is_killed_is_reported_with_its_signal(shop, conman) -> None:
    """Not as a code over 128."""
    runtime = shop.scratch / "runtime"
    runtime.write_text("#!/bin/sh\nkill -TERM $$\n")
    runtime.chmod(0o755)
    conman.runtime = str(runtime)
    called = conman.call(conman.words(conman.prepare("true")))

    assert called.told["status"] == "Runtime Received signal SIGTERM."


@pytest.mark.parametrize(
    ("leave_out", "why"),
    [
        ("--bundle", "what is needed, too: --bundle"),
        ("--container-attachfile", "what is needed, too: --container-attachfile"),
    ],
)
def test_what_is_missing_is_told_at_once(shop, conman, leave_out, why) -> None:
    """One line on stderr, which conman shows, a code, and an empty pipe."""
    box = conman.prepare("true")
    words = conman.words(box)
    at = words.index(leave_out)
    called = conman.call(words[:at] + words[at + 2 :])

    assert called.code == 125
    assert called.stderr == f"attachd shimmy: {why}\n".encode()
    assert called.report == b""
    assert not shop.path(box).exists()


def test_an_attach_file_that_is_there_already_is_not_taken(shop, conman) -> None:
    """It may be another container's; nothing of this one is left."""
    box = conman.prepare("true")
    conman.attach_path(box).write_text("mine")
    called = conman.call(conman.words(box))

    assert called.code == 125
    assert str(conman.attach_path(box)).encode() in called.stderr
    assert conman.attach_path(box).read_text() == "mine"
    assert not shop.path(box).exists()
    assert not conman.log_file(box).exists()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--shimmy-pidfile", "the pid of the shim cannot be written"),
        ("--container-attachfile", "cannot make the attach file"),
        ("--container-exitfile", "the directory of the exit file"),
    ],
)
def test_a_place_that_is_not_there_is_told_and_nothing_begins(
    shop, conman, option, named
) -> None:
    """No container, no shim, no file: conman has been told that there is none."""
    box = conman.prepare("sleep", "1000")
    words = conman.words(box)
    words[words.index(option) + 1] = str(conman.home / "nowhere" / "file")
    called = conman.call(words)

    assert (called.code, called.report) == (125, b"")
    assert named in called.stderr.decode()
    wait_for(lambda: not shop.processes())
    assert not list(shop.root.iterdir())
    assert not conman.attach_path(box).exists()
    assert not conman.log_file(box).exists()
    assert box not in conman.runc("list", "-q").decode()


def test_the_pid_file_is_there_when_the_command_has_ended(conman) -> None:
    """Whatever becomes of the container: conman may look after the shim by it."""
    box = conman.prepare("true")
    conman.call(conman.words(box))

    assert conman.pid(box, "shimmy") > 0


def test_attach_before_start_hears_everything(conman) -> None:
    """create, attach, start: as ``conmanctl`` does it, down to the end of the connection."""
    box = conman.create("sh", "-c", "echo first; >&2 echo second; seq 1 20000")
    client = conman.attach(box)
    conman.runc("start", box)
    heard = client.hear_all()
    numbers = b"".join(b"%d\n" % number for number in range(1, 20001))

    assert heard == {1: b"first\n" + numbers, 2: b"second\n"}
    assert conman.exit_path(box).exists()


def test_stdin_goes_in_and_stays_open_for_the_next(conman) -> None:
    """Without --stdin-once the end of one client's input is nobody's else's."""
    box = conman.run("cat", stdin=True)
    for words in (b"one\n", b"two\n"):
        client = conman.attach(box)
        client.say(words)
        client.end_input()
        client.hear_until(1, words)
        client.peer.close()
    assert is_alive(conman.pid(box, "container"))
    conman.runc("kill", box, "KILL")
    conman.ended(box)

    assert [line.text for line in conman.log(box)] == ["one", "two"]


def test_stdin_once_ends_with_the_first_input(conman) -> None:
    """And the client hears the rest of the output all the same."""
    box = conman.run("sh", "-c", "cat; echo over", stdin=True, stdin_once=True)
    client = conman.attach(box)
    client.say(b"all\n")
    client.end_input()

    assert client.hear_all() == {1: b"all\nover\n", 2: b""}
    assert conman.ended(box)["exitCode"] == 0


@pytest.mark.parametrize("once", [False, True])
def test_without_stdin_there_is_its_end_at_once(conman, once) -> None:
    """What an attached client says is thrown away."""
    box = conman.create("sh", "-c", "cat; echo over", stdin_once=once)
    client = conman.attach(box)
    client.say(b"nobody reads this\n")
    conman.runc("start", box)

    assert client.hear_all()[1] == b"over\n"


def test_our_own_clients_see_the_same_container(shop, conman) -> None:
    """Listed, looked at, written to; beside conman's, until the container has ended."""
    box = conman.run("sh", "-c", 'read line; echo "got $line"; read more; exit 3', stdin=True)
    theirs = conman.attach(box)
    with attach_blocking(box, root=str(shop.root), since="start") as client:
        client.send(b"a line\n", PATIENCE)
        theirs.hear_until(1, b"got a line\n")
        assert box.encode() in shop.ctl("ls")
        assert b"got a line\n" in shop.ctl("logs", box)
        assert shop.reported(box)["phase"] == "running"
        theirs.say(b"and more\n")
        while not isinstance(event := client.receive(PATIENCE), say.Exit):
            pass
    assert event.record["exit_code"] == 3
    assert theirs.hear_all()[1] == b"got a line\n"
    assert conman.ended(box)["exitCode"] == 3


def test_a_server_that_is_killed_costs_conman_nothing(shop, conman) -> None:
    """Who is attached stays so: input and output go on.

    Of a death in the very moment of giving a piece the successor cannot know whether it was given,
    and gives it again: so we ask for something first, which is answered after that moment.
    """
    box = conman.run("sh", "-c", "read a; echo $a; read b; echo $b", stdin=True)
    client = conman.attach(box)
    client.say(b"before\n")
    client.hear_until(1, b"before\n")
    assert shop.reported(box)["phase"] == "running"
    os.kill(shop.server(box), signal.SIGKILL)
    client.say(b"after\n")

    assert client.hear_all() == {1: b"before\nafter\n", 2: b""}
    assert [line.text for line in conman.log(box)] == ["before", "after"]
    assert conman.ended(box)["exitCode"] == 0
    conman.gone(box)
    assert not conman.attach_path(box).exists()


def test_a_keeper_that_is_killed_costs_conman_nothing(shop, conman) -> None:
    """Its heir has the attach file, too, and writes the exit file."""
    box = conman.run("sh", "-c", "read a; echo $a; read b; echo $b; exit 5", stdin=True)
    client = conman.attach(box)
    client.say(b"before\n")
    client.hear_until(1, b"before\n")
    keeper = conman.pid(box, "shimmy")
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: shop.reported(box).get("keeper_pid") not in (keeper, None))
    other = conman.attach(box)
    other.say(b"after\n")

    assert client.hear_all()[1] == b"before\nafter\n"
    assert other.hear_all()[1] == b"after\n"
    assert conman.ended(box)["exitCode"] == 5
    assert not conman.attach_path(box).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_the_shims_signals_are_for_the_container(shop, conman, number) -> None:
    """As with shimmy: whoever stops the shim means what is in it."""
    trap = f"trap 'echo heard; exit 9' {number.name[3:]}; echo ready; read line"
    box = conman.create("sh", "-c", trap, stdin=True)
    client = conman.attach(box)
    conman.runc("start", box)
    client.hear_until(1, b"ready\n")
    os.kill(conman.pid(box, "shimmy"), number)

    assert client.hear_all()[1] == b"ready\nheard\n"
    assert conman.ended(box)["exitCode"] == 9


def test_a_torrent_is_heard_byte_for_byte_by_who_reads_as_conman(conman) -> None:
    """Both streams at once, faster than it is read: each read is one piece of one stream."""
    box = conman.create("sh", "-c", "seq 1 300000 & seq 300000 -1 1 >&2; wait")
    client = conman.attach(box)
    conman.runc("start", box)
    heard = client.hear_all()

    assert heard[1] == b"".join(b"%d\n" % n for n in range(1, 300001))
    assert heard[2] == b"".join(b"%d\n" % n for n in range(300000, 0, -1))


def test_the_exact_bytes_are_in_the_log(shop, conman) -> None:
    """What has no newline, too: our own clients read it when the ring has forgotten it."""
    box = conman.run("sh", "-c", "printf 'no end'; read line; exit 0", stdin=True)
    wait_for(lambda: b"no end" in conman.log_file(box).read_bytes())

    assert shop.ctl("logs", box) == b"no end"
    conman.runc("kill", box, "KILL")
    conman.ended(box)
