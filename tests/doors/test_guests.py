"""Guests and their reception: who comes, reads, types, leaves or is stuck, and at every moment."""

import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import trio
import trio.testing

from attachd.doors import guests, places
from attachd.doors.conmon.entrance import LEAVING_SECONDS, SPEECH, Entrance
from attachd.doors.conmon.wishes import Wishes
from attachd.doors.guest import STUCK_SECONDS
from attachd.doors.guests import Guests
from attachd.doors.places import MOST, Places
from attachd.doors.ways import ATTACH, PLACES
from attachd.keeper import parcels
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.memory import Memory
from attachd.live.stdin import Stdin
from attachd.live.writers import Writers
from attachd.state.eofpolicy import ANY
from attachd.state.ring import STDERR, STDOUT
from attachd.state.sizes import NO_SIZE

RING = 64 * 1024


class FakeProcess:
    """A program that ends when it is told to."""

    def __init__(self) -> None:
        self.ended = trio.Event()

    async def wait_exit(self) -> None:
        await self.ended.wait()


class FakeProgram:
    """A program's real output, stdin and writers over descriptors of its own."""

    def __init__(self, ring: int, header, intake: int, stdin: int, close_stdin) -> None:
        self.process = FakeProcess()
        self.feed = Feed(ring, header)
        self.memory = Memory(self.feed, [])
        self.stdin = Stdin(header, stdin, intake, close_stdin, ANY)
        self.writers = Writers(header.lease, header.latest, None, "latest", again=False)
        self.clients: set = set()

    async def say(self, data: bytes, stream: int = STDOUT) -> None:
        """Have output arrive, as far as there is room."""
        while data:
            room = await self.feed.wait_room()
            self.feed.index.mark(stream, 1)
            count = os.write(self.feed.ring, data[:room])
            data = data[count:]
            self.feed.arrived(count)
            await trio.lowlevel.checkpoint()


class Bench:
    """What outlives servers: descriptors. ``serve`` makes a server's part of it."""

    def __init__(self) -> None:
        self.ring, header = make_ring(RING)
        self.header = map_header(header)
        self.intake = os.memfd_create("stdin")
        self.input, stdin = os.pipe2(os.O_NONBLOCK)
        os.set_blocking(stdin, False)
        self.stdin = stdin
        self.places = places.make()
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listening.setblocking(False)
        self.listening.bind("")
        self.listening.listen(MOST + 10)
        self.post_end, self.keeper = parcels.make()
        self.held: dict[str, int] = {}
        self.peers: list[socket.socket] = []
        self.made: list[Guests] = []
        self.program: FakeProgram

    def serve(self, *, closes_stdin: bool = True, listens: bool = True) -> Entrance:
        """Return what a server has that finds what the keeper holds."""
        parcels.take_all(self.keeper, self.held)
        kept = {name: os.dup(fd) for name, fd in self.held.items()} | {PLACES: self.places}
        if listens:
            kept[ATTACH] = os.dup(self.listening.fileno())
        self.program = FakeProgram(
            self.ring, self.header, self.intake, os.dup(self.stdin), self.close_stdin
        )
        entrance = Entrance(kept, Wishes(closes_stdin=closes_stdin))
        entrance.open(self.program, parcels.Post(self.post_end, kept))
        self.made.append(entrance._guests)
        return entrance

    def close_stdin(self) -> None:
        """Do what the keeper does."""
        os.close(self.stdin)

    def client(self) -> trio.socket.SocketType:
        """Connect."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(self.listening.getsockname())
        self.peers.append(peer)
        peer.setblocking(False)
        return trio.socket.from_stdlib_socket(peer)

    def read_input(self) -> bytes | None:
        """Return what the program would read now; None when there is nothing yet."""
        try:
            return os.read(self.input, 1 << 20)
        except BlockingIOError:
            return None

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.listening.close()
        for one in self.made:
            if one._listener is not None:
                one._listener.close()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()


async def rest(client) -> dict[int, bytes]:
    """Return all that comes up to the end, by stream."""
    found = {2: b"", 3: b""}
    while packet := await client.recv(8193):
        found[packet[0]] += packet[1:]
    return found


async def until(what) -> None:
    """Wait for something that no bell rings for."""
    while not what():  # noqa: ASYNC110
        await trio.sleep(0.001)


class Server(NamedTuple):
    """A server that is at work."""

    guests: Guests
    program: FakeProgram
    nursery: trio.Nursery


@asynccontextmanager
async def running(bench: Bench, **options: bool) -> AsyncIterator[Server]:
    """Have a server at work inside the block; its end is the server's death."""
    made = bench.serve(**options)
    virtual = isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
    with trio.fail_after(100_000 if virtual else 30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run)
            nursery.start_soon(bench.program.stdin.run)
            yield Server(made._guests, bench.program, nursery)
            nursery.cancel_scope.cancel()


