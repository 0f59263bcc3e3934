"""The attach file over a real socket: pieces as conman reads them, stdin, and the end."""

import os
import socket
from types import SimpleNamespace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from attachd.doors.shimmy.endpoint import Endpoint
from attachd.doors.shimmy.visitor import OUTPUT_BYTES
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.door import Door
from attachd.live.feed import Feed
from attachd.live.memory import Memory
from attachd.live.stdin import WINDOW, Stdin
from attachd.live.writers import Writers
from attachd.state.ring import STDERR, STDOUT, STREAMS
from attachd.state.sizes import NO_SIZE

#: conman's buffer: a piece and one byte (docs/shimmy.md).
CONMANS_BYTES = 32 * 1024 + 1


class Bench:
    """A ring, a pipe in the place of the container's stdin, and an endpoint."""

    def __init__(
        self, directory, ring_size: int = 1 << 20, policy: str = "never", most: int = 10
    ) -> None:
        self.path = str(directory / "attach")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        self.listener = listener
        self.ring, header = make_ring(ring_size)
        self.header = map_header(header)
        os.close(header)
        self.intake = os.memfd_create("stdin")
        self.read, self.write = os.pipe2(os.O_NONBLOCK)
        feed = Feed(self.ring, self.header)
        stdin = Stdin(self.header, os.dup(self.write), self.intake, lambda: None, policy)
        writers = Writers(self.header.lease, self.header.latest, None, "latest", again=False)
        self.program = SimpleNamespace(
            feed=feed, stdin=stdin, writers=writers, memory=Memory(feed, [])
        )
        self.endpoint = Endpoint(self.program, listener.fileno(), Door(most))

    def output(self, data: bytes, stream: int = STDOUT) -> None:
        """Have some output arrive, as the pump does it."""
        self.program.feed.index.mark(stream, 1)
        os.write(self.ring, data)
        self.program.feed.arrived(len(data))

    def end(self) -> None:
        """Have the container end."""
        for stream in STREAMS:
            self.program.feed.end_stream(stream)
        self.program.feed.finish({"reason": "exited"})

    def connect(self) -> trio.SocketStream:
        """Connect as conman does."""
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(self.path)
        return trio.SocketStream(trio.socket.from_stdlib_socket(ours))

    async def stdin(self, size: int) -> bytes:
        """Return what the container is given."""
        data = b""
        while len(data) < size:
            await trio.lowlevel.wait_readable(self.read)
            data += os.read(self.read, 1 << 16)
        return data

    def close(self) -> None:
        self.listener.close()
        self.program.stdin.close()
        for fd in (self.ring, self.intake, self.read, self.write):
            os.close(fd)


class Holder:
    """A native client that may write."""

    key, name, role, robbed = b"h" * 16, "holder", "full", False

    def tell(self, message: object) -> None:
        """It need not know."""


@pytest.fixture
def bench(tmp_path):
    """Closed at the end."""
    made = Bench(tmp_path)
    yield made
    made.close()


async def heard(client: trio.SocketStream) -> list[tuple[int, bytes]]:
    """Read to the end as conman does: each read's first byte says whose the others are."""
    pieces: list[tuple[int, bytes]] = []
    while data := bytes(await client.receive_some(CONMANS_BYTES)):
        pieces.append((data[0], data[1:]))
    return pieces


def joined(pieces: list[tuple[int, bytes]], stream: int) -> bytes:
    """Return all of one stream."""
    return b"".join(data for kind, data in pieces if kind == stream)


async def test_a_reader_that_lets_everything_wait_tells_the_pieces_apart(bench) -> None:
    """Many pieces lie in the socket, and each read brings one: none is joined with another."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                for number in range(100):
                    bench.output(b"out %d\n" % number)
                    bench.output(b"err %d\n" % number, STDERR)
                    await wait_all_tasks_blocked()
                bench.end()
                pieces = await heard(client)
            nursery.cancel_scope.cancel()

    assert pieces == [
        (kind, b"%s %d\n" % (name, number))
        for number in range(100)
        for kind, name in ((1, b"out"), (2, b"err"))
    ]


async def test_what_is_larger_than_conmans_buffer_comes_in_pieces_that_fit(bench) -> None:
    """The first byte of each is the stream's, and the others are the output, all of it."""
    data = os.urandom(5 * OUTPUT_BYTES + 7)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                bench.output(data)
                bench.output(b"after", STDERR)
                bench.end()
                pieces = await heard(client)
            nursery.cancel_scope.cancel()

    assert {kind for kind, _ in pieces} == {1, 2}
    assert max(len(piece) for _, piece in pieces) <= OUTPUT_BYTES
    assert joined(pieces, 1) == data
    assert joined(pieces, 2) == b"after"


