"""A log in the journal over deaths, and over journals that are slow, gone, or late.

The socket is a real one, and so are its limits; the test is the journald.
"""

import contextlib
import os
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from journald import Journald

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live import journal as sending
from attachd.live.feed import Feed
from attachd.live.journal import JournalLog
from attachd.live.log import Care
from attachd.state.journal import Entries, Journal
from attachd.state.ring import STDERR, STDOUT, STREAMS

ID = "0123456789abcdef" * 4
RING = 1 << 20
PLAIN = Journal()


class Died(BaseException):
    """The server was killed here."""


class Unnoted:
    """The header's words for a server that is killed before it can store any."""

    def store(self, *words: int) -> None:
        """Never do it."""
        raise Died


class Bench:
    """A ring, a journald, and servers that come and go over them."""

    def __init__(
        self, directory: Path, care: Care, journal: Journal, *, listens: bool = True
    ) -> None:
        self.care, self.journal = care, journal
        self.journald = Journald(directory / "socket", listens=listens)
        self.ring, header = make_ring(RING)
        self.header = map_header(header)
        os.close(header)
        self.said = {b"6": b"", b"3": b""}
        self.log: JournalLog | None = None
        self.server()

    def server(self) -> None:
        """Be what a fresh server makes of it, after the one before has died."""
        if self.log is not None:
            self.log._socket.close()
        self.feed = Feed(self.ring, self.header)
        entries = Entries(ID, self.journal)
        path = str(self.journald.path)
        self.log = JournalLog(0, self.feed, self.header.log(0), path, entries, self.care)

    def output(self, stream: int, data: bytes) -> None:
        """Have some output arrive, as the pump does it."""
        self.feed.index.mark(stream, 1)
        os.write(self.ring, data)
        self.feed.arrived(len(data))
        self.said[b"6" if stream == STDOUT else b"3"] += data

    def end(self) -> None:
        for stream in STREAMS:
            self.feed.end_stream(stream)

    def write(self) -> None:
        """Let the log send what it can."""
        while self.log._step(give_up=False):
            self.journald.receive()

    def die_before_the_note(self) -> None:
        """Have the server die when it has sent one entry; that it is there twice is forgiven."""
        pair, before = self.log._pair, len(self.journald.entries)
        noted = pair.read()
        self.log._pair = Unnoted()
        with contextlib.suppress(Died):
            self.write()
        if self.journald.listens:
            self.journald.receive()
        assert len(self.journald.entries) <= before + 1
        assert pair.read() == noted
        del self.journald.entries[before:]
        self.server()

    async def finish(self) -> None:
        """End both streams, and receive until the log has come to its end."""
        self.end()
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.receive)
                await self.log.run()
                nursery.cancel_scope.cancel()
        self.journald.receive()

    async def receive(self) -> None:
        while True:
            if self.journald.listens:
                self.journald.receive()
            await trio.sleep(0.001)

    async def all_received(self) -> None:
        """Receive until what was said is there, or told to be missing."""
        with trio.fail_after(3600):
            while self.log._lacks or self.log.written < self.feed.index.newest:
                self.journald.receive()
                await trio.sleep(0.001)
        self.journald.receive()
        assert self.lost == self.log.dropped == sum(self.journald.gaps())

    @property
    def lost(self) -> int:
        there = self.journald.streams()
        return sum(len(text) - len(there[name]) for name, text in self.said.items())

    def close(self) -> None:
        self.log._socket.close()
        self.journald.close()
        os.close(self.ring)


@pytest.fixture
def benches(tmp_path: Path):
    """Make benches; closed at the end."""
    made: list[Bench] = []

    def make(journal: Journal = PLAIN, *, listens: bool = True, **care: object) -> Bench:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Bench(directory, Care(**care), journal, listens=listens))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


async def test_lines_become_entries(benches) -> None:
    """Each stream's whole lines; at the end what is open is a piece."""
    bench = benches()
    for stream, data in ((STDOUT, b"one\ntw"), (STDERR, b"err\n"), (STDOUT, b"o\nop")):
        bench.output(stream, data)
        bench.write()
    await bench.finish()

    told = [(e["MESSAGE"], e["PRIORITY"]) for e in bench.journald.entries]
    assert told == [(b"one\n", b"6"), (b"err\n", b"3"), (b"two\n", b"6"), (b"op", b"6")]
    assert "CONTAINER_PARTIAL_MESSAGE" in bench.journald.entries[-1]
    assert bench.log.written == bench.feed.index.newest
    assert bench.log.counters["error"] is None