async def test_a_guest_gets_what_is_said_from_its_coming_on(bench) -> None:
    """Each packet has its stream's number and at most 8192 bytes; then the end."""
    async with running(bench) as server:
        await server.program.say(b"before")
        client = bench.client()
        await until(lambda: server.guests.count == 1)
        await server.program.say(b"x" * (SPEECH.most + 1))
        await server.program.say(b"bad", STDERR)
        packets = [await client.recv(1 << 16) for _ in range(3)]
        assert [packet[:1] for packet in packets] == [b"\2", b"\2", b"\3"]
        assert [len(packet) - 1 for packet in packets] == [SPEECH.most, 1, 3]
        await server.guests.see_off()
        assert await client.recv(10) == b""
        assert server.guests.count == 0


async def test_who_waits_before_there_is_a_server_misses_nothing(bench) -> None:
    """It is taken in before anything moves."""
    client = bench.client()
    async with running(bench) as server:
        assert server.guests.count == 1
        await server.program.say(b"first")
        assert await client.recv(100) == b"\2first"


async def test_where_nobody_can_attach_there_is_nobody_to_see_off(bench) -> None:
    """No socket is looked for."""
    async with running(bench, listens=False) as server:
        await trio.testing.wait_all_tasks_blocked()
        await server.guests.see_off()
        assert server.guests.count == 0
        assert not server.guests.behind


async def test_more_guests_than_places_are_let_go(bench) -> None:
    """Those who are there stay, and when one has gone there is room again."""
    async with running(bench) as server:
        clients = [bench.client() for _ in range(MOST + 1)]
        assert await clients[-1].recv(10) == b""
        assert server.guests.count == MOST
        clients[0].close()
        await server.program.say(b"x")
        await until(lambda: server.guests.count == MOST - 1)
        newcomer = bench.client()
        await until(lambda: server.guests.count == MOST)
        await server.program.say(b"y")
        assert await newcomer.recv(10) == b"\2y"


async def test_who_comes_and_dies_at_once_leaves_no_trace(bench) -> None:
    """Before it is accepted, before it has sent anything, in the middle of a word."""
    async with running(bench, closes_stdin=False) as server:
        for sent in (b"", b"word", b"word" * 1000):
            client = bench.client()
            if sent:
                await client.send(sent)
            client.close()
        await trio.testing.wait_all_tasks_blocked()
        await server.program.say(b"x")
        await until(lambda: server.guests.count == 0)
        assert all(Places(bench.places)[n].is_free for n in range(MOST))
        parcels.take_all(bench.keeper, bench.held)
        assert bench.held == {}


async def test_a_guest_goes_on_with_the_next_server(bench) -> None:
    """Where it was; and it sees its end as soon as that server lets it go."""
    async with running(bench) as server:
        client = bench.client()
        await until(lambda: server.guests.count == 1)
        await server.program.say(b"one")
        assert await client.recv(10) == b"\2one"
    async with running(bench) as server:
        assert server.guests.count == 1
        await server.program.say(b"two")
        assert await client.recv(10) == b"\2two"
        parcels.take_all(bench.keeper, bench.held)
        assert len(bench.held) == 1
        await server.guests.see_off()
        assert await client.recv(10) == b""  # though the keeper has not let it go yet
        parcels.take_all(bench.keeper, bench.held)
        assert bench.held == {}


