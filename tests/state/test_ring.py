"""The index against plain lists, with a death at any store."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from mortal import Killed, Words

from attachd.state.header import Header, header_bytes
from attachd.state.ring import (
    MIN_RECORDS,
    STDERR,
    STDOUT,
    STREAMS,
    Chunk,
    Cursor,
    Index,
    Missed,
    index_capacity,
)


def fresh(ring_size: int = 1 << 16, slots: int = 8) -> tuple[memoryview, Header]:
    words = memoryview(bytearray(header_bytes(slots))).cast("Q")
    Header(words).format(ring_size, slots)
    return words, Header(words)


def forget(index: Index, low_water: int, grain: int) -> tuple[int, int] | None:
    """What a pump does after a step: note what is gone, as far as it is worth it."""
    old = index.stale(low_water, grain)
    if old is not None:
        index.forget(old[1])
    return old


steps = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.integers(0, 9), st.integers(0, 12)),
    max_size=40,
)


@given(steps, st.booleans())
def test_a_death_at_any_store_leaves_no_byte_in_doubt(script, die) -> None:
    """Stream and time of every byte that is still held are those of its splice."""
    words, _ = fresh()
    kernel = 0  # the position of the ring file
    truth: list[tuple[int, int]] = []  # per byte: stream, time
    index = Index(Header(words), 0)
    for when, (stream, count, fuse) in enumerate(script):
        with contextlib.suppress(Killed):
            mortal = Header(Words(words, [fuse if die else 10**9]))
            index = Index(mortal, kernel)
            index.mark(stream, when)
            kernel += count  # the splice itself: one step of the kernel
            truth += [(stream, when)] * count
            index.advance(count)
        index = Index(Header(words), kernel)
        assert index.newest == kernel
        assert index.bytes_of(STDOUT) == sum(s == STDOUT for s, _ in truth)
        assert index.bytes_of(STDERR) == sum(s == STDERR for s, _ in truth)
        for offset in range(index.oldest, kernel):
            record = index.find(offset)
            assert record.start <= offset < record.end
            assert (record.stream, record.time) == truth[offset]


@given(steps, st.integers(1, 5))
def test_a_cursor_gets_every_byte_or_is_told_what_it_missed(script, limit) -> None:
    """Missed and delivered together are everything, in order."""
    _, header = fresh(ring_size=16)
    index = Index(header, 0)
    cursor, at = Cursor(0), 0
    for when, (stream, count, pause) in enumerate(script):
        index.mark(stream, when)
        index.advance(count)
        forget(index, index.newest, 4)
        if pause < 6:
            continue
        while (step := cursor.step(index, limit)) is not None:
            assert step.start == at
            at = step.end
            if isinstance(step, Chunk):
                assert step.end - step.start <= limit
            else:
                assert isinstance(step, Missed)
                assert step.end == index.oldest
        assert at == index.newest


def test_nothing_is_overwritten_that_a_log_still_needs() -> None:
    """Room ends at the ring's size over the low water, and when the index is full."""
    _, header = fresh(ring_size=100, slots=4)
    index = Index(header, 0)
    assert index.room(0) == 100
    for when in range(3):
        index.mark(STDOUT, when)
        index.advance(10)
    assert index.room(0) == 0  # the fourth record would push out the first
    assert index.room(10) == 80
    assert index.room(30) == 100


def test_only_whole_grains_are_forgotten_and_never_beyond_the_low_water() -> None:
    """oldest is noted before the hole is punched."""
    _, header = fresh(ring_size=100)
    index = Index(header, 0)
    index.mark(STDOUT, 1)
    index.advance(350)
    assert forget(index, 60, 100) is None
    assert forget(index, 350, 100) == (0, 200)
    assert header.oldest == index.oldest == 200
    assert forget(index, 350, 100) is None


def test_an_index_has_at_least_so_many_records() -> None:
    """However small the ring."""
    assert index_capacity(1) == MIN_RECORDS
    assert index_capacity(1 << 22) == 1 << 16


def test_a_record_that_only_the_index_forgot_counts_as_gone() -> None:
    """Its bytes are there, but nobody knows whose."""
    _, header = fresh(slots=4)
    index = Index(header, 0)
    for when in range(9):
        index.mark(STDERR, when)
        index.advance(2)
    assert index.oldest == 12
    assert index.capacity == 1 << 16
    assert index.find(13).time == 6
    assert index.find(12, hint=5).time == 6


