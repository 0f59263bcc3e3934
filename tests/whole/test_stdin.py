"""Requirement 6: stdin."""

import hashlib
import os
import random
import signal
import subprocess

import pytest
import trio
from attachd_clients import attach, attach_blocking
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


async def test_cat_echoes_and_an_explicit_eof_ends_it(session) -> None:
    """What is sent comes back; send returns when the container has it."""
    cat = await session(["cat"])
    await cat.send_line("hello")
    await cat.expect_exact("hello\n")
    assert await cat.exit(send_eof=True) == 0
    assert cat.record["bytes"]["stdout"] == len("hello\n")


async def test_one_client_leaving_does_not_close_stdin_for_the_others(container) -> None:
    """Only an explicit end does."""
    box = await container(["cat"])
    async with box.session() as stays:
        async with box.session(since="none") as leaves:
            await leaves.send_line("from the one that leaves")
        await stays.expect_exact("from the one that leaves\n")
        await stays.send_line("still open")
        await stays.expect_exact("still open\n")


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


async def test_without_stdin_the_container_reads_eof_at_once(session) -> None:
    """And a client that sends is told so."""
    talk = await session(["sh", "-c", "cat; echo over; sleep 1000"], stdin=False)
    await talk.expect_exact("over\n")
    with pytest.raises(Refused, match="closed"):
        await talk.client.send(b"x")


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


def test_stdin_without_i_is_dev_null(shop) -> None:
    """Not a pipe at its end, and not the launcher's."""
    box = shop.run("sh", "-c", "readlink /proc/self/fd/0; wc -c")
    shop.ended(box)

    assert shop.output(box) == b"/dev/null\n0\n"


async def test_an_eof_from_one_client_is_the_end_for_all(container) -> None:
    """After it nobody's bytes are taken, and everybody sees the end."""
    box = await container(["sh", "-c", "cat; echo over; sleep 1000"])
    async with box.session() as other:
        async with box.session(since="none") as one:
            await one.send_line("last")
            await one.send_eof()
        await other.expect_exact("last\nover\n")
        with pytest.raises(Refused, match="closed"):
            await other.client.send(b"too late\n")


def test_a_writer_that_is_killed_closes_nothing(shop) -> None:
    """SIGKILL of an attach that holds a pipe: no end of file, for nobody."""
    box = shop.run("cat", options=("-i",))
    watcher = shop.popen("attach", "--from", "start", box)
    writer = shop.popen("attach", "--from", "live", box, stdin=subprocess.PIPE)
    writer.stdin.write(b"from the dead\n")
    assert watcher.stdout.readline() == b"from the dead\n"
    writer.kill()
    writer.communicate(timeout=PATIENCE)
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(b"from the living\n", PATIENCE)
        assert watcher.stdout.readline() == b"from the living\n"
        client.send_eof(PATIENCE)
    watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 0


def test_stdin_once_ends_with_its_first_writer_even_by_sigkill(shop) -> None:
    """Another client that is attached changes nothing."""
    box = shop.run("cat", options=("-i", "--stdin-once"))
    with attach_blocking(box, root=str(shop.root), since="live") as looks:
        writer = shop.popen("attach", "--from", "start", box, stdin=subprocess.PIPE)
        writer.stdin.write(b"once\n")
        assert writer.stdout.readline() == b"once\n"
        writer.kill()
        writer.communicate(timeout=PATIENCE)
        kinds = [type(event) for event in looks]

    assert kinds[-1] is say.Exit
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"once\n"


async def test_what_is_sent_before_the_start_is_read_after_it(shop) -> None:
    """create -i, send, start: cat reads it all, and its end."""
    box = shop.create("cat", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.send(b"early\n")
            await client.send_eof()
            await client.start()
            events = [event async for event in client]

    assert b"".join(e.data for e in events if isinstance(e, say.Output)) == b"early\n"
    assert events[-1].record["exit_code"] == 0


@pytest.mark.slow
def test_twenty_megabytes_through_attach_come_back_exactly(shop) -> None:
    """In one end and out of the other at once, without a deadlock."""
    data = random.Random(6).randbytes(20_000_000)
    box = shop.name()
    done = shop.call("attachd", "run", "-a", "-i", box, "--", "cat", input=data)

    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert shop.ended(box)["bytes"]["stdout"] == len(data)


async def test_the_lines_of_several_writers_stay_whole(shop) -> None:
    """Whose turn it is may vary; what one send carries is not torn apart."""
    box = shop.run("cat", options=("-i",))
    lines = {f"{who} {n} {'x' * 200}\n".encode() for who in range(5) for n in range(40)}

    async def write(who: int) -> None:
        async with attach(box, root=str(shop.root), since="none") as client:
            for n in range(40):
                await client.send(f"{who} {n} {'x' * 200}\n".encode())

    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as reader:
            async with trio.open_nursery() as nursery:
                for who in range(5):
                    nursery.start_soon(write, who)
            data = await read_bytes(reader, sum(map(len, lines)))

    assert sorted(data.splitlines(keepends=True)) == sorted(lines)
    for who in range(5):
        own = [
            int(line.split()[1]) for line in data.splitlines() if line.startswith(b"%d " % who)
        ]
        assert own == list(range(40))


def test_an_attach_without_stdin_sends_none(shop) -> None:
    """--no-stdin and --read-only leave a pipe unread and the container's stdin open."""
    box = shop.run("sh", "-c", "read x; echo got $x", options=("-i",))
    silent = [
        shop.popen("attach", option, "--from", "start", box, stdin=subprocess.PIPE)
        for option in ("--no-stdin", "--read-only")
    ]
    for client in silent:
        client.stdin.write(b"not this\n")
        client.stdin.close()
        client.stdin = None
    shop.call("attach", "--from", "live", box, input=b"this\n")

    for client in silent:
        assert client.communicate(timeout=PATIENCE)[0] == b"got this\n"


def test_a_send_that_has_timed_out_in_a_frame_goes_on_with_the_same_frame(shop) -> None:
    """The server stood still in the middle of it: what comes next is no new frame."""
    data = random.Random(5).randbytes(1_500_000)
    box = shop.run("sha256sum", options=("-i",))
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        server = client.status(PATIENCE)["server_pid"]
        os.kill(server, signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            client.send(data, 0.3)
        os.kill(server, signal.SIGCONT)
        client.send(b"end", PATIENCE)
        client.send_eof(PATIENCE)
    shop.ended(box)

    assert shop.output(box).split()[0].decode() == hashlib.sha256(data + b"end").hexdigest()