async def test_who_comes_while_others_are_seen_off_is_not_waited_for(
    bench, autojump_clock
) -> None:
    """It is let go at once: the manager waits for the exit file."""
    async with running(bench) as server:
        slow = bench.client()
        await until(lambda: server.guests.count == 1)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            said = 0
            while not server.guests.behind:
                await server.program.say(b"x" * 8192)
                said += 8192
                await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(server.guests.see_off)
            await trio.testing.wait_all_tasks_blocked()
            late = bench.client()
            assert await late.recv(10) == b""
            assert len((await rest(slow))[2]) == said
        assert trio.current_time() - begun < STUCK_SECONDS


async def test_who_takes_nothing_is_waited_for_no_longer_than_that(
    bench, autojump_clock
) -> None:
    """It may still read what was sent."""
    async with running(bench) as server:
        bench.client()
        await until(lambda: server.guests.count == 1)
        server.nursery.start_soon(server.program.say, b"x" * RING * 20)
        await trio.testing.wait_all_tasks_blocked()
        begun = trio.current_time()
        await server.guests.see_off()
        assert STUCK_SECONDS <= trio.current_time() - begun < 3 * STUCK_SECONDS
        assert server.guests.behind


async def test_without_a_log_the_program_waits_for_a_slow_guest(bench) -> None:
    """For ever, while it runs: not a byte is lost."""
    size = RING * 40
    async with running(bench) as server:
        client = bench.client()
        await until(lambda: server.guests.count == 1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.program.say, b"x" * size)
            await trio.testing.wait_all_tasks_blocked()
            assert server.program.feed.index.newest < size
            found = 0
            while found < size:
                found += len(await client.recv(8193)) - 1
        assert found == size


async def test_who_is_stuck_at_the_end_holds_nothing_up(bench, autojump_clock) -> None:
    """The rest of an ended program's output comes without it."""
    size = RING * 40
    async with running(bench) as server:
        bench.client()
        await until(lambda: server.guests.count == 1)
        server.program.process.ended.set()
        with trio.fail_after(10 * STUCK_SECONDS):
            await server.program.say(b"x" * size)


async def test_a_guest_that_reads_slowly_at_the_end_still_gets_all(
    bench, autojump_clock
) -> None:
    """As long as it takes something now and then."""
    size = RING * 40
    async with running(bench) as server:
        client = bench.client()
        await until(lambda: server.guests.count == 1)
        server.program.process.ended.set()
        server.nursery.start_soon(server.program.say, b"x" * size)
        found = 0
        while found < size:
            await trio.sleep(STUCK_SECONDS / 20)
            found += len(await client.recv(8193)) - 1
        assert found == size


async def test_stdin_goes_to_the_program_in_packets_of_any_size(bench) -> None:
    """The end of the only guest's input is the end of stdin."""
    async with running(bench) as server:
        client = bench.client()
        for size in (1, 32768, 100):
            await client.send(b"x" * size)
        client.shutdown(socket.SHUT_WR)
        found = 0
        while (data := bench.read_input()) != b"":
            found += len(data or b"")
            await trio.sleep(0.001)
        assert found == 1 + 32768 + 100
        await server.program.say(b"still here")
        assert await client.recv(100) == b"\2still here"


async def test_an_empty_packet_is_the_end_of_input(bench) -> None:
    """As in conmon."""
    async with running(bench):
        client = bench.client()
        await client.send(b"x")
        await client.send(b"")
        await until(lambda: bench.read_input() == b"x")
        await until(lambda: bench.read_input() == b"")


