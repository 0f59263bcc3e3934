"""Requirement 10: the keeper starts a killed server again, and nothing is lost."""

import hashlib
import json
import os
import random
import signal
from pathlib import Path

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE, wait_for

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
            events = [event async for event in client]

    assert events[0].data.split()[0].decode() == hashlib.sha256(data).hexdigest()
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
