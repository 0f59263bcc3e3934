"""Requirements 4, 5 and 9: attach before start, many clients, and an ordered end."""

import json
import os
import signal
import subprocess

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


async def collect(client) -> list:
    """Return every event until the end."""
    return [event async for event in client]


def joined(events, stream="stdout") -> bytes:
    return b"".join(e.data for e in events if isinstance(e, say.Output) and e.stream == stream)


async def test_a_client_attached_before_start_sees_the_first_byte(shop) -> None:
    """create, attach with from=start, start."""
    box = shop.create("sh", "-c", "echo first; echo second")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            assert client.welcome.phase == "created"
            await client.start()
            events = await collect(client)

    assert joined(events) == b"first\nsecond\n"


def test_a_late_client_gets_everything_since_the_beginning(shop) -> None:
    """from=start, tail:N and offset:N, while it runs."""
    box = shop.run("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1000")
    wait_for(lambda: shop.log(box).count(b"\n") == 5)

    def seen(since: str, size: int) -> bytes:
        data = b""
        with attach_blocking(box, root=str(shop.root), since=since) as client:
            while len(data) < size:
                data += client.receive(PATIENCE).data
        return data

    everything = b"".join(b"line %d\n" % i for i in range(1, 6))
    assert seen("start", len(everything)) == everything
    assert seen("tail:2", 14) == b"line 4\nline 5\n"
    assert seen("offset:10", len(everything) - 10) == everything[10:]


def test_an_offset_in_the_future_is_refused(shop) -> None:
    """With the code that says so."""
    box = shop.run("sleep", "1000")
    done = shop.call("attach", "--from", "offset:99", box, check=False)

    assert done.returncode == 125
    assert b"in the future" in done.stderr


async def test_sixteen_clients_see_the_same_bytes_whoever_leaves(shop) -> None:
    """One that leaves half way disturbs nobody."""
    box = shop.create("sh", "-c", "for i in $(seq 2000); do echo number $i; done")
    expected = b"".join(b"number %d\n" % i for i in range(1, 2001))
    results: list[bytes] = []
    ready = trio.Semaphore(0)

    async def watch() -> None:
        async with attach(box, root=str(shop.root), since="start") as client:
            ready.release()
            results.append(joined(await collect(client)))

    async def leave_early() -> None:
        async with attach(box, root=str(shop.root), since="start") as client:
            ready.release()
            await client.receive()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(watch)
            nursery.start_soon(leave_early)
            for _ in range(17):
                await ready.acquire()
            async with attach(box, root=str(shop.root), since="none") as client:
                await client.start()

    assert results == [expected] * 16


@pytest.mark.slow
async def test_a_client_that_never_reads_delays_nobody_and_is_told_its_gap(shop) -> None:
    """The log reaches 100 MB while it sleeps; what it missed is told, what it gets is right."""
    size = 100_000_000
    box = shop.create(
        "sh", "-c", f"yes 0123456789abcdef | head -c {size}",
        options=("--log", f"raw:{shop.scratch}/raw.log", "--linger", "10"),
    )  # fmt: skip
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start", window=4096) as client:
            await client.start()
            record = await trio.to_thread.run_sync(shop.ended, box)
            events = await collect(client)

    log = (shop.scratch / "raw.log").read_bytes()
    assert len(log) == record["bytes"]["stdout"] == size
    gaps = [e for e in events if isinstance(e, say.Gap)]
    outputs = [e for e in events if isinstance(e, say.Output)]
    assert gaps
    assert all(log[e.offset : e.offset + len(e.data)] == e.data for e in outputs)
    assert sum(e.end - e.start for e in gaps) + sum(len(e.data) for e in outputs) == size


async def test_the_end_is_ordered_for_every_client(shop) -> None:
    """Data, eof of each stream, then the exit record, and nothing after it."""
    box = shop.create("sh", "-c", "echo out; echo err >&2; exit 5")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            events = await collect(client)

    kinds = [type(event) for event in events]
    assert kinds == [say.Output, say.Output, say.Eof, say.Eof, say.Exit]
    assert events[-1].record["exit_code"] == 5
    assert events[-1].record == json.loads(shop.path(box, "exit.json").read_text())


def test_a_grandchild_that_keeps_the_pipe_meets_the_drain_deadline(shop) -> None:
    """The record says drained: false, and comes in time."""
    bundle = shop.bundle("sh", "-c", "echo before; sleep 1000 & exit 6")
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    shop.call("attachd", "run", "--drain-timeout", "0.3", "--bundle", bundle, box)
    record = shop.ended(box)

    assert (record["drained"], record["exit_code"]) == (False, 6)
    assert shop.output(box) == b"before\n"


@pytest.mark.parametrize("code", [0, 7])
def test_run_attach_ends_with_the_containers_code(shop, code) -> None:
    """attachd run -a: both streams, from the first byte."""
    box = shop.name()
    script = f"echo out; echo err >&2; exit {code}"
    done = shop.call("attachd", "run", "-a", box, "--", "sh", "-c", script, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")


def test_run_attach_tells_a_signal_as_128_and_its_number(shop) -> None:
    """SIGKILL is 137."""
    box = shop.name()
    process = shop.popen("attachd", "run", "-a", box, "--", "sh", "-c", "echo up; sleep 1000")
    assert process.stdout.readline() == b"up\n"
    shop.ctl("kill", box)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 137


def test_leaving_by_ctrl_c_says_how_to_come_back(shop) -> None:
    """Exit code 123; the container goes on; the offset goes on exactly there."""
    box = shop.run("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    client = shop.popen("attach", "--from", "start", box)
    first = b"".join(client.stdout.readline() for _ in range(5))
    os.kill(client.pid, signal.SIGINT)
    rest, words = client.communicate(timeout=PATIENCE)
    left = first + rest
    assert client.returncode == 123
    offset = len(left)
    assert f"attach --from offset:{offset} {box}".encode() in words

    again = shop.popen("attach", "--from", f"offset:{offset}", box)
    more = again.stdout.readline()
    again.terminate()
    again.communicate(timeout=PATIENCE)
    assert int(more) == len(left.split()) + 1


async def test_a_viewer_may_look_and_nothing_else(shop) -> None:
    """The server refuses its stdin and its signals; nothing reaches the container."""
    box = shop.run("cat", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start", role="viewer") as viewer:
            with pytest.raises(Exception, match="only look"):
                await viewer.signal(9)
            with pytest.raises(Exception, match="only look"):
                await viewer.send(b"x\n")
    assert json.loads(shop.ctl("stats", box))["stdin"]["accepted"] == 0


def test_another_user_is_refused(shop) -> None:
    """By the peer's credentials, even where the file modes would let it in."""
    box = shop.run("sleep", "1000")
    for path in (*shop.root.parents, shop.root, shop.path(box)):
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    shop.path(box, "attach.sock").chmod(0o666)
    code = (
        "import os, sys; from attachd_clients import attach_blocking; import attachd_clients.aio\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"\nwith attach_blocking({box!r}, root={str(shop.root)!r}): pass"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE)
    assert b"user 65534 may not attach" in done.stderr
