"""Requirement 10: the keeper starts a killed server again, and nothing is lost."""

import hashlib
import json
import os
import random
import signal
from pathlib import Path

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, cri_streams, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


def kill_server(shop, box: str) -> bool:
    """Kill the server with SIGKILL; False when there is none just now."""
    pid = shop.server(box)
    if pid:
        os.kill(pid, signal.SIGKILL)
    return bool(pid)


@pytest.mark.slow
async def test_output_survives_the_servers_death(shop) -> None:
    """Log, client and exit record are exact over a handful of kills at random moments."""
    bundle = shop.bundle("sh", "-c", "cat /data /data; exit 3")
    data = os.urandom(500_000) + b"\n".join(b"line %d" % i for i in range(3_000_000))
    (bundle / "rootfs/data").write_bytes(data)
    box = shop.name()
    ring = ("--ring-size", 128 << 20, "--linger", 20)
    shop.call("attachd", "create", *ring, "--bundle", bundle, box)
    digest, kills, chance = hashlib.sha256(), 0, random.Random(2)
    record: say.Record = {}

    async def storm() -> None:
        nonlocal kills
        while kills < 6 and not shop.path(box, "exit.json").exists():
            await trio.sleep(chance.uniform(0.02, 0.2))
            kills += kill_server(shop, box)

    with trio.fail_after(PATIENCE * 2):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm)
                async for event in client:
                    assert not isinstance(event, say.Gap)
                    if isinstance(event, say.Output):
                        digest.update(event.data)
                    elif isinstance(event, say.Exit):
                        record = event.record
                nursery.cancel_scope.cancel()

    assert record["exit_code"] == 3
    assert record["bytes"]["stdout"] == len(data) * 2
    assert kills >= record["restarts"] >= 1
    assert digest.hexdigest() == hashlib.sha256(data * 2).hexdigest()
    assert shop.output(box) == data * 2


@pytest.mark.slow
async def test_stdin_survives_the_servers_death(shop) -> None:
    """What a client feeds arrives once and in order, over kills at random moments."""
    data = os.urandom(8_000_000)
    box = shop.run("sha256sum", options=("-i",))
    chance = random.Random(3)
    finished = trio.Event()

    async def storm() -> None:
        for _ in range(5):
            await trio.sleep(chance.uniform(0.05, 0.3))
            if finished.is_set():
                return
            kill_server(shop, box)

    with trio.fail_after(PATIENCE * 2):
        async with attach(box, root=str(shop.root), since="start") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm)
                for at in range(0, len(data), 100_000):
                    await client.send(data[at : at + 100_000])
                    await trio.sleep(0.005)
                finished.set()
                await client.send_eof()
            # The end of one stream may be seen before the last bytes of the other.
            outputs = [event.data async for event in client if isinstance(event, say.Output)]

    assert b"".join(outputs).split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert json.loads(shop.path(box, "exit.json").read_text())["restarts"] >= 1


def test_a_death_between_create_and_start_loses_nothing(shop) -> None:
    """The next server starts the container."""
    box = shop.create("sh", "-c", "echo here; exit 4")
    wait_for(lambda: kill_server(shop, box))
    shop.call("attachd", "start", box)

    assert shop.ended(box)["exit_code"] == 4
    assert shop.output(box) == b"here\n"


def test_an_exit_while_the_server_is_dead_is_told_by_the_next(shop) -> None:
    """The keeper notes the exit; the code is exact."""
    box = shop.run("sh", "-c", "sleep 0.3; exit 42")
    for _ in range(10):
        kill_server(shop, box)
    assert shop.ended(box)["exit_code"] == 42


def test_no_zombie_is_left(shop) -> None:
    """Every child of the keeper is reaped: dead servers, orphans, the container."""
    box = shop.run("sh", "-c", "sleep 1000")
    keeper = shop.keeper(box)
    for _ in range(3):
        before = wait_for(lambda: shop.server(box))
        os.kill(before, signal.SIGKILL)
        wait_for(lambda before=before: shop.server(box) not in (0, before))

    def states() -> list[str]:
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        return [
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
            for pid in children
        ]

    wait_for(lambda: "Z" not in states() and len(states()) == 2)


