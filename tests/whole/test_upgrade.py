"""Upgrade in place: a running container goes on under other code, and nothing is lost by that."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import trio
from attachd_clients import attach
from copies import Copy
from harness import PATIENCE, Shop, is_alive, wait_for

from attachd.state.header import VERSION
from attachd.wire import messages as say

pytestmark = pytest.mark.runc

#: Says the numbers up to N, a line at a time, waits for a line, and ends with 7.
COUNTS = "i=0; while [ $i -lt $0 ]; do i=$((i+1)); echo $i; done; read x; exit 7"


@pytest.fixture
def newer(tmp_path: Path) -> Copy:
    """A really different attachd: another version, which speaks one feature more."""
    made = Copy(tmp_path / "newer")
    made.edit("attachd/__init__.py", '"0.1.0"', '"9.9.9"')
    made.edit(
        "attachd/live/connection.py", 'FEATURES = ["exec", ', 'FEATURES = ["exec", "fancy", '
    )
    made.edit(
        "clients/attachd_clients/conversation.py".removeprefix("clients/"),
        'FEATURES = ["exec", ',
        'FEATURES = ["exec", "fancy", ',
    )
    return made


def upgrade(shop: Shop, code: Copy, *words: object, check: bool = True):
    """Have the copy's own ``attachctl`` upgrade to itself."""
    return code.call(shop, "attachd_clients.ctl", "upgrade", *words, check=check)


def report(shop: Shop, box: str) -> dict:
    return json.loads(shop.ctl("stats", box))


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(1, count + 1))


def works_on(pid: int, code: Copy) -> bool:
    """True when a process has its code from there."""
    return f"PYTHONPATH={code.place}".encode() in Path(f"/proc/{pid}/environ").read_bytes()


def test_keeper_and_server_go_on_with_the_new_code_and_the_same_container(shop, newer) -> None:
    """The same pid of the keeper, socket and offsets; another server; no death is counted."""
    box = shop.run("sh", "-c", COUNTS, "1000", options=("-i",))
    before = wait_for(lambda: (r := report(shop, box))["newest"] == len(numbers(1000)) and r)
    init, socket = shop.state(box)["pid"], shop.path(box, "attach.sock").stat().st_ino

    told = upgrade(shop, newer, box)

    after = report(shop, box)
    assert told.stdout == f"{box}: version 9.9.9, server {after['server_pid']}\n".encode()
    assert (before["version"], after["version"]) == ("0.1.0", "9.9.9")
    assert (after["restarts"], after["upgrades"]) == (0, 1)
    assert after["keeper_pid"] == before["keeper_pid"] == shop.keeper(box)
    assert after["server_pid"] != before["server_pid"]
    assert after["newest"] == before["newest"]
    assert shop.path(box, "attach.sock").stat().st_ino == socket
    assert works_on(after["keeper_pid"], newer)
    assert works_on(after["server_pid"], newer)
    assert shop.state(box)["pid"] == init
    shop.ctl("send", box, "go")
    record = shop.ended(box)
    assert (record["exit_code"], record["restarts"]) == (7, 0)
    assert shop.output(box) == numbers(1000)


async def test_a_client_sees_a_pause_and_no_gap(shop, newer) -> None:
    """It resumes at its byte while the container writes all the time; the log is exact, too."""
    count = 400_000
    box = shop.run("sh", "-c", COUNTS, str(count), options=("-i", "--ring-size", 8 << 20))
    digest, welcomes = hashlib.sha256(), list[say.Welcome]()
    record: say.Record = {}
    with trio.fail_after(PATIENCE * 2):
        async with attach(box, root=str(shop.root), since="start") as client:
            upgraded = False
            async for event in client:
                assert not isinstance(event, say.Gap)
                if not welcomes or client.welcome is not welcomes[-1]:
                    welcomes.append(client.welcome)
                if isinstance(event, say.Output):
                    digest.update(event.data)
                elif isinstance(event, say.Exit):
                    record = event.record
                if not upgraded and client.offset > 50_000:
                    upgraded = True
                    await trio.to_thread.run_sync(upgrade, shop, newer, box)
                    await client.send(b"go\n")

    assert record["exit_code"] == 7
    assert len(welcomes) == 2
    exact = hashlib.sha256(numbers(count)).hexdigest()
    assert digest.hexdigest() == exact
    assert hashlib.sha256(shop.output(box)).hexdigest() == exact


