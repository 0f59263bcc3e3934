"""The keyboard over a real pseudoterminal: typed, counted, ended by a key."""

import os
import termios
import tty

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from attachd.errors import Refused, RemoteProtocolError
from attachd.keeper.descriptors import make_inner_pipe, make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.keyboard import Keyboard
from attachd.live.terminal import Terminal
from attachd.state.canonical import MAX_LINE

ME, YOU = b"m" * 16, b"y" * 16
END = b"\x04"


class Bench:
    """A terminal in the container's place, and servers that come and go."""

    def __init__(self) -> None:
        self.ring, header = make_ring(1 << 20)
        self.header = map_header(header)
        os.close(header)
        pipe = make_inner_pipe()
        self.inner_read, self.inner_write = pipe.ours["stdout"], pipe.ours["inner"]
        self.intake = os.memfd_create("stdin")
        self.master, self.slave = os.openpty()
        for fd in (self.master, self.slave):
            os.set_blocking(fd, False)
        settings = termios.tcgetattr(self.slave)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)
        self.told: list[tuple[bytes, str]] = []
        self.keyboards: list[Keyboard] = []

    def raw(self) -> None:
        """Have the program take each byte as it is."""
        tty.setraw(self.slave, termios.TCSANOW)

    def server(self) -> Keyboard:
        """Return what a fresh server makes of the descriptors."""
        feed = Feed(self.ring, self.header)
        self.terminal = Terminal(feed, self.master, self.inner_read, self.inner_write)
        keyboard = Keyboard(
            self.header,
            self.terminal,
            self.intake,
            lambda key, text: self.told.append((key, text)),
        )
        self.keyboards.append(keyboard)
        return keyboard

    def read(self) -> bytes:
        """Return what the program can read now: in canonical mode a line."""
        try:
            return os.read(self.slave, 1 << 16)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in (self.ring, self.inner_read, self.inner_write, self.intake,
                   self.master, self.slave):  # fmt: skip
            os.close(fd)
        for keyboard in self.keyboards:
            os.close(keyboard._append_fd)


@pytest.fixture
def bench():
    """Closed at the end."""
    made = Bench()
    yield made
    made.close()


async def delivered(bench: Bench, keyboard: Keyboard, size: int) -> bytes:
    """Run the keyboard until the program has read ``size`` bytes."""
    data = b""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keyboard.run)
            while len(data) < size:
                with trio.move_on_after(0.05):  # a poll makes the kernel look at its input
                    await trio.lowlevel.wait_readable(bench.slave)
                data += bench.read()
            nursery.cancel_scope.cancel()
    return data


async def read_line(bench: Bench) -> bytes:
    """Return what one read gives a program that waits; b"" is the end of its input."""
    with trio.fail_after(20):
        while True:
            with trio.move_on_after(0.05):
                await trio.lowlevel.wait_readable(bench.slave)
            try:
                return os.read(bench.slave, 1 << 16)
            except BlockingIOError:
                continue