async def test_with_stdin_left_open_nobodys_end_is_its_end(bench) -> None:
    """``--leave-stdin-open``, or no stdin."""
    async with running(bench, closes_stdin=False) as server:
        client = bench.client()
        client.shutdown(socket.SHUT_WR)
        await until(lambda: server.guests.count == 1)
        await until(lambda: not next(iter(server.guests._all)).listens)
        other = bench.client()
        await other.send(b"word")
        await until(lambda: bench.read_input() == b"word")


async def test_who_leaves_does_not_end_what_others_type(bench, autojump_clock) -> None:
    """But who ends its input and stays does; so does the last one who leaves."""
    async with running(bench) as server:
        ann, bob, cid = bench.client(), bench.client(), bench.client()
        await until(lambda: server.guests.count == 3)
        ann.close()
        await trio.sleep(2 * LEAVING_SECONDS)
        await bob.send(b"word")
        await until(lambda: bench.read_input() == b"word")
        bob.shutdown(socket.SHUT_WR)
        await trio.sleep(2 * LEAVING_SECONDS)
        assert bench.read_input() == b""
        await server.program.say(b"x")
        assert await cid.recv(10) == b"\2x"


async def test_what_a_full_stdin_does_not_take_stays_in_the_socket(bench) -> None:
    """A server that is killed then has lost nothing of it."""
    size = 4 << 20
    async with running(bench, closes_stdin=False) as server:
        client = bench.client()
        sent = 0
        while sent < size:
            with trio.move_on_after(0.5) as waited:
                await client.send(b"x" * 32768)
                sent += 32768
            if waited.cancelled_caught:
                break
        assert sent < size
        accepted = os.fstat(bench.intake).st_size
        waiting = server.program.stdin.counters["queued"]
        guest = next(iter(server.guests._all))
        lying = 0
        peer = guest._peer.dup()
        try:
            while True:
                lying += len(peer.recv(32768))
        except BlockingIOError:
            peer.close()
        assert accepted + waiting + lying == sent


async def test_what_comes_when_stdin_is_closed_is_thrown_away(bench) -> None:
    """A guest may type on; it is not held up."""
    async with running(bench) as server:
        server.program.stdin.offer_eof(b"somebody".ljust(16))
        await until(lambda: server.program.stdin.state == "closed")
        client = bench.client()
        for _ in range(200):
            await client.send(b"x" * 32768)


async def test_no_room_for_a_guest_is_waited_for(bench, monkeypatch, autojump_clock) -> None:
    """EMFILE is over some day; the server lives."""
    errors = deque([OSError(24, "too many"), OSError(24, "too many")])
    accept = Guests._accept

    def fail_twice(self: Guests, listener: socket.socket) -> None:
        if errors:
            raise errors.popleft()
        accept(self, listener)

    monkeypatch.setattr(guests.Guests, "_accept", fail_twice)
    async with running(bench) as server:
        bench.client()
        await until(lambda: server.guests.count == 1)
        assert not errors


async def test_a_lease_of_another_client_holds_what_is_typed(bench) -> None:
    """It comes when that one has given it back."""

    class Native:
        key, robbed, role, name = b"n" * 16, False, "full", "native"

        def tell(self, message: object) -> None:
            pass

    async with running(bench, closes_stdin=False) as server:
        native = Native()
        server.program.writers.enter(native, NO_SIZE)
        server.program.writers.request(native, 1, "take")
        client = bench.client()
        await client.send(b"word")
        await trio.sleep(0.1)
        assert bench.read_input() is None
        server.program.writers.request(native, 2, "free")
        await until(lambda: bench.read_input() == b"word")


async def test_a_place_that_was_taken_for_nobody_is_free_for_the_next_server(bench) -> None:
    """A server may die between taking it and handing its guest's descriptor over."""
    for number in range(MOST):
        Places(bench.places)[number].take(0)
    async with running(bench) as server:
        client = bench.client()
        await until(lambda: server.guests.count == 1)
        await server.program.say(b"x")
        assert await client.recv(10) == b"\2x"