async def test_what_the_new_code_has_to_offer_is_there_after_it(shop, newer) -> None:
    """The feature that only the new code knows is in its welcome, for who asks for it."""
    box = shop.run("sleep", "1000")
    upgrade(shop, newer, box)
    inspect = (
        "import sys, attachd_clients\n"
        "with attachd_clients.attach_blocking(sys.argv[1], since='none') as client:\n"
        "    print(client.welcome.features)\n"
    )
    script = newer.place / "asks.py"
    script.write_text(inspect)

    done = newer.call(shop, "asks", box)

    assert b"'fancy'" in done.stdout


def test_a_layout_that_the_new_code_does_not_know_is_refused_before_anything_stops(
    shop, newer
) -> None:
    """One line says why; the very same server goes on."""
    newer.edit("attachd/state/header.py", f"\nVERSION = {VERSION}\n", "\nVERSION = 99\n")
    box = shop.run("cat", options=("-i",))
    before = report(shop, box)

    told = upgrade(shop, newer, box, check=False)

    why = f"the container's state has layout {VERSION}, and this attachd knows 99"
    assert told.returncode == 125
    assert told.stderr == f"attachctl: {box} is not upgraded, and goes on: {why}\n".encode()
    after = report(shop, box)
    same = ("server_pid", "keeper_pid", "version", "upgrades", "restarts")
    assert [after[name] for name in same] == [before[name] for name in same]
    shop.ctl("send", box, "--eof", "still here")
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"still here\n"


@pytest.mark.parametrize("module", ["attachd/live/shim.py", "attachd/keeper/keep.py"])
def test_code_that_is_broken_is_refused_before_anything_stops(shop, newer, module) -> None:
    """The server's or the keeper's: both are loaded before anything is asked to stop."""
    newer.edit(module, "import os\n", "import os\nimport no_such_module\n")
    box = shop.run("sleep", "1000")
    before = report(shop, box)["server_pid"]

    told = upgrade(shop, newer, box, check=False)

    assert told.returncode == 125
    assert told.stderr.startswith(f"attachctl: {box} is not upgraded, and goes on: ".encode())
    assert b"no_such_module" in told.stderr
    assert report(shop, box)["server_pid"] == before


def test_execs_go_on_and_their_codes_are_known(shop, newer) -> None:
    """One that was there before ends after it, and another one is made by the new code."""
    box = shop.run("sleep", "1000")
    words = ("-i", box, "sh", "-c", "echo up; read x; exit 3")
    old = shop.popen("attachctl", "exec", *words, stdin=-1)
    assert old.stdout.readline() == b"up\n"
    upgrade(shop, newer, box)
    new = shop.popen("attachctl", "exec", *words, stdin=-1)
    assert new.stdout.readline() == b"up\n"
    for client in (old, new):
        client.communicate(b"go\n", timeout=PATIENCE)

    assert (old.returncode, new.returncode) == (3, 3)


def test_a_terminal_goes_on(shop, newer) -> None:
    """What is typed, its size, and its end."""
    box = shop.run("sh", "-c", "read x; stty size; exit 7", options=("-itd",))
    upgrade(shop, newer, box)
    shop.ctl("resize", box, "90x30")
    shop.ctl("send", box, "go")

    assert shop.ended(box)["exit_code"] == 7
    assert b"30 90" in shop.output(box)


def test_stdin_that_was_closed_stays_closed(shop, newer) -> None:
    """The new keeper does not hold it open."""
    box = shop.run("sh", "-c", "cat; echo eof; sleep 1000", options=("-i",))
    shop.ctl("send", "--eof", box, "x")
    wait_for(lambda: b"eof" in shop.output(box))
    upgrade(shop, newer, box)

    assert report(shop, box)["stdin"]["state"] == "closed"


def test_a_container_that_was_only_created_is_upgraded_and_started(shop, newer) -> None:
    """Its first byte is seen by the new code."""
    box = shop.create("sh", "-c", "echo first; exit 4")
    upgrade(shop, newer, box)
    shop.call("attachd", "start", box)

    assert shop.ended(box)["exit_code"] == 4
    assert shop.output(box) == b"first\n"


def test_all_are_upgraded_and_those_that_cannot_be_are_told(shop, newer) -> None:
    """The others are upgraded nevertheless; what has ended is left alone."""
    ended = shop.run("true")
    shop.ended(ended)
    boxes = [shop.run("sleep", "1000") for _ in range(3)]
    shop.kill_shim(boxes[1])

    told = upgrade(shop, newer, "--all", check=False)

    versions = [report(shop, box)["version"] for box in (boxes[0], boxes[2])]
    assert versions == ["9.9.9", "9.9.9"]
    assert told.returncode == 125
    assert f"the keeper of {boxes[1]} is gone: ".encode() in told.stderr
    assert ended.encode() not in told.stdout + told.stderr