class Ear:
    """A writer's acknowledgements."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, bool]] = []

    def __call__(self, offset: int, eof: bool) -> None:
        self.heard.append((offset, eof))


async def test_what_is_typed_is_read_by_the_program(bench) -> None:
    """At once, without the task, and acknowledged."""
    keyboard, ear = bench.server(), Ear()
    keyboard.subscribe(ME, ear)
    keyboard.offer(ME, 0, b"hello\n")
    assert ear.heard == [(6, False)]
    assert await read_line(bench) == b"hello\n"
    assert keyboard.state == "open"
    assert bench.told == []


@settings(max_examples=30)
@given(
    st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.integers(0, 60), st.booleans()))
)
async def test_what_is_sent_again_is_not_typed_again(data, script) -> None:
    """From wherever a writer goes on, and over deaths of the server: each byte once."""
    bench = Bench()
    bench.raw()
    keyboard = bench.server()
    try:
        for begin, dies in script:
            keyboard = bench.server() if dies else keyboard
            begin = min(begin, keyboard.accepted(ME))
            keyboard.offer(ME, begin, data[begin : begin + 10])
        keyboard.offer(ME, 0, data)
        assert keyboard.accepted(ME) == len(data)
        assert await delivered(bench, keyboard, len(data)) == data
    finally:
        bench.close()


async def test_a_program_that_does_not_read_for_a_while_gets_everything(
    bench, autojump_clock
) -> None:
    """300 KB into a terminal that holds far less: whole, in order, and then acknowledged."""
    bench.raw()
    keyboard, ear, data, got = bench.server(), Ear(), os.urandom(300_000), b""
    keyboard.subscribe(ME, ear)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keyboard.run)
        for at in range(0, len(data), 1000):
            keyboard.offer(ME, at, data[at : at + 1000])
        await trio.sleep(60)
        assert keyboard.counters["delivered"] < len(data)
        assert ear.heard[-1:] < [(len(data), False)]
        for _ in range(100_000):
            got += bench.read()
            if len(got) == len(data):
                break
            await trio.sleep(0.01)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert got == data
    assert ear.heard[-1] == (len(data), False)
    assert [offset for offset, _ in ear.heard] == sorted(offset for offset, _ in ear.heard)
    assert bench.told == []


async def test_a_server_that_dies_while_nobody_reads_loses_nothing(
    bench, autojump_clock
) -> None:
    """Its successor delivers the rest, and acknowledges what was accepted before."""
    bench.raw()
    keyboard, data, got = bench.server(), os.urandom(200_000), b""
    keyboard.offer(ME, 0, data[:150_000])
    for _ in range(3):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keyboard.run)
            await trio.sleep(1)
            got += bench.read()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        keyboard, ear = bench.server(), Ear()
        keyboard.subscribe(ME, ear)
    assert keyboard.accepted(ME) == 150_000
    keyboard.offer(ME, 150_000, data[150_000:])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keyboard.run)
        for _ in range(100_000):
            got += bench.read()
            if len(got) == len(data):
                break
            await trio.sleep(0.01)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert got == data
    assert ear.heard[-1] == (len(data), False)


# The end


async def test_the_end_is_a_key(bench) -> None:
    """A program that reads is told that there is nothing; others may go on."""
    keyboard, ear = bench.server(), Ear()
    keyboard.subscribe(ME, ear)
    keyboard.offer_eof(ME, 0)
    assert await read_line(bench) == b""
    assert ear.heard[-1] == (1, True)
    assert keyboard.state == "open"
    with pytest.raises(Refused) as caught:
        keyboard.offer(ME, 1, b"more")
    assert caught.value.code == "stdin_closed"
    keyboard.offer(YOU, 0, b"mine\n")
    assert await read_line(bench) == b"mine\n"


@pytest.mark.parametrize("last", [b"\n", b"\r", END])
async def test_after_a_whole_line_the_end_is_one_key(bench, last) -> None:
    """One that ends a line ends it, whichever it is."""
    keyboard = bench.server()
    keyboard.offer(ME, 0, b"line" + last)
    keyboard.offer_eof(ME, 5)
    assert (await read_line(bench)).rstrip() == b"line"
    assert await read_line(bench) == b""
    assert keyboard.accepted(ME) == 6


async def test_with_an_open_line_the_end_is_two_keys(bench) -> None:
    """The first gives the program what there is of the line, the second is the end."""
    keyboard, ear = bench.server(), Ear()
    keyboard.subscribe(ME, ear)
    keyboard.offer(ME, 0, b"no newline")
    keyboard.offer_eof(ME, 10)
    assert await read_line(bench) == b"no newline"
    assert await read_line(bench) == b""
    assert ear.heard[-1] == (12, True)


async def test_an_open_line_is_known_after_a_restart(bench) -> None:
    """The last byte is in the file."""
    bench.server().offer(ME, 0, b"no newline")
    bench.server().offer_eof(YOU, 0)
    assert await read_line(bench) == b"no newline"
    assert await read_line(bench) == b""


async def test_a_program_in_raw_mode_gets_the_key_as_it_is(bench) -> None:
    """Once: there are no lines."""
    bench.raw()
    keyboard = bench.server()
    keyboard.offer(ME, 0, b"no newline")
    keyboard.offer_eof(ME)
    assert await delivered(bench, keyboard, 11) == b"no newline" + END


async def test_the_key_is_the_one_that_the_program_has_set(bench) -> None:
    """VEOF may be another."""
    settings = termios.tcgetattr(bench.slave)
    settings[6][termios.VEOF] = b"\x05"
    termios.tcsetattr(bench.slave, termios.TCSANOW, settings)
    bench.server().offer_eof(ME, 0)
    assert await read_line(bench) == b""


@pytest.mark.parametrize("typed", [b"", b"line\n", b"open"])
async def test_an_end_that_is_sent_again_is_not_typed_again(bench, typed) -> None:
    """Neither to the same server nor after a restart."""
    bench.raw()
    keyboard = bench.server()
    keyboard.offer(ME, 0, typed)
    keyboard.offer_eof(ME, len(typed))
    keyboard.offer_eof(ME, len(typed))
    for _ in range(2):
        keyboard, ear = bench.server(), Ear()
        keyboard.subscribe(ME, ear)
        keyboard.offer(ME, 0, typed)
        keyboard.offer_eof(ME, len(typed))
        assert ear.heard[-1][1]
        with pytest.raises(Refused):
            keyboard.offer(ME, len(typed) + 1, b"more")
    keyboard.offer(YOU, 0, b"!")
    assert await delivered(bench, keyboard, len(typed) + 2) == typed + END + b"!"


async def test_an_end_without_an_offset_is_where_the_writer_is(bench) -> None:
    """As when a client has gone."""
    keyboard = bench.server()
    keyboard.offer(ME, 0, b"line\n")
    keyboard.offer_eof(ME)
    assert await read_line(bench) == b"line\n"
    assert await read_line(bench) == b""


async def test_an_end_behind_a_hole_is_the_writers_fault(bench) -> None:
    """And nothing is typed."""
    keyboard = bench.server()
    keyboard.offer(ME, 0, b"abc")
    with pytest.raises(RemoteProtocolError):
        keyboard.offer_eof(ME, 4)
    with pytest.raises(RemoteProtocolError):
        keyboard.offer(ME, 5, b"e")
    assert keyboard.accepted(ME) == 3
    keyboard.offer(ME, 3, b"\n")
    assert await read_line(bench) == b"abc\n"


async def test_after_the_containers_end_nothing_is_taken(bench) -> None:
    """Everybody is told, the task ends, and what comes later is refused."""
    bench.raw()
    keyboard, ears = bench.server(), {ME: Ear(), YOU: Ear()}
    for key, ear in ears.items():
        keyboard.subscribe(key, ear)
    keyboard.offer(ME, 0, b"abc")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keyboard.run)
            await trio.testing.wait_all_tasks_blocked()
            keyboard.end()
    assert keyboard.state == "closed"
    assert ears[ME].heard[-1] == (3, True)
    assert ears[YOU].heard[-1] == (0, True)
    for key, offset in ((ME, 3), (YOU, 0)):
        with pytest.raises(Refused) as caught:
            keyboard.offer(key, offset, b"x")
        assert caught.value.code == "stdin_closed"
    keyboard.offer(ME, 0, b"abc")  # it was taken before
    assert bench.server().state == "closed"


async def test_the_end_comes_also_while_nobody_reads(bench, autojump_clock) -> None:
    """What waits for the terminal is given up with it: no byte of it counts as delivered."""
    bench.raw()
    keyboard, ear = bench.server(), Ear()
    keyboard.subscribe(ME, ear)
    for number in range(15):
        keyboard.offer(ME, number * 100_000, b"x" * 100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keyboard.run)
        await trio.sleep(10)
        keyboard.end()
    assert keyboard.counters["queued"] == 0
    assert ear.heard[-1][1]
    assert ear.heard[-1][0] <= keyboard.counters["delivered"]


async def test_an_end_of_input_after_the_containers_end_hurts_nobody(bench) -> None:
    """A client that has not heard of it says its end: it is told that stdin is closed."""
    keyboard = bench.server()
    keyboard.end()
    with pytest.raises(Refused) as caught:
        keyboard.offer_eof(ME, 0)
    assert caught.value.code == "stdin_closed"


# Long lines


@pytest.mark.parametrize("size", [10, 1000, 5001])
async def test_a_line_that_is_too_long_is_told_to_its_writer_alone(bench, size) -> None:
    """Once for each line, however it is typed, and to nobody else."""
    keyboard, line = bench.server(), b"x" * 5000 + b"\n"
    keyboard.offer(YOU, 0, b"short\n")
    assert await read_line(bench) == b"short\n"
    for round_ in (0, 1):
        for at in range(0, len(line), size):
            keyboard.offer(ME, round_ * len(line) + at, line[at : at + size])
        assert len(await delivered(bench, keyboard, MAX_LINE + 1)) == MAX_LINE + 1
        assert [key for key, _ in bench.told] == [ME] * (round_ + 1)
    assert str(MAX_LINE) in bench.told[0][1]


async def test_who_types_the_byte_that_is_lost_is_told(bench) -> None:
    """Several may type at one line."""
    keyboard = bench.server()
    keyboard.offer(YOU, 0, b"y" * (MAX_LINE - 1))
    keyboard.offer(ME, 0, b"m")
    assert bench.told == []
    keyboard.offer(YOU, MAX_LINE - 1, b"yy")
    keyboard.offer(ME, 1, b"m\n")
    assert [key for key, _ in bench.told] == [YOU]
    assert await delivered(bench, keyboard, MAX_LINE + 1) == (
        b"y" * (MAX_LINE - 1) + b"m" + b"\n"
    )


async def test_who_types_the_lost_byte_is_told_also_when_much_is_delivered_at_once(
    bench,
) -> None:
    """Entries of several writers that waited go to the terminal together."""
    first = bench.server()
    first._deliver_at_once = lambda: None  # a server that dies before it delivers
    first.offer(YOU, 0, b"y" * 2000)
    first.offer(ME, 0, b"m" * 4000)
    first.offer(YOU, 2000, b"y\n")
    assert first._deliver()
    assert [key for key, _ in bench.told] == [ME]


@pytest.mark.parametrize("length", [MAX_LINE - 1, MAX_LINE])
async def test_a_line_that_fits_is_not_told(bench, length) -> None:
    """MAX_LINE bytes and the newline."""
    keyboard = bench.server()
    keyboard.offer(ME, 0, b"x" * length + b"\n")
    assert await delivered(bench, keyboard, length + 1) == b"x" * length + b"\n"
    assert bench.told == []


async def test_a_terminal_in_raw_mode_takes_lines_of_any_length(bench) -> None:
    """Nothing is lost, and nothing is told."""
    bench.raw()
    keyboard, data = bench.server(), b"x" * 20_000
    keyboard.offer(ME, 0, data)
    assert await delivered(bench, keyboard, len(data)) == data
    assert bench.told == []
