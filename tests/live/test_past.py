"""The past: modes and sizes at any offset, over a ring that forgets and servers that die."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st
from mortal import Killed

import attachd.live.past as past_room
from attachd.keeper import files
from attachd.live.feed import Feed
from attachd.live.past import SCREEN_BYTES, Past
from attachd.state.header import Header, header_bytes
from attachd.state.modes import Modes
from attachd.state.ring import STDOUT
from attachd.state.sizes import Size

FIRST = Size(80, 24)


class World:
    """What outlives a server: a ring, a header, a directory; and all output, for comparison."""

    def __init__(self, directory: Path, ring_size: int = 1 << 20, slots: int = 1024) -> None:
        self.directory = str(directory)
        self.ring = os.memfd_create("ring")
        self.words = memoryview(bytearray(header_bytes(slots))).cast("Q")
        Header(self.words).format(ring_size, slots)
        self.truth = b""
        self.start()

    def start(self, first: Size = FIRST) -> None:
        """Have a fresh server take over."""
        self.feed = Feed(self.ring, Header(self.words))
        self.past = Past(self.feed, self.directory, first)

    def output(self, data: bytes) -> None:
        """Have some output arrive, as the pump does it."""
        if data:
            self.feed.index.mark(STDOUT, len(self.truth))
            os.write(self.ring, data)
            self.truth += data
            self.feed.arrived(len(data))
            while self.past.keep_up():  # as its task does
                pass

    async def check_screen(self, limit: int = SCREEN_BYTES) -> None:
        """Compare what a client is given with the modes of everything before it."""
        offset, modes = await self.past.find_screen()
        index = self.feed.index
        assert index.oldest <= offset <= index.newest
        assert index.newest - offset <= limit
        there_is = max(index.oldest, index.newest - limit, index.middle)
        assert offset <= there_is  # as much as there is, and is not scanned yet
        assert state_after(modes) == state_after(self.truth[:offset])

    def close(self) -> None:
        os.close(self.ring)


def state_after(data: bytes) -> Modes:
    modes = Modes()
    modes.feed(data)
    return modes


@pytest.fixture
def world(tmp_path: Path):
    """Closed at the end."""
    made = World(tmp_path)
    yield made
    made.close()


SEQUENCES = [
    b"\x1b[?25l", b"\x1b[?25h", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?1000;1006h",
    b"\x1b[?1000;1006l", b"\x1b[?2004h", b"\x1b[?2004l", b"\x1b[1;31m", b"\x1b[0m", b"\x1b[4m",
    b"\x1b]2;a title\x07", b"\x1b]0;another\x1b\\", b"\x1b[22;0t", b"\x1b[23;0t", b"\x1b[>1u",
    b"\x1b[>5u", b"\x1b[<u", b"\x1b=", b"\x1b>", b"\x1b[5;20r", b"\x1b[r", b"\x1b(0", b"\x1b(B",
    b"\x0e", b"\x0f", b"\x1bc", b"\x1b[!p", b"\x1b[4 q", b"\x1b[?7l",
]  # fmt: skip

pieces = st.one_of(
    st.sampled_from(SEQUENCES), st.builds(lambda n: b"text\r\n" * n, st.integers(1, 12))
)


async def run_script(script, ring_size: int, slots: int, screen: int, scan: int) -> None:
    """Play output, screens and deaths; a fuse says how many of our steps a server survives."""
    fuse = [10**9]

    def burning(step):
        def call(*args, **more):
            fuse[0] -= 1
            if fuse[0] == 0:
                raise Killed
            return step(*args, **more)

        return call

    patches = (
        mock.patch.object(past_room, "SCREEN_BYTES", screen),
        mock.patch.object(past_room, "SCAN_BYTES", scan),
        mock.patch.object(files, "write_json", burning(files.write_json)),
    )
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        world = World(Path(directory), ring_size, slots)
        stack.callback(world.close)

        def arm() -> None:
            world.feed.index.forget = burning(world.feed.index.forget)
            world.feed._libc.punch = burning(world.feed._libc.punch)

        arm()
        for what, more in script:
            try:
                if what == "output":
                    world.output(more)
                elif what == "screen":
                    await world.check_screen(screen)
                elif what == "resize":
                    world.past.resized(Size(more, more))
                elif what == "fuse":
                    fuse[0] = more
                else:
                    raise Killed
            except Killed:
                fuse[0] = 10**9
                world.start()
                arm()
        fuse[0] = 10**9
        await world.check_screen(screen)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("output"), pieces),
        st.tuples(st.just("output"), st.lists(pieces, max_size=6).map(b"".join)),
        # Cut anywhere: half a sequence is output, too.
        st.tuples(
            st.just("output"),
            st.builds(lambda data, n: data[:n], st.sampled_from(SEQUENCES), st.integers(1, 9)),
        ),
        st.tuples(st.just("screen"), st.none()),
        st.tuples(st.just("resize"), st.integers(1, 100)),
        st.tuples(st.just("fuse"), st.integers(1, 4)),
        st.tuples(st.just("die"), st.none()),
    ),
    max_size=40,
)


@given(
    script=steps,
    ring_size=st.integers(20, 300),
    slots=st.sampled_from([4, 10, 1024]),
    screen=st.integers(10, 400),
    scan=st.sampled_from([1, 7, 1000]),
)
@example(
    script=[
        ("output", b"\x1b[>5u" + b"x" * 280),  # forgotten up to 100, and noted
        ("output", b"\x1b[>1u" + b"x" * 20 + b"\x1b[<u" + b"x" * 60),
        ("screen", None),  # looks ahead: there the modes are those that were noted
        ("output", b"x" * 50),
        ("die", None),  # what is held begins at 300, between the two
        ("screen", None),
    ],
    ring_size=100,
    slots=1024,
    screen=50,
    scan=1000,
)
async def test_the_modes_at_a_screen_are_those_of_all_output_before_it(
    script, ring_size, slots, screen, scan
) -> None:
    """Whatever the ring and its index have forgotten, and whenever servers die."""
    await run_script(script, ring_size, slots, screen, scan)


@pytest.mark.parametrize(
    ("push", "pop"),
    [(b"\x1b[>1u", b"\x1b[<u"), (b"\x1b[22;0t\x1b]2;x\x07", b"\x1b[23;0t")],
)
@pytest.mark.parametrize("gone", [0, 140, 200, 320])
async def test_a_screen_that_was_asked_for_before_a_death_changes_nothing(
    tmp_path, push, pop, gone
) -> None:
    """A look ahead has seen modes come and go that the successor finds half way in the ring."""
    world = World(tmp_path, ring_size=200)
    with mock.patch.object(past_room, "SCREEN_BYTES", 50):
        world.output(push + b"x" * 300)
        world.output(push + b"x" * 100 + pop)
        world.output(b"x" * 60)
        await world.check_screen(50)
        world.output(b"x" * gone)
        world.start()
        await world.check_screen(50)
    world.close()


async def test_what_a_full_ring_forgets_is_in_the_file_before(tmp_path) -> None:
    """With the modes that are still on, a megabyte later, also for a successor."""
    world = World(tmp_path, ring_size=100_000)
    world.output(b"\x1b[?1049h\x1b[?25l\x1b]2;vi\x07")
    for _ in range(12):
        world.output(b"some text\r\n" * 9000)
        await world.check_screen()
        world.start()
        await world.check_screen()
    assert world.feed.index.oldest > 0
    assert (await world.past.find_screen())[1]
    world.close()


async def test_a_long_past_is_scanned_without_stopping_the_others(world) -> None:
    """A client that asks for a screen may wait; the pump may not."""
    world = World(Path(world.directory), ring_size=1 << 23)
    for _ in range(4):
        world.output(b"\x1b[1mtext\r\n" * 100_000)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await world.check_screen()
        nursery.cancel_scope.cancel()
    assert turns >= (4_000_000 - SCREEN_BYTES) // past_room.SCAN_BYTES - 2
    world.close()


async def test_two_clients_that_ask_at_once_are_both_told_the_truth(world) -> None:
    """While output goes on coming."""
    for _ in range(3):
        world.output(b"\x1b[?25l" + b"text\r\n" * 100_000 + b"\x1b[?25h")

    async def more() -> None:
        for _ in range(10):
            world.output(b"\x1b[4mtext\r\n" * 20_000)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.check_screen)
        nursery.start_soon(more)
        nursery.start_soon(world.check_screen)


async def test_a_terminal_that_has_said_nothing_has_a_screen(world) -> None:
    """Of the size that it was given."""
    assert await world.past.find_screen() == (0, b"")
    assert world.past.timeline.last.size == FIRST


def test_sizes_outlive_the_server(world) -> None:
    """With their places in the output; the successor's first size is not asked for."""
    world.output(b"abc")
    world.past.resized(Size(100, 30))
    world.output(b"def")
    world.past.resized(Size(120, 40))
    changes = world.past.timeline.changes
    for _ in range(2):
        world.start(first=Size(1, 1))
        assert world.past.timeline.changes == changes
    assert [world.past.timeline.at(offset).size for offset in (2, 3, 6)] == [
        FIRST, Size(100, 30), Size(120, 40),
    ]  # fmt: skip
    world.past.resized(Size(5, 5))
    assert world.past.timeline.last.number == changes[-1].number + 1


