"""The terminal over a real pseudoterminal: its output, its end, and how it takes a line."""

import errno
import os
import termios

import pytest
import trio
import trio.testing

from attachd.keeper.descriptors import make_inner_pipe, make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.terminal import CLOSED_SECONDS, Terminal
from attachd.state.ring import STDOUT
from attachd.state.sizes import Size


class Bench:
    """A terminal, a ring, and servers that come and go over them; a container that ends."""

    def __init__(self, ring_size: int = 1 << 20) -> None:
        self.ring, header = make_ring(ring_size)
        self.header = map_header(header)
        os.close(header)
        pipe = make_inner_pipe()
        self.inner_read, self.inner_write = pipe.ours["stdout"], pipe.ours["inner"]
        for fd in (self.inner_read, self.inner_write):
            os.set_blocking(fd, False)
        self.master, self.slave = os.openpty()
        self.path = os.ttyname(self.slave)
        os.set_blocking(self.master, False)
        self.change(oflag=0)  # output is not processed: what is written is what arrives
        self.exited = trio.Event()

    def change(
        self, oflag: int | None = None, lflag: int | None = None, **keys: bytes
    ) -> None:
        """Change the terminal's settings from the program's side."""
        settings = termios.tcgetattr(self.slave)
        settings[1] = settings[1] if oflag is None else oflag
        settings[3] = settings[3] if lflag is None else lflag
        for name, key in keys.items():
            settings[6][getattr(termios, name)] = key
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)

    def server(self) -> tuple[Feed, Terminal]:
        """Return what a fresh server makes of the descriptors."""
        feed = Feed(self.ring, self.header)
        return feed, Terminal(feed, self.master, self.inner_read, self.inner_write)

    def hang_up(self) -> None:
        """Have the last program close the terminal."""
        os.close(self.slave)
        self.slave = -1

    def open_again(self) -> None:
        """Have a program open it, as one does that opens /dev/console."""
        self.slave = os.open(self.path, os.O_RDWR | os.O_NOCTTY)

    async def write(self, data: bytes) -> None:
        """Write at the slave's side, as a program does that waits when the terminal is full."""
        os.set_blocking(self.slave, False)
        rest = data
        while rest:
            try:
                rest = rest[os.write(self.slave, rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.slave)

    def output(self, feed: Feed) -> bytes:
        return feed.read(0, feed.index.newest)

    def close(self) -> None:
        for fd in (self.ring, self.inner_read, self.inner_write, self.master, self.slave):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def bench():
    """Closed at the end."""
    made = Bench()
    yield made
    made.close()


async def until(feed: Feed, size: int) -> None:
    """Return when ``size`` bytes have arrived."""
    bell = feed.subscribe()
    with trio.fail_after(20):
        while feed.index.newest < size:
            await bell.wait()


def pattern(size: int) -> bytes:
    """Bytes of which none looks like its neighbourhood."""
    return b"".join(b"%07d\n" % number for number in range(size // 8))


async def test_every_byte_arrives_in_order(bench) -> None:
    """Much more than the terminal and the pipe hold."""
    feed, terminal = bench.server()
    data = pattern(600_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminal.pump, bench.exited.wait)
        await bench.write(data)
        await until(feed, len(data))
        nursery.cancel_scope.cancel()
    assert bench.output(feed) == data
    assert feed.index.bytes_of(STDOUT) == len(data)
    assert STDOUT not in feed.ends


async def test_what_was_written_last_is_not_lost_at_the_end(bench) -> None:
    """The program writes, closes and is reaped before we look: then comes the end, once."""
    feed, terminal = bench.server()
    data = pattern(200_000)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.pump, bench.exited.wait)
            await bench.write(data)
            bench.hang_up()
            bench.exited.set()
    assert bench.output(feed) == data
    assert feed.ends == {STDOUT: len(data)}


async def test_a_container_that_ended_before_the_server_came_is_read_to_its_end(bench) -> None:
    """A restarted server finds a terminal with output that nobody has open."""
    await bench.write(b"last words")
    bench.hang_up()
    bench.exited.set()
    feed, terminal = bench.server()
    with trio.fail_after(20):
        await terminal.pump(bench.exited.wait)
    assert bench.output(feed) == b"last words"
    assert feed.ends == {STDOUT: 10}


async def test_a_terminal_that_nobody_has_open_is_not_at_its_end(bench) -> None:
    """Until the container has ended a program may open it again, and be heard."""
    feed, terminal = bench.server()
    closed = trio.Event()

    async def wait_exit() -> None:
        closed.set()  # it is asked for when a look has found that nobody has it open
        await bench.exited.wait()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.pump, wait_exit)
            await bench.write(b"one")
            await until(feed, 3)
            for word in (b"two", b"six"):
                bench.hang_up()
                closed = trio.Event()
                await closed.wait()
                assert feed.ends == {}
                size = feed.index.newest
                bench.open_again()
                await bench.write(word)
                await until(feed, size + 3)
            bench.hang_up()
            bench.exited.set()
    assert bench.output(feed) == b"onetwosix"
    assert feed.ends == {STDOUT: 9}


async def test_a_closed_terminal_is_looked_at_now_and_then_only(bench, autojump_clock) -> None:
    """A descriptor that is hung up is always "ready": it must not be turned into a loop."""
    feed, terminal = bench.server()
    bench.hang_up()
    looks = 0

    async def wait_exit() -> None:
        nonlocal looks
        looks += 1
        await bench.exited.wait()

    with trio.move_on_after(100 * CLOSED_SECONDS):
        await terminal.pump(wait_exit)
    assert 50 <= looks <= 101
    assert feed.ends == {}


async def test_a_program_that_still_has_it_open_after_the_end_is_heard(bench) -> None:
    """An orphan that writes on; the pump ends when it closes, too."""
    feed, terminal = bench.server()
    bench.exited.set()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.pump, bench.exited.wait)
            await bench.write(b"still here")
            await until(feed, 10)
            assert feed.ends == {}
            bench.hang_up()
    assert feed.ends == {STDOUT: 10}