def test_the_container_dies_with_an_unknown_end_only_where_nobody_can_tell(shop) -> None:
    """With the keeper killed the server still learns the exit: exact, or honestly unknown."""
    box = shop.run("sh", "-c", "echo up; sleep 1; exit 9")
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    os.kill(shop.keeper(box), signal.SIGKILL)
    record = shop.ended(box)

    assert (record["reason"], record["exit_code"]) in (("exited", 9), ("unknown", None))


def restart_server(shop, box: str) -> int:
    """Kill the server and wait for its successor; return that one's pid."""
    before = wait_for(lambda: shop.server(box))
    os.kill(before, signal.SIGKILL)
    return wait_for(lambda: shop.server(box) not in (0, before) and shop.server(box))


@pytest.mark.slow
async def test_cat_survives_the_servers_death_in_both_directions(shop) -> None:
    """stdin through cat to stdout, over kills: log, client and record are exact."""
    data = random.Random(7).randbytes(12_000_000)
    bundle = shop.bundle("cat")
    box, chance, finished = shop.name(), random.Random(4), trio.Event()
    options = ("-i", "--ring-size", 64 << 20, "--log", f"raw:{shop.scratch}/raw.log")
    shop.call("attachd", "run", *options, "--bundle", bundle, box)
    kills, received, record = 0, bytearray(), {}

    async def storm() -> None:
        nonlocal kills
        while kills < 6 and not finished.is_set():
            await trio.sleep(chance.uniform(0.05, 0.3))
            kills += kill_server(shop, box)

    async def write(client) -> None:
        for at in range(0, len(data), 100_000):
            await client.send(data[at : at + 100_000])
            await trio.sleep(0.005)
        finished.set()
        await client.send_eof()

    with trio.fail_after(PATIENCE * 2):
        async with attach(box, root=str(shop.root), since="start") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm)
                nursery.start_soon(write, client)
                async for event in client:
                    assert not isinstance(event, say.Gap)
                    if isinstance(event, say.Output):
                        assert event.offset == len(received)
                        received += event.data
                    elif isinstance(event, say.Exit):
                        record = event.record

    assert kills >= record["restarts"] >= 1
    assert (record["exit_code"], record["drained"]) == (0, True)
    assert record["bytes"] == {"stdout": len(data), "stderr": 0}
    assert bytes(received) == data
    assert (shop.scratch / "raw.log").read_bytes() == data


@pytest.mark.slow
def test_attach_and_the_logs_show_both_streams_exactly_across_deaths(shop) -> None:
    """The programs, not the library: nobody at the terminal notices anything."""
    bundle = shop.bundle("sh", "-c", "cat /err >&2 & cat /out; wait; exit 9")
    out = b"".join(b"out %d\n" % i for i in range(1_500_000))
    err = b"".join(b"err %d\n" % i for i in range(1_500_000))
    (bundle / "rootfs/out").write_bytes(out)
    (bundle / "rootfs/err").write_bytes(err)
    box = shop.name()
    raw = shop.scratch / "raw.log"
    logs = ("--log", shop.scratch / "cri.log", "--log", f"raw:{raw}")
    shop.call("attachd", "create", "--ring-size", 64 << 20, *logs, "--bundle", bundle, box)
    seen = [shop.scratch / "seen.out", shop.scratch / "seen.err"]
    with seen[0].open("wb") as stdout, seen[1].open("wb") as stderr:
        words = ("attach", "--from", "start", box)
        client = shop.popen(*words, stdout=stdout, stderr=stderr)
        shop.call("attachd", "start", box)
        kills, end = 0, shop.path(box, "exit.json")
        while kills < 5 and not end.exists():
            size = raw.stat().st_size
            wait_for(lambda size=size: raw.stat().st_size > size or end.exists())
            kills += kill_server(shop, box)
        client.wait(PATIENCE)
    record = shop.ended(box)

    assert client.returncode == record["exit_code"] == 9
    assert kills >= record["restarts"] >= 1
    # Compared before the assertion: pytest's diff of megabytes would take minutes.
    exact = [path.read_bytes() == data for path, data in zip(seen, (out, err), strict=True)]
    assert exact == [True, True]
    streams = cri_streams((shop.scratch / "cri.log").read_bytes())
    assert [streams["stdout"] == out, streams["stderr"] == err] == [True, True]
    assert raw.stat().st_size == len(out) + len(err)