def test_a_size_is_on_the_disk_before_anybody_is_told(world) -> None:
    """A death right after it repeats the change and does not forget it."""
    world.past.resized(Size(100, 30))
    record = json.loads((Path(world.directory) / files.TERMINAL).read_bytes())
    assert record["sizes"][-1][-2:] == [100, 30]


async def test_sizes_that_nobody_can_see_any_more_are_forgotten(tmp_path) -> None:
    """With the output that they were for."""
    world = World(tmp_path, ring_size=1000)
    for side in range(1, 100):
        world.past.resized(Size(side, side))
        world.output(b"x" * 100)
    changes = world.past.timeline.changes
    assert len(changes) <= 1000 // 100 + 12
    assert world.past.timeline.at(world.feed.index.oldest).offset <= world.feed.index.oldest
    world.start()
    assert world.past.timeline.last.size == Size(99, 99)
    world.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", b"[]", b"{}", b'{"at": 0, "modes": "", "sizes": []}',
     b'{"at": 0, "modes": "A", "sizes": [[1, 0, 0, 80, 24]]}',
     b'{"at": "x", "modes": "", "sizes": [[1, 0, 0, 80, 24]]}',
     b'{"at": 0, "modes": "", "sizes": [[1, 0, 0, 80]]}',
     b'{"at": 0, "modes": "", "sizes": [[1, 0, 0, 80, null]]}',
     b'{"at": 0, "modes": "", "sizes": [5]}'],
)  # fmt: skip
async def test_a_file_that_is_no_past_is_as_good_as_none(world, content) -> None:
    """A server starts with whatever it finds."""
    (Path(world.directory) / files.TERMINAL).write_bytes(content)
    world.start(first=Size(90, 30))
    assert world.past.timeline.last.size == Size(90, 30)
    world.output(b"\x1b[?25l")
    await world.check_screen()


async def test_a_directory_that_was_removed_hurts_nobody(tmp_path) -> None:
    """Output and sizes go on; only a successor would not know."""
    directory = tmp_path / "state"
    directory.mkdir()
    world = World(directory, ring_size=1000)
    directory.rmdir()
    world.past.resized(Size(100, 30))
    for _ in range(10):
        world.output(b"\x1b[?25l" + b"x" * 500)
    assert world.past.timeline.last.size == Size(100, 30)
    await world.check_screen()
    world.close()