async def test_who_waited_before_the_server_was_there_misses_nothing(bench) -> None:
    """conman attaches, and starts the container, while our server may still be coming up."""
    with trio.fail_after(60):
        async with bench.connect() as early:
            bench.output(b"first words")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.endpoint.run)
                await wait_all_tasks_blocked()
                async with bench.connect() as late:
                    await wait_all_tasks_blocked()
                    bench.output(b", last words")
                    bench.end()
                    assert joined(await heard(early), 1) == b"first words, last words"
                    assert joined(await heard(late), 1) == b", last words"
                nursery.cancel_scope.cancel()


async def test_whoever_is_too_slow_is_told_what_is_missing(tmp_path) -> None:
    """There is no log here, so what the ring has overwritten is gone: words on stderr say so."""
    bench = Bench(tmp_path, ring_size=1 << 16)
    size = 1 << 15
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                for _ in range(64):
                    bench.output(os.urandom(size))
                    await wait_all_tasks_blocked()
                bench.end()
                pieces = await heard(client)
            nursery.cancel_scope.cancel()
    gaps = joined(pieces, 2).splitlines()
    missing = sum(int(line.split()[1]) for line in gaps)

    assert gaps
    assert len(joined(pieces, 1)) + missing == 64 * size
    assert bench.header.missed == missing
    bench.close()


async def test_stdin_is_delivered_byte_for_byte_from_several(bench) -> None:
    """More than a window, while the container takes its time; nothing is lost or doubled."""
    data = os.urandom(WINDOW + 100_000)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            nursery.start_soon(bench.program.stdin.run)
            async with bench.connect() as client, bench.connect() as other:
                nursery.start_soon(client.send_all, data)
                assert await bench.stdin(len(data)) == data
                await other.send_all(b"from another")
                assert await bench.stdin(12) == b"from another"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("policy", ["never", "once"])
async def test_an_ended_input_closes_stdin_where_it_is_for_once(tmp_path, policy) -> None:
    """conman ends its side when its own input has ended, and still gets the output."""
    bench = Bench(tmp_path, policy=policy)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            nursery.start_soon(bench.program.stdin.run)
            async with bench.connect() as client:
                await client.send_all(b"all there is")
                await client.send_eof()
                assert await bench.stdin(12) == b"all there is"
                await wait_all_tasks_blocked()
                assert bench.program.stdin.state == ("closed" if policy == "once" else policy)
                bench.output(b"and an answer")
                bench.end()
                assert joined(await heard(client), 1) == b"and an answer"
            nursery.cancel_scope.cancel()
    bench.close()


@pytest.mark.parametrize(("says", "state"), [(b"", "once"), (b"something", "closed")])
async def test_leaving_closes_a_stdin_for_once_when_it_was_written_to(
    tmp_path, says, state
) -> None:
    """Who has only looked and goes closes nothing."""
    bench = Bench(tmp_path, policy="once")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            nursery.start_soon(bench.program.stdin.run)
            async with bench.connect() as client:
                await client.send_all(says)
                await bench.stdin(len(says))
                await wait_all_tasks_blocked()
            await wait_all_tasks_blocked()
            assert bench.program.stdin.state == state
            assert bench.program.feed.readers == 0
            nursery.cancel_scope.cancel()
    bench.close()


async def test_while_another_holds_the_lease_nothing_is_taken(bench) -> None:
    """It waits in the socket, and comes when the lease is free again."""
    holder = Holder()
    writers = bench.program.writers
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            nursery.start_soon(bench.program.stdin.run)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                writers.enter(holder, NO_SIZE)
                writers.request(holder, 1, "take")
                await client.send_all(b"me, too")
                await wait_all_tasks_blocked()
                assert bench.program.stdin.counters["accepted"] == 0
                writers.request(holder, 2, "free")
                assert await bench.stdin(7) == b"me, too"
            nursery.cancel_scope.cancel()


async def test_when_there_are_too_many_one_more_is_let_go(tmp_path) -> None:
    """At once, and the others stay."""
    bench = Bench(tmp_path, most=1)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            async with bench.connect() as first:
                await wait_all_tasks_blocked()
                async with bench.connect() as second:
                    assert await second.receive_some(1) == b""
                bench.output(b"still there")
                assert await first.receive_some(CONMANS_BYTES) == b"\1still there"
            nursery.cancel_scope.cancel()
    bench.close()


async def test_finish_waits_for_who_has_not_read_everything(bench) -> None:
    """And for nobody else."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.endpoint.run)
            await bench.endpoint.finish()
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                bench.output(os.urandom(1 << 19))
                bench.end()
                with trio.move_on_after(0.05) as patience:
                    await bench.endpoint.finish()
                assert patience.cancelled_caught
                assert len(joined(await heard(client), 1)) == 1 << 19
                await bench.endpoint.finish()
            nursery.cancel_scope.cancel()