async def test_what_a_dead_server_left_in_the_pipe_comes_first(bench) -> None:
    """Killed between its two splices: the successor moves that before anything newer."""
    os.write(bench.inner_write, b"left behind, ")
    feed, terminal = bench.server()
    await bench.write(b"newer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminal.pump, bench.exited.wait)
        await until(feed, 18)
        nursery.cancel_scope.cancel()
    assert bench.output(feed) == b"left behind, newer"


async def test_what_a_dead_server_left_is_moved_also_when_nobody_writes_any_more(
    bench,
) -> None:
    """Neither a silent terminal nor a closed one is waited for."""
    os.write(bench.inner_write, b"left")
    feed, terminal = bench.server()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminal.pump, bench.exited.wait)
        await until(feed, 4)
        nursery.cancel_scope.cancel()
    os.write(bench.inner_write, b" behind")
    bench.hang_up()
    bench.exited.set()
    feed, terminal = bench.server()
    with trio.fail_after(20):
        await terminal.pump(bench.exited.wait)
    assert bench.output(feed) == b"left behind"


async def test_servers_that_are_stopped_one_after_another_lose_nothing(bench) -> None:
    """Cancelled wherever they are, while a program writes on."""
    data, feed = pattern(400_000), None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.write, data)
        newest = 0
        while newest < len(data):
            feed, terminal = bench.server()
            async with trio.open_nursery() as life:
                life.start_soon(terminal.pump, bench.exited.wait)
                await until(feed, min(len(data), newest + 30_000))
                life.cancel_scope.cancel()
            newest = feed.index.newest
    assert bench.output(feed) == data


@pytest.mark.parametrize("ring_size", [4096, 100_000])
async def test_a_ring_without_room_stops_the_program_and_nothing_else(ring_size) -> None:
    """What a log still needs is not overwritten; as the log goes on, so does the output."""
    bench = Bench(ring_size)
    feed, terminal = bench.server()
    data, got = pattern(300_000), b""
    feed.low_waters[0] = 0
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.write, data)
            nursery.start_soon(terminal.pump, bench.exited.wait)
            while len(got) < len(data):
                await until(feed, len(got) + 1)
                await trio.testing.wait_all_tasks_blocked()
                newest = feed.index.newest
                assert newest - feed.low_water <= ring_size
                got += feed.read(len(got), newest)
                feed.low_waters[0] = newest
                feed.room_bell.ring()
            nursery.cancel_scope.cancel()
        assert got == data
    finally:
        bench.close()


