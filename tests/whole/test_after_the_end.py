"""Requirement 11: after the end the files answer: last output, exit code, no hang."""

import json

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.errors import AttachdError
from attachd.wire import messages as say

pytestmark = pytest.mark.runc

SCRIPT = "for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 7"
OUT, ERR = b"out 1\nout 2\nout 3\n", b"err 1\nerr 2\nerr 3\n"


def ended(shop, *options: object) -> str:
    """Return a container whose shim is gone."""
    box = shop.run("sh", "-c", SCRIPT, options=("--linger", "0", *options))
    shop.ended(box)
    wait_for(lambda: not shop.processes())
    return box


def test_no_socket_is_left_and_the_files_are(shop) -> None:
    """exit.json, state.json, the log; phase stopped."""
    box = ended(shop)

    assert not shop.path(box, "attach.sock").exists()
    assert shop.state(box)["phase"] == "stopped"
    assert json.loads(shop.ctl("ls", "--json"))[0]["phase"] == "stopped"
    assert json.loads(shop.path(box, "exit.json").read_text())["exit_code"] == 7


@pytest.mark.parametrize(
    "since", ["start", "live", "none", "tail:2", "offset:12", "offset:36"]
)
async def test_both_clients_get_the_end_in_order(shop, since) -> None:
    """Output, eof of each stream, exit: the same events, blocking and not, and then nothing."""
    box = ended(shop)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since=since) as client:
            events = [event async for event in client]
            assert await client.receive() is None
    with attach_blocking(box, root=str(shop.root), since=since) as blocking:
        assert list(blocking) == events

    outputs = [event for event in events if isinstance(event, say.Output)]
    assert [type(event) for event in events[len(outputs) :]] == (
        [say.Exit] if since == "none" else [say.Eof, say.Eof, say.Exit]
    )
    assert events[-1].record["exit_code"] == 7
    size = sum(len(event.data) for event in outputs)
    expected = {"start": 36, "tail:2": 12, "offset:12": 24}
    assert size == expected.get(since, 0)


@pytest.mark.parametrize(
    ("words", "code", "out"),
    [
        (("attachctl", "wait", "BOX"), 0, b"7\n"),
        (("attachctl", "wait", "BOX", "BOX"), 0, b"7\n7\n"),
        (("attachctl", "logs", "BOX"), 0, OUT),
        (("attachctl", "logs", "-f", "BOX"), 0, OUT),
        (("attach", "BOX"), 7, OUT),
        (("attach", "--from", "start", "BOX"), 7, OUT),
        (("attach", "--from", "live", "BOX"), 7, b""),
        (("attach", "--read-only", "--from", "offset:36", "BOX"), 7, b""),
        (("attachctl", "kill", "BOX"), 125, b""),
        (("attachctl", "stats", "BOX"), 125, b""),
        (("attachctl", "start", "BOX"), 125, b""),
        (("attachd", "start", "BOX"), 125, b""),
    ],
)
def test_every_verb_answers_at_once(shop, words, code, out) -> None:
    """What needs a shim is refused in one line; the rest reads the files."""
    box = ended(shop)
    words = [box if word == "BOX" else word for word in words]
    done = shop.call(*words, check=False, timeout=10)

    assert (done.returncode, done.stdout) == (code, out)
    if code == 125:
        assert done.stderr.count(b"\n") == 1
        assert b"Traceback" not in done.stderr


def test_stdin_for_a_container_that_has_ended_goes_nowhere(shop) -> None:
    """`attach` with a full pipe on its stdin ends with the code, without an error."""
    box = ended(shop, "-i")
    done = shop.call("attach", "--from", "start", box, check=False, input=b"x" * 100_000)

    assert (done.returncode, done.stdout, done.stderr) == (7, OUT, ERR)


def test_inspect_tells_the_state_and_the_record(shop) -> None:
    """And no shim."""
    box = ended(shop)
    found = json.loads(shop.ctl("inspect", box))

    assert set(found) == {"state", "exit", "execs"}
    assert found["state"]["id"] == box
    assert found["exit"] == json.loads(shop.path(box, "exit.json").read_text())


