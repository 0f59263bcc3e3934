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
        index.forget(index.newest, 4)
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
    assert index.forget(60, 100) is None
    assert index.forget(350, 100) == (0, 200)
    assert header.oldest == index.oldest == 200
    assert index.forget(350, 100) is None


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