def test_upgraded_again_and_back_again(shop, newer) -> None:
    """From the installed code to the copy and back, with deaths in between."""
    box = shop.run("sh", "-c", COUNTS, "50000", options=("-i",))
    upgrade(shop, newer, box)
    os.kill(report(shop, box)["server_pid"], signal.SIGKILL)
    shop.ctl("upgrade", box)
    keeper = shop.keeper(box)
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: shop.keeper(box) != keeper)
    upgrade(shop, newer, box)
    shop.ctl("send", box, "go")

    record = shop.ended(box)
    assert record["exit_code"] == 7
    same = hashlib.sha256(shop.output(box)).digest() == hashlib.sha256(numbers(50000)).digest()
    assert same


def test_an_exit_at_that_moment_is_known(shop, newer) -> None:
    """The container ends while neither old nor new server is there."""
    box = shop.run("sh", "-c", "read x; exit 7", options=("-i",))
    server, init = report(shop, box)["server_pid"], shop.state(box)["pid"]
    os.kill(server, signal.SIGSTOP)  # it cannot stop when it is asked: the keeper waits for it
    upgrading = newer.place / "order.py"
    upgrading.write_text(
        "import sys\nfrom attachd_clients.places import Place\n"
        "from attachd_clients.upgrade import upgrade\n"
        "print(upgrade(Place.find(sys.argv[1]))['version'])\n"
    )
    Path(f"/proc/{init}/fd/0").write_text("go\n")
    done = newer.call(shop, "order", box)

    assert done.stdout == b"9.9.9\n"
    assert shop.ended(box)["exit_code"] == 7


def test_a_keeper_that_is_killed_when_the_old_server_has_stopped_loses_nothing(shop) -> None:
    """Until there is another server all output is in the log and in the container's own pipes.

    Without `Program.settle` what was in the ring alone is lost.
    """
    data = b"".join(b"line %d\n" % i for i in range(1_500_000))
    says = "cat /data; while ! [ -e /go ]; do sleep 0.05; done; exit 7"
    bundle, box = shop.bundle("sh", "-c", says), shop.name()
    (bundle / "rootfs/data").write_bytes(data)
    shop.call("attachd", "create", "--ring-size", 32 << 20, "--bundle", bundle, box)
    told, log = report(shop, box), shop.path(box, "log/container.log")
    keeper, server = told["keeper_pid"], told["server_pid"]
    os.kill(keeper, signal.SIGSTOP)
    shop.call("attachd", "start", box)
    wait_for(lambda: log.stat().st_size > 1_000_000)
    os.kill(server, signal.SIGTERM)
    wait_for(lambda: not is_alive(server))
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not is_alive(keeper))
    shop.call("attachd", "recover", box)
    (bundle / "rootfs/go").touch()

    record = shop.ended(box)
    assert (record["exit_code"], record["offset"]) == (7, len(data))
    said = hashlib.sha256(shop.output(box)).hexdigest()
    assert said == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "wrong", [{"python": "python3"}, {"package": "."}, {"python": "/bin/no-such-python"}]
)
def test_a_refusal_is_told_to_who_has_asked(shop, wrong) -> None:
    """The answer has the order's token, or its sender would wait for it in vain."""
    box = shop.run("sleep", "1000")
    before = report(shop, box)["server_pid"]
    order = {"python": sys.executable, "package": "/usr", "token": "this"} | wrong
    shop.path(box, "upgrade.json").write_text(json.dumps(order))
    os.kill(shop.keeper(box), signal.SIGHUP)
    answer = shop.path(box, "upgrade-answer.json")
    wait_for(answer.exists)

    told = json.loads(answer.read_text())
    assert told["token"] == "this"
    assert told["refusal"]
    assert report(shop, box)["server_pid"] == before


def test_two_at_once_are_done_one_after_the_other(shop) -> None:
    """None takes the other's order away, and waits for an answer that never comes."""
    box = shop.run("sleep", "1000")
    both = [shop.popen("attachctl", "upgrade", box) for _ in range(2)]
    for one in both:
        _, words = one.communicate(timeout=PATIENCE)
        assert (one.returncode, words) == (0, b"")
    assert report(shop, box)["upgrades"] == 2


def test_no_descriptor_is_left_over(shop) -> None:
    """However often it is done, at the keeper and at the server."""
    box, counts = shop.run("sleep", "1000"), list[tuple[int, int]]()
    for _ in range(3):
        shop.ctl("upgrade", box)
        told = report(shop, box)
        pids = (told["keeper_pid"], told["server_pid"])
        counts.append(tuple(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids))
    assert counts[0] == counts[1] == counts[2]