async def test_a_successor_puts_an_open_line_together_and_sends_nothing_twice(benches) -> None:
    """What the other stream said meanwhile lies behind its beginning, and has gone out."""
    bench = benches()
    bench.output(STDOUT, b"part")
    bench.output(STDERR, b"err\nmore")
    bench.write()
    bench.server()
    bench.output(STDERR, b" err\n")
    bench.output(STDOUT, b"ial\n")
    bench.write()
    bench.server()
    await bench.finish()

    told = [entry["MESSAGE"] for entry in bench.journald.entries]
    assert told == [b"err\n", b"more err\n", b"partial\n"]


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(STREAMS),
            st.one_of(
                st.sampled_from([b"x" * 9000, b"\n", b"y" * 8191]), st.binary(max_size=9)
            ),
        ),
        st.sampled_from(["write", "die", "die unnoted", "gone", "there"]),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_every_byte_is_there_once_over_deaths(tmp_path_factory, steps) -> None:
    """A server that dies between an entry and its note has its successor send that one again."""

    async def main() -> None:
        directory = tmp_path_factory.mktemp("steps")
        bench = Bench(directory, Care(), Journal(), listens=True)
        try:
            for step in steps:
                match step:
                    case (stream, data):
                        data = data.replace(b"<", b"-")  # no priorities
                        bench.output(stream, data) if data else None
                    case "write":
                        bench.write()
                    case "die":
                        bench.server()
                    case "die unnoted":
                        bench.die_before_the_note()
                    case "gone":
                        if bench.journald.listens:
                            bench.journald.receive()
                        bench.journald.close()
                    case "there":
                        if not bench.journald.listens:
                            bench.journald.listen()
                            bench.log._retry_at = 0.0
            if not bench.journald.listens:
                bench.journald.listen()
                bench.log._retry_at = 0.0
            await bench.finish()
            assert bench.journald.streams() == bench.said
            assert bench.log.dropped == 0
        finally:
            bench.close()

    trio.run(main)