def test_every_restart_is_counted(shop) -> None:
    """Three deaths, three restarts: in the counters and in the record."""
    box = shop.run("cat", options=("-i",))
    for count in (1, 2, 3):
        restart_server(shop, box)
        assert json.loads(shop.ctl("stats", box))["restarts"] == count
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send_eof(PATIENCE)

    assert shop.ended(box)["restarts"] == 3


def test_an_open_line_is_neither_lost_nor_doubled_by_a_death(shop) -> None:
    """A prompt is in the log, the server dies, the line goes on."""
    box = shop.run("sh", "-c", "printf 'name? '; read x; echo hello $x", options=("-i",))
    path = shop.path(box, "log/container.log")
    wait_for(lambda: path.exists() and path.read_bytes().endswith(b"stdout P name? \n"))
    restart_server(shop, box)
    shop.call("attach", "--from", "live", box, input=b"you\n")
    shop.ended(box)

    assert shop.output(box) == b"name? hello you\n"


def test_a_timeout_and_a_closed_stdin_survive_a_death(shop) -> None:
    """What was ordered before it happens after it."""
    timed = shop.run("sleep", "1000", options=("--timeout", "1"))
    closed = shop.run("sh", "-c", "cat; echo eof; sleep 1000", options=("-i",))
    with attach_blocking(closed, root=str(shop.root), since="none") as client:
        client.send_eof(PATIENCE)
    restart_server(shop, timed)
    restart_server(shop, closed)

    assert shop.ended(timed)["reason"] == "timeout"
    wait_for(lambda: shop.output(closed) == b"eof\n")
    assert json.loads(shop.ctl("stats", closed))["stdin"]["state"] == "closed"


def test_a_death_after_the_record_changes_nothing_of_it(shop) -> None:
    """exit.json stays as it was written; the next server tells the same; the hook ran once."""
    seen = shop.scratch / "seen"
    hook = shop.scratch / "hook"
    hook.write_text(f"#!/bin/sh\necho ran >>{seen}\n")
    hook.chmod(0o755)
    options = ("--linger", "20", "--exit-command", hook)
    box = shop.run("sh", "-c", "echo x; exit 5", options=options)
    shop.ended(box)
    wait_for(seen.exists)
    before = shop.path(box, "exit.json").read_bytes()
    for _ in range(3):
        restart_server(shop, box)
    with attach_blocking(box, root=str(shop.root), since="start") as client:
        told = list(client)
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.release(PATIENCE)
    wait_for(lambda: not shop.processes())

    assert told[0].data == b"x\n"
    assert told[-1].record == json.loads(before)
    assert shop.path(box, "exit.json").read_bytes() == before
    assert shop.output(box) == b"x\n"
    assert seen.read_text() == "ran\n"


def test_attach_before_start_across_a_death(shop) -> None:
    """The client of a created container waits for the next server and sees the first byte."""
    box = shop.create("sh", "-c", "echo first; exit 3")
    early = shop.popen("attach", "--from", "start", box)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["clients"][0]["name"] != "attachctl")
    restart_server(shop, box)
    shop.call("attachd", "start", box)
    out, _ = early.communicate(timeout=PATIENCE)

    assert (out, early.returncode) == (b"first\n", 3)


def test_an_orphan_of_the_container_is_reaped(shop) -> None:
    """What outlives init becomes the keeper's child, and no zombie of its."""
    bundle = shop.bundle("sh", "-c", "(sleep 0.4; exit 1) >/dev/null 2>&1 & sleep 0.1; exit 0")
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    shop.call("attachd", "run", "--linger", "2", "--bundle", bundle, box)
    keeper = shop.keeper(box)
    shop.ended(box)

    def children() -> list[str]:
        return Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()

    wait_for(lambda: children() == [str(shop.server(box))])