async def test_the_pump_waits_for_room_before_the_end(bench) -> None:
    """What is left in the pipe and the terminal when the container ends is not given up."""
    bench.close()
    bench.__init__(1000)
    feed, terminal = bench.server()
    feed.low_waters[0] = 0
    data = pattern(3000)
    await bench.write(data)
    bench.hang_up()
    bench.exited.set()
    got = b""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminal.pump, bench.exited.wait)
            while len(got) < len(data):
                await until(feed, len(got) + 1)
                assert feed.ends == {}
                got += feed.read(len(got), feed.index.newest)
                feed.low_waters[0] = len(got)
                feed.room_bell.ring()
    assert got == data
    assert feed.ends == {STDOUT: len(data)}


async def test_an_error_that_is_not_a_hangup_is_not_hidden(bench, monkeypatch) -> None:
    """Only EIO says that nobody has the terminal open."""
    _, terminal = bench.server()

    def splice(*_args, **_more) -> int:
        raise OSError(errno.EINVAL, "what is this")

    monkeypatch.setattr(os, "splice", splice)
    with pytest.raises(OSError, match="what is this"):
        await terminal.pump(bench.exited.wait)


def test_the_size_is_the_programs(bench) -> None:
    """As it asks for it; after the end nobody is there to be told."""
    _, terminal = bench.server()
    terminal.set_size(Size(columns=132, rows=43))
    assert os.get_terminal_size(bench.slave) == (132, 43)
    bench.hang_up()
    terminal.set_size(Size(1, 1))


def test_the_rules_are_those_that_the_program_has_set(bench) -> None:
    """Canonical mode, and each key that ends, drops or shortens a line."""
    _, terminal = bench.server()
    bench.change(VEOF=b"\x05", VEOL=b"!", VEOL2=b"?", VERASE=b"\x08", VKILL=b"\x0b")
    bench.change(VINTR=b"\x01", VQUIT=b"\x02", VSUSP=b"\x03")
    rules = terminal.line_rules()
    assert rules.canonical
    assert set(rules.ends) == set(b"\n\r\x05!?")
    assert set(rules.drops) == set(b"\x0b\x01\x02\x03")
    assert rules.erase == b"\x08"
    assert terminal.end_of_input() == b"\x05"


def test_keys_that_are_off_are_none(bench) -> None:
    """_POSIX_VDISABLE is a zero byte; an end there must be all the same."""
    _, terminal = bench.server()
    off = dict.fromkeys(("VEOF", "VEOL", "VEOL2", "VERASE", "VKILL"), b"\0")
    bench.change(**off, VINTR=b"\0", VQUIT=b"\0", VSUSP=b"\0")
    rules = terminal.line_rules()
    assert (set(rules.ends), rules.drops, rules.erase) == (set(b"\n\r"), b"", b"")
    assert terminal.end_of_input() == b"\x04"


def test_flags_decide_which_keys_count(bench) -> None:
    """Without ISIG, or with NOFLSH, a signal drops no line; without ICRNL a return is a byte."""
    _, terminal = bench.server()
    settings = termios.tcgetattr(bench.slave)
    kill = settings[6][termios.VKILL]
    bench.change(lflag=settings[3] & ~termios.ISIG)
    assert terminal.line_rules().drops == kill
    bench.change(lflag=settings[3] | termios.ISIG | termios.NOFLSH)
    assert terminal.line_rules().drops == kill
    bench.change(lflag=settings[3] & ~termios.ICANON)
    assert not terminal.line_rules().canonical
    settings[0] &= ~termios.ICRNL
    settings[1] = 0
    termios.tcsetattr(bench.slave, termios.TCSANOW, settings)
    rules = terminal.line_rules()
    assert rules.canonical
    assert b"\r" not in rules.ends


@pytest.mark.parametrize("flags", [termios.VMIN, termios.VTIME])
def test_raw_mode_shares_no_place_with_the_keys(bench, flags) -> None:
    """Linux keeps VMIN and VTIME apart from VEOF and VEOL; Python tells them as numbers."""
    _, terminal = bench.server()
    settings = termios.tcgetattr(bench.slave)
    settings[3] &= ~termios.ICANON
    settings[6][flags] = 7
    termios.tcsetattr(bench.slave, termios.TCSANOW, settings)
    rules = terminal.line_rules()
    assert not rules.canonical
    assert b"\x07" not in _each(rules.ends + rules.drops + rules.erase)


def _each(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