async def test_a_journal_that_comes_late_gets_all_that_the_ring_holds(
    benches, autojump_clock
) -> None:
    """Nothing is lost that need not be, and nobody is asked in vain all the time."""
    bench = benches(listens=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        for number in range(100):
            bench.output(STDOUT, b"line %d\n" % number)
        await trio.sleep(3600)
        assert bench.log.counters["error"]
        assert bench.log._pause == sending.LONGEST_RETRY_SECONDS
        bench.journald.listen()
        await bench.all_received()
        nursery.cancel_scope.cancel()

    assert bench.log.dropped == 0
    assert bench.log.counters["error"] is None
    assert bench.log._wake_time() == float("inf")


@pytest.mark.parametrize("listens", [False, True], ids=["gone", "blocked"])
async def test_what_the_ring_cannot_hold_is_counted_and_told(
    benches, autojump_clock, listens
) -> None:
    """By default a journal never stops the container: half the ring is kept for it."""
    bench = benches(listens=listens)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        for number in range(300):
            for stream in STREAMS:
                bench.output(stream, b"line %d of many\n" % number * 400)
            await trio.sleep(0.1)
            assert bench.feed.room() > RING // 8
        if not listens:
            bench.journald.listen()
        await bench.all_received()
        nursery.cancel_scope.cancel()

    dropped = bench.log.dropped
    assert dropped > RING
    assert len(bench.journald.gaps()) == 1


async def test_block_has_the_container_wait_and_loses_nothing(benches, autojump_clock) -> None:
    """--on-log-error block: the ring fills, and goes on when the journal does."""
    bench = benches(blocks=True)
    line = b"x" * 2000 + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        while bench.feed.room() > len(line):
            bench.output(STDOUT, line)
        await trio.sleep(3600)
        assert bench.log.written < RING // 2
        nursery.start_soon(bench.receive)
        with trio.fail_after(3600):
            while bench.log.written < bench.feed.index.newest:
                await bench.feed.room_bell.wait()
        nursery.cancel_scope.cancel()
    bench.journald.receive()

    assert bench.journald.streams() == bench.said
    assert bench.log.dropped == 0


async def test_a_slow_journal_is_waited_for(benches) -> None:
    """It takes ten entries, and then ten more: no line is lost though the ring was full."""
    bench = benches()
    line = b"x" * 4000 + b"\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        while bench.feed.room() > len(line):
            bench.output(STDOUT, line)
        with trio.fail_after(60):
            while bench.log.written < bench.feed.index.newest:
                bench.journald.receive(10)
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    bench.journald.receive()

    assert bench.journald.streams() == bench.said
    assert bench.log.dropped == 0


async def test_a_line_without_its_end_does_not_keep_the_ring(benches) -> None:
    """When half the ring is behind it, it goes out as a piece; its rest is one, too."""
    bench = benches()
    bench.output(STDOUT, b"begun")
    for _ in range(300):
        bench.output(STDERR, b"y" * 4000 + b"\n")
        bench.write()
    bench.output(STDOUT, b" and ended\n")
    await bench.finish()

    told = [e["MESSAGE"] for e in bench.journald.entries if e["PRIORITY"] == b"6"]
    assert told == [b"begun", b" and ended\n"]


async def test_an_ended_container_does_not_wait_for_a_journal_that_is_not_there(
    benches, autojump_clock
) -> None:
    """What it lacks is counted. One that is only slow has its time."""
    bench = benches(listens=False)
    bench.output(STDOUT, b"one\ntwo")
    begun = trio.current_time()
    bench.end()
    await bench.log.run()

    assert trio.current_time() == begun
    assert bench.log.dropped == 7

    bench = benches()
    for number in range(5000):
        bench.output(STDOUT, b"%d\n" % number)
    bench.end()
    await bench.log.run()
    bench.journald.receive()
    assert trio.current_time() == begun + 2
    assert bench.lost == bench.log.dropped > 0


async def test_a_journal_that_was_restarted_is_found(benches) -> None:
    """Its socket is another one of the same name; no entry that was not taken is lost."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    bench.write()
    bench.journald.receive()
    bench.journald.close()
    bench.journald.listen()
    bench.output(STDOUT, b"two\n")
    bench.write()
    await bench.finish()

    assert bench.journald.streams() == bench.said


async def test_an_entry_that_is_too_large_for_a_datagram_goes_as_a_file(benches) -> None:
    """Sealed, as journald wants it."""
    bench = benches(Journal(labels=("LARGE=" + "x" * (1 << 20),)))
    bench.output(STDOUT, b"one\n")
    bench.write()
    await bench.finish()

    assert bench.journald.by_file == 1
    assert bench.journald.streams() == bench.said
    assert len(bench.journald.entries[0]["LARGE"]) == 1 << 20


async def test_requests_for_files_are_granted_at_once(benches) -> None:
    """There is none to rotate, and none to read."""
    bench = benches()
    await bench.log.rotate()
    await bench.log.reopen()

    assert bench.log.segments() == []


async def test_a_path_may_be_longer_than_a_socket_name(benches, tmp_path) -> None:
    """As everywhere (unix(7): 107 bytes)."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    here = os.open(directory, os.O_PATH)
    journald = Journald(Path(f"/proc/self/fd/{here}/socket"))
    sink = sending.JournalSocket(str(directory / "socket"))
    sink.send(b"MESSAGE=hello\n")
    journald.receive()
    assert journald.entries == [{"MESSAGE": b"hello"}]
    sink.close()
    journald.close()
    os.close(here)


async def test_an_ended_container_waits_for_a_journal_that_is_only_slow(
    benches, autojump_clock
) -> None:
    """However little patience it has: what is taken, ten entries each half second, is not lost."""
    bench = benches(patience=0.0)
    for number in range(300):
        bench.output(STDOUT, b"%d\n" % number)
    bench.end()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        while bench.log.written < bench.feed.index.newest:
            await trio.sleep(0.5)
            bench.journald.receive(10)
    bench.journald.receive()

    assert bench.journald.streams() == bench.said
    assert bench.log.dropped == 0
