"""The keeper is killed, too: the server has an heir made, and nothing is lost by that."""

import hashlib
import json
import os
import random
import signal
from pathlib import Path

import pytest
from harness import wait_for

pytestmark = pytest.mark.runc

SEED = 20261125

#: Says the numbers up to N, waits for a line, and ends with 7.
COUNTS = "i=0; while [ $i -lt $0 ]; do i=$((i+1)); echo $i; done; read x; exit 7"


def kill_keeper(shop, box: str) -> int:
    """Kill the keeper; return the pid of its heir as soon as that is known.

    Not before there is a server: nobody else would see it.
    """
    server_of(shop, box)
    before = shop.keeper(box)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: shop.keeper(box) != before)
    return shop.keeper(box)


def kill_server(shop, box: str) -> None:
    """Kill the server; return when there is another one."""
    before = wait_for(lambda: shop.ctl("stats", box) and server_of(shop, box))
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: server_of(shop, box) != before)


def server_of(shop, box: str) -> int:
    return json.loads(shop.ctl("stats", box))["server_pid"]


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(1, count + 1))


def test_keeper_and_server_are_killed_in_turn_and_nothing_is_lost(shop) -> None:
    """Output, log and exit code are exact; the heir of an heir is as good.

    Without `Strangers.add` in `keeper.heir` the exit is unknown, without `Post.kept` a server
    that comes after the heir has no log.
    """
    chance, count = random.Random(SEED), 60_000
    box = shop.run("sh", "-c", COUNTS, str(count), options=("-i",))
    for _ in range(4):
        chance.choice((kill_keeper, kill_server))(shop, box)
    kill_keeper(shop, box)
    kill_server(shop, box)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == len(numbers(count)))
    shop.ctl("send", box, "go")

    record = shop.ended(box)
    assert (record["reason"], record["exit_code"]) == ("exited", 7)
    said = hashlib.sha256(shop.output(box)).digest()
    assert said == hashlib.sha256(numbers(count)).digest()


def test_the_exit_is_known_when_only_the_heir_has_seen_it(shop) -> None:
    """The server is dead at that moment, and the keeper long gone."""
    box = shop.run("sh", "-c", "read x; exit 7", options=("-i",))
    heir = kill_keeper(shop, box)
    server, init = server_of(shop, box), shop.state(box)["pid"]
    os.kill(server, signal.SIGSTOP)
    os.kill(heir, signal.SIGSTOP)
    Path(f"/proc/{init}/fd/0").write_text("go\n")
    wait_for(lambda: "Z" in state_of(init) or not state_of(init))
    os.kill(server, signal.SIGKILL)
    os.kill(heir, signal.SIGCONT)

    assert shop.ended(box)["exit_code"] == 7


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_terminal_goes_on_under_an_heir(shop) -> None:
    """What is typed, its size, and its end."""
    box = shop.run("sh", "-c", "read x; stty size; exit 7", options=("-itd",))
    kill_keeper(shop, box)
    kill_server(shop, box)
    shop.ctl("resize", box, "90x30")
    shop.ctl("send", box, "go")

    assert shop.ended(box)["exit_code"] == 7
    assert b"30 90" in shop.output(box)


def test_execs_go_on_under_an_heir_and_new_ones_are_its_own(shop) -> None:
    """Each one's exit code is known, also after the next death of a server."""
    box = shop.run("sleep", "1000")
    old = shop.popen("attachctl", "exec", "-i", box, "sh", "-c", "echo up; read x; exit 3",
                     stdin=-1)  # fmt: skip
    assert old.stdout.readline() == b"up\n"
    kill_keeper(shop, box)
    new = shop.popen("attachctl", "exec", "-i", box, "sh", "-c", "echo up; read x; exit 4",
                     stdin=-1)  # fmt: skip
    assert new.stdout.readline() == b"up\n"
    kill_server(shop, box)
    for client in (old, new):
        client.communicate(b"go\n", timeout=60)

    assert (old.returncode, new.returncode) == (3, 4)


def test_files_name_the_heir(shop) -> None:
    """state.json, keeper.pid, --keeper-pid-file, and what the shim reports."""
    file = shop.scratch / "keeper.pid"
    box = shop.run("sleep", "1000", options=("--keeper-pid-file", file))
    heir = kill_keeper(shop, box)

    wait_for(lambda: int(file.read_text()) == heir)
    assert int(shop.path(box, "keeper.pid").read_text()) == heir
    assert json.loads(shop.ctl("stats", box))["keeper_pid"] == heir
    assert "attachd.keeper.heir" in Path(f"/proc/{heir}/cmdline").read_text()


def test_sigterm_to_the_heir_reaches_the_container(shop) -> None:
    """As to any keeper: managers know this pid."""
    script = "trap 'exit 9' TERM; echo up; while :; do sleep 0.1; done"
    box = shop.run("sh", "-c", script)
    wait_for(lambda: b"up" in shop.output(box))
    os.kill(kill_keeper(shop, box), signal.SIGTERM)

    assert shop.ended(box)["exit_code"] == 9


def test_stdin_that_was_closed_stays_closed(shop) -> None:
    """Neither the heir nor a server of its holds it open."""
    box = shop.run("sh", "-c", "cat; sleep 1000", options=("-i",))
    shop.ctl("send", "--eof", box)
    kill_keeper(shop, box)
    kill_server(shop, box)

    report = json.loads(shop.ctl("stats", box))
    assert report["stdin"]["state"] == "closed"
    init = shop.state(box)["pid"]
    pipe = os.readlink(f"/proc/{init}/fd/0")
    holders = [shop.keeper(box), report["server_pid"]]
    assert pipe not in [
        os.readlink(fd) for pid in holders for fd in Path(f"/proc/{pid}/fd").iterdir()
    ]


def test_a_log_that_is_rotated_under_an_heir_is_the_next_servers_too(shop) -> None:
    """The new file's descriptor is at the heir."""
    box = shop.run("sh", "-c", "while read x; do echo $x; done; exit 7", options=("-i",))
    kill_keeper(shop, box)
    shop.ctl("send", box, "one")
    wait_for(lambda: b"one" in shop.log(box))
    shop.ctl("rotate", box)
    kill_server(shop, box)
    shop.ctl("send", box, "two")
    wait_for(lambda: b"two" in shop.log(box))
    shop.ctl("send", "--eof", box)

    assert shop.ended(box)["exit_code"] == 7
    assert shop.ctl("logs", box) == b"one\ntwo\n"
