"""Requirement 6: stdin."""

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE

from attachd.errors import Refused
from attachd.wire import messages as say

pytestmark = pytest.mark.runc


async def read_bytes(client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        event = await client.receive()
        assert isinstance(event, say.Output), event
        data += event.data
    return data


async def test_cat_echoes_and_an_explicit_eof_ends_it(shop) -> None:
    """What is sent comes back; send returns when the container has it."""
    box = shop.run("cat", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.send(b"hello\n")
            assert await read_bytes(client, 6) == b"hello\n"
            await client.send_eof()
            events = [event async for event in client]

    assert events[-1].record["exit_code"] == 0


async def test_one_client_leaving_does_not_close_stdin_for_the_others(shop) -> None:
    """Only an explicit end does."""
    box = shop.run("cat", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as stays:
            async with attach(box, root=str(shop.root), since="none") as leaves:
                await leaves.send(b"from the one that leaves\n")
            await read_bytes(stays, 25)
            await stays.send(b"still open\n")
            assert await read_bytes(stays, 11) == b"still open\n"


async def test_stdin_once_closes_when_the_first_writer_leaves(shop) -> None:
    """Not when a client leaves that only looked."""
    box = shop.run("cat", options=("-i", "--stdin-once"))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="live"):
            pass
        async with attach(box, root=str(shop.root), since="none") as writer:
            await writer.send(b"only this\n")
        record = await trio.to_thread.run_sync(shop.ended, box)

    assert record["exit_code"] == 0
    assert shop.output(box) == b"only this\n"


async def test_without_stdin_the_container_reads_eof_at_once(shop) -> None:
    """And a client that sends is told so."""
    box = shop.run("sh", "-c", "cat; echo over; sleep 1000")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            assert await read_bytes(client, 5) == b"over\n"
            with pytest.raises(Refused, match="closed"):
                await client.send(b"x")


def test_a_pipe_into_attach_ends_the_container(shop) -> None:
    """`printf … | attachd run -a -i` is a filter: binary-safe, with the container's code."""
    data = bytes(range(256)) * 5000
    box = shop.name()
    done = shop.call("attachd", "run", "-a", "-i", box, "--", "cat", input=data)

    assert done.stdout == data


def test_stdin_from_dev_null_closes_nothing(shop) -> None:
    """The end of /dev/null means nothing: the container reads on."""
    box = shop.run("sh", "-c", "echo up; read x; echo got $x", options=("-i",))
    looks = shop.popen("attach", "--from", "start", box)
    assert looks.stdout.readline() == b"up\n"
    shop.call("attach", "--from", "live", box, input=b"word\n")
    out, _ = looks.communicate(timeout=PATIENCE)

    assert out == b"got word\n"


async def test_a_container_that_does_not_read_blocks_only_its_writer(shop) -> None:
    """While one writer waits, its pings and another client's signal are answered."""
    box = shop.run("sleep", "1000", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="live") as client:
            with trio.move_on_after(0.2):
                await client.send(b"x" * 4_000_000)
            assert await client.ping() == 0
            assert (await client.status())["stdin"]["delivered"] <= 1 << 20
            await client.signal(9)
            events = [event async for event in client]

    assert events[-1].record["signal"] == 9