class World:
    """What outlives a server: the words, the kernel's position, the log's low water."""

    def __init__(self, ring_size: int, slots: int, grain: int) -> None:
        self.words, self.header = fresh(ring_size, slots)
        self.slots, self.grain = slots, grain
        self.position = self.low_water = 0
        self.splices: list[int] = []  # where each began
        self.truth: list[tuple[int, int]] = []  # per byte: stream, time

    def start(self, fuse: int = 10**9) -> Index:
        """Return a new server's index; it dies at the store after ``fuse`` others."""
        return Index(Header(Words(self.words, [fuse])), self.position)

    def pump(self, index: Index, stream: int, when: int, count: int, dies: bool) -> None:
        """Take one step of live.pump; ``dies`` is a kill between mark and splice."""
        room = index.room(self.low_water)
        if room == 0:
            return
        index.mark(stream, when)
        if dies:
            raise Killed
        count = min(count, room)
        self.splices += [self.position] * (count > 0)
        self.truth += [(stream, when)] * count
        self.position += count
        index.advance(count)
        forget(index, self.low_water, self.grain)

    def check(self, index: Index) -> None:
        """Compare everything that an index can be asked with the plain lists."""
        unknown = max(0, len(self.splices) - self.slots + 1)
        known_from = [*self.splices, self.position][unknown] if unknown else 0
        assert index.newest == self.position
        assert index.oldest == max(self.header.oldest, known_from)
        assert index.oldest <= self.low_water
        assert self.header.oldest <= max(0, self.position - self.header.ring_size)
        assert self.header.oldest % self.grain == 0
        for stream in STREAMS:
            assert index.bytes_of(stream) == sum(s == stream for s, _ in self.truth)
        for offset in range(index.oldest, self.position):
            found = {index.find(offset, hint) for hint in range(len(self.splices))}
            (record,) = found
            assert record.start <= offset < record.end
            assert record.start in self.splices
            assert (record.stream, record.time) == self.truth[offset]
        self.check_a_cursor(index)

    def check_a_cursor(self, index: Index) -> None:
        """From the start: what it missed, once, then every byte that is held."""
        cursor, got = Cursor(0), []
        while (step := cursor.step(index, 3)) is not None:
            known = (step.stream, step.time) if isinstance(step, Chunk) else None
            got += [known] * (step.end - step.start)
        assert got == [None] * index.oldest + self.truth[index.oldest :]


@given(
    script=st.lists(
        st.tuples(
            st.sampled_from(STREAMS),
            st.integers(0, 9),
            st.integers(0, 12),
            st.sampled_from([False] * 9 + [True]),
        ),
        max_size=40,
    ),
    fuses=st.lists(st.integers(0, 25), max_size=12),
    ring_size=st.integers(8, 40),
    slots=st.integers(2, 6),
    grain=st.integers(1, 8),
)
def test_servers_that_die_one_after_another_keep_one_account(
    script, fuses, ring_size, slots, grain
) -> None:
    """Over a full ring and a full index, through pump, forget and recovery itself."""
    world, index, lives = World(ring_size, slots, grain), None, iter(fuses)
    for when, (stream, count, logged, dies) in enumerate(script):
        try:
            index = index or world.start(next(lives, 10**9))
            world.low_water = min(index.newest, world.low_water + logged)
            world.pump(index, stream, when, count, dies)
            world.check(index)
        except Killed:
            index = None
    world.check(world.start())


def test_a_second_server_finds_what_the_first_one_found() -> None:
    """Recovery can be repeated: it books the mark's bytes once."""
    words, header = fresh()
    index = Index(header, 0)
    index.mark(STDERR, 7)  # the splice moves 5 bytes, then the pump dies

    for _ in range(3):
        index = Index(Header(words), 5)
        assert (header.records, index.bytes_of(STDERR)) == (1, 5)
        assert index.find(4) == (0, 0, 5, STDERR, 7)


def test_an_index_of_one_slot_vouches_for_nothing() -> None:
    """The only slot is the open mark's; no index of ours is as small."""
    _, header = fresh(slots=1)
    index = Index(header, 0)
    index.mark(STDOUT, 1)
    index.advance(5)

    assert index.oldest == index.newest == 5


def test_an_overtaken_cursor_is_told_once_what_it_missed() -> None:
    """Bytes and place of the gap, then the oldest output that is held."""
    _, header = fresh(ring_size=100)
    index = Index(header, 0)
    index.mark(STDERR, 1)
    index.advance(350)
    forget(index, 350, 50)
    cursor = Cursor(20)

    assert cursor.step(index, 10) == Missed(20, 250)
    assert cursor.step(index, 10) == Chunk(250, 260, STDERR, 1)


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 10))
def test_a_moment_is_found_in_the_index(gaps, time) -> None:
    """The first byte read then or later, of those that are held; the end when there is none."""
    _, header = fresh()
    index, now, said = Index(header, 0), 0, []
    for gap in gaps:
        now += gap
        index.mark(STDOUT, now)
        index.advance(3)
        said += [now] * 3
    found = [at for at in range(index.oldest, index.newest) if said[at] >= time * 5]

    assert index.find_time(time * 5) == (found[0] if found else index.newest)
