"""The attach file's guests over a real socket: pieces as conman reads them, stdin, the end."""

import json
import os
import socket
from types import SimpleNamespace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from attachd.doors import places
from attachd.doors.shimmy.entrance import Entrance
from attachd.doors.shimmy.speech import OUTPUT_BYTES
from attachd.doors.shimmy.wishes import Wishes
from attachd.doors.ways import ATTACH, PLACES
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.stdin import WINDOW, Stdin
from attachd.live.writers import Writers
from attachd.state.ring import STDERR, STDOUT, STREAMS, Missed
from attachd.state.sizes import NO_SIZE

#: conman's buffer: a piece and one byte (docs/shimmy.md).
CONMANS_BYTES = 32 * 1024 + 1

RECORD = {"exit_code": 7, "signal": None, "finished_at": "2020-01-26T14:56:03.000000001Z"}


class Forgetful:
    """A log that has nothing of what the ring has forgotten."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    async def take(self, offset: int, most: int) -> list[Missed]:
        await trio.lowlevel.checkpoint()
        return [Missed(offset, self.feed.index.oldest)]

    def close(self) -> None:
        """Nothing is open."""


class Bench:
    """A ring, a pipe in the place of the container's stdin, and servers that come and go."""

    def __init__(
        self, directory, *, ring_size: int = 1 << 20, policy: str = "never", log: bool = False
    ) -> None:
        self.directory = directory
        self.path = str(directory / "attach")
        self.exit_file = directory / "exit"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listener.bind(self.path)
        listener.listen()
        self.ring, header = make_ring(ring_size)
        self.header = map_header(header)
        os.close(header)
        self.intake = os.memfd_create("stdin")
        self.read, self.write = os.pipe2(os.O_NONBLOCK)
        self.kept = {ATTACH: listener.detach(), PLACES: places.make()}
        feed = Feed(self.ring, self.header)
        stdin = Stdin(self.header, os.dup(self.write), self.intake, lambda: None, policy)
        writers = Writers(self.header.lease, self.header.latest, None, "latest", again=False)
        memory = SimpleNamespace(open=lambda: Forgetful(feed) if log else None)
        process = SimpleNamespace(wait_exit=trio.sleep_forever)
        self.program = SimpleNamespace(
            feed=feed, stdin=stdin, writers=writers, memory=memory, process=process
        )
        self.entrance = self.server()

    def server(self) -> Entrance:
        """Return what a server begins with: its own descriptors of everything that was kept."""
        self.held = {name: os.dup(fd) for name, fd in self.kept.items()}
        return Entrance(dict(self.held), Wishes(self.path, str(self.exit_file), "info"))

    async def serve(self, nursery: trio.Nursery) -> None:
        """Begin as a shim does, with the keeper at the other end of the post."""
        post = SimpleNamespace(kept=self.held, keep=self.keep, drop=self.drop)
        self.entrance.open(self.program, post)
        nursery.start_soon(self.entrance.run)
        nursery.start_soon(self.program.stdin.run)
        await wait_all_tasks_blocked()

    def keep(self, name: str, fd: int) -> None:
        """Hold a copy, as the keeper does."""
        self.kept[name] = os.dup(fd)

    def drop(self, name: str) -> None:
        """Hold it no longer."""
        if name in self.kept:
            os.close(self.kept.pop(name))

    def output(self, data: bytes, stream: int = STDOUT) -> None:
        """Have some output arrive, as the pump does it."""
        self.program.feed.index.mark(stream, 1)
        os.write(self.ring, data)
        self.program.feed.arrived(len(data))

    async def end(self) -> None:
        """Have the container end, as the shim tells of it."""
        for stream in STREAMS:
            self.program.feed.end_stream(stream)
        self.program.feed.finish(RECORD)
        await self.entrance.finish(RECORD)

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
        self.program.stdin.close()
        self.entrance._guests._listener.close()
        for fd in (self.ring, self.intake, self.read, self.write, *self.kept.values()):
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
            await bench.serve(nursery)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                for number in range(100):
                    bench.output(b"out %d\n" % number)
                    bench.output(b"err %d\n" % number, STDERR)
                    await wait_all_tasks_blocked()
                nursery.start_soon(bench.end)
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
            await bench.serve(nursery)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                bench.output(data)
                bench.output(b"after", STDERR)
                nursery.start_soon(bench.end)
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
            async with trio.open_nursery() as nursery:
                await bench.serve(nursery)
                bench.output(b"first words")
                async with bench.connect() as late:
                    await wait_all_tasks_blocked()
                    bench.output(b", last words")
                    nursery.start_soon(bench.end)
                    assert joined(await heard(early), 1) == b"first words, last words"
                    assert joined(await heard(late), 1) == b", last words"
                nursery.cancel_scope.cancel()


async def test_whoever_is_too_slow_is_told_what_is_missing(tmp_path) -> None:
    """What the ring has overwritten is not in the log, either: words on stderr say so."""
    bench = Bench(tmp_path, ring_size=1 << 16, log=True)
    size = 1 << 15
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await bench.serve(nursery)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                for _ in range(64):
                    bench.output(os.urandom(size))
                    await wait_all_tasks_blocked()
                nursery.start_soon(bench.end)
                pieces = await heard(client)
            nursery.cancel_scope.cancel()
    gaps = joined(pieces, 2).split(b"\n")[1::2]
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
            await bench.serve(nursery)
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
            await bench.serve(nursery)
            async with bench.connect() as client:
                await client.send_all(b"all there is")
                await client.send_eof()
                assert await bench.stdin(12) == b"all there is"
                await wait_all_tasks_blocked()
                assert bench.program.stdin.state == ("closed" if policy == "once" else policy)
                bench.output(b"and an answer")
                nursery.start_soon(bench.end)
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
            await bench.serve(nursery)
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
            await bench.serve(nursery)
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


async def test_the_end_waits_for_who_has_not_read_everything(bench) -> None:
    """But not with the exit file, nor with the attach file: who comes now is too late."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await bench.serve(nursery)
            async with bench.connect() as client:
                await wait_all_tasks_blocked()
                bench.output(os.urandom(1 << 19))
                nursery.start_soon(bench.end)
                await wait_all_tasks_blocked()
                assert json.loads(bench.exit_file.read_text())["exitCode"] == 7
                assert bench.path not in map(str, bench.directory.iterdir())
                assert bench.entrance.behind
                assert len(joined(await heard(client), 1)) == 1 << 19
                await wait_all_tasks_blocked()
                assert not bench.entrance.behind
            nursery.cancel_scope.cancel()