def test_a_raw_log_answers_with_all_bytes(shop) -> None:
    """It does not know the streams; nothing is lost."""
    box = ended(shop, "--log", f"raw:{shop.scratch}/raw")
    done = shop.call("attach", "--from", "start", box, check=False)

    assert done.returncode == 7
    assert sorted(done.stdout.splitlines()) == sorted((OUT + ERR).splitlines())


def test_without_a_log_the_code_is_still_told(shop) -> None:
    """By wait; attach and logs say in one line why they have nothing, and do not hang."""
    box = ended(shop, "--log", "none")
    assert shop.ctl("wait", box) == b"7\n"
    for words in (("attach", "--from", "start", box), ("attachctl", "logs", box)):
        done = shop.call(*words, check=False, timeout=10)
        assert done.returncode in (7, 125)
        assert b"keeps no log" in done.stderr
        assert done.stderr.count(b"\n") == 1


def test_after_rm_of_the_runtime_the_files_still_answer(shop) -> None:
    """--rm deletes from runc, not from us."""
    box = ended(shop, "--rm")

    assert shop.ctl("logs", box) == OUT
    assert shop.ctl("wait", box) == b"7\n"


def test_while_the_shim_lingers_the_answers_are_the_same(shop) -> None:
    """Its last seconds: from the ring instead of the files."""
    box = shop.run("sh", "-c", SCRIPT, options=("--linger", "30"))
    shop.ended(box)
    done = shop.call("attach", "--from", "start", box, check=False)

    assert shop.path(box, "attach.sock").exists()
    assert (done.returncode, done.stdout, done.stderr) == (7, OUT, ERR)
    assert shop.call("attachctl", "logs", "-f", box).stdout == OUT
    assert shop.ctl("wait", box) == b"7\n"
    assert b"stopped" in shop.call("attachctl", "kill", box, check=False).stderr


def test_a_waiter_that_came_before_the_end_gets_the_code(shop) -> None:
    """`attachctl wait` blocks until then."""
    box = shop.run("sh", "-c", "read x; exit 9", options=("-i", "--linger", "0"))
    waiter = shop.popen("attachctl", "wait", box)
    wait_for(lambda: len(json.loads(shop.ctl("stats", box))["clients"]) == 2)
    assert waiter.poll() is None
    shop.call("attach", "--from", "live", box, input=b"\n", check=False)

    assert waiter.communicate(timeout=PATIENCE)[0] == b"9\n"


def test_a_container_whose_whole_shim_was_killed_is_lost_and_nobody_hangs(shop) -> None:
    """Keeper and server gone at once: ls says lost, the others say so in one line, rm removes."""
    box = shop.run("sh", "-c", "echo up; sleep 1000")
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    init = shop.state(box)["pid"]
    shop.kill_shim(box)
    wait_for(lambda: not shop.processes())

    assert json.loads(shop.ctl("ls", "--json"))[0]["phase"] == "lost"
    for words in (("attach", box), ("attachctl", "wait", box), ("attachctl", "stats", box)):
        done = shop.call(*words, check=False, timeout=20)
        assert done.returncode == 125
        assert done.stderr.count(b"\n") == 1
    with pytest.raises(AttachdError):
        with attach_blocking(box, root=str(shop.root)):
            pass
    shop.ctl("rm", "--force", box)
    assert not shop.path(box).exists()
    wait_for(lambda: is_dead(init))


def test_the_log_of_a_lost_container_can_be_read(shop) -> None:
    """Nobody knows how it ended, but what it said is there."""
    box = shop.run("sh", "-c", "echo last words; sleep 1000")
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    shop.kill_shim(box)
    wait_for(lambda: not shop.processes())
    done = shop.call("attachctl", "logs", box, check=False, timeout=20)

    assert done.stdout == b"last words\n"


def is_dead(pid: int) -> bool:
    """True for a zombie, too: the container's parent was killed, and init reaps when it likes."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
