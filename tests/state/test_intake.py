"""stdin's account against a dictionary, with a death at any moment."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from mortal import Killed, Words

from attachd.state.header import MAX_WRITERS, Header, header_bytes
from attachd.state.intake import Intake


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(0, 9), st.integers(0, 20))
    )
)
def test_a_death_at_any_moment_books_exactly_what_the_file_has(script) -> None:
    """Killed while marking, half way through the append, or while settling."""
    words = memoryview(bytearray(header_bytes(1))).cast("Q")
    size, truth = 0, dict.fromkeys(range(4), 0)
    for who, count, written, fuse in script:
        key = bytes([who]) * 16
        with contextlib.suppress(Killed):
            intake = Intake(Header(Words(words, [fuse])), size)
            intake.mark(key, size)
            arrived = min(count, written)
            size += arrived
            truth[who] += arrived
            if arrived < count:
                raise Killed
            intake.settle(size)
        intake = Intake(Header(words), size)
        for other, own in truth.items():
            writer = intake.find(bytes([other]) * 16)
            assert (writer.own if writer else 0) == own


def test_the_oldest_writer_makes_room() -> None:
    """The table is finite; whoever wrote last is remembered."""
    words = memoryview(bytearray(header_bytes(1))).cast("Q")
    intake = Intake(Header(words), 0)
    for number in range(MAX_WRITERS + 3):
        intake.mark(number.to_bytes(16, "big"), number)
        intake.settle(number + 1)
    assert intake.find((MAX_WRITERS + 2).to_bytes(16, "big")).own == 1
    assert intake.find((1).to_bytes(16, "big")) is None


def a_key(number: int) -> bytes:
    """Return a key whose halves differ from those of any other number."""
    return (number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % (1 << 128)).to_bytes(16, "big")


@given(
    script=st.lists(
        st.tuples(
            st.integers(1, MAX_WRITERS + 6),
            st.integers(0, 9),
            st.integers(0, 9),
            st.integers(0, 30),
        ),
        max_size=12,
    ),
    known=st.integers(MAX_WRITERS - 3, MAX_WRITERS),
)
def test_a_death_while_a_writer_makes_room_forgets_nobody_else(script, known) -> None:
    """The oldest writer goes when the newcomer's first byte is in the file, and not before."""
    words = memoryview(bytearray(header_bytes(1))).cast("Q")
    size, truth = 0, {}  # key: own bytes, end; as the table is to have it
    intake = Intake(Header(words), 0)
    for number in range(1, known + 1):
        intake.mark(a_key(number), size)
        size += 1
        intake.settle(size)
        truth[a_key(number)] = (1, size)
    for who, count, written, fuse in script:
        key, arrived = a_key(who), min(count, written)
        with contextlib.suppress(Killed):
            intake = Intake(Header(Words(words, [fuse])), size)
            intake.mark(key, size)
            if arrived and key not in truth and len(truth) == MAX_WRITERS:
                del truth[min(truth, key=lambda other: truth[other][1])]
            if arrived:
                size += arrived
                truth[key] = (truth.get(key, (0, 0))[0] + arrived, size)
            if arrived < count:
                raise Killed
            intake.settle(size)
        intake = Intake(Header(words), size)
        for number in range(1, MAX_WRITERS + 7):
            writer = intake.find(a_key(number))
            assert (writer and (writer.own, writer.end)) == truth.get(a_key(number))


def test_a_writer_that_is_there_is_never_forgotten() -> None:
    """However many others come and go; once it has gone, the table decides."""
    header = Header(memoryview(bytearray(header_bytes(1))).cast("Q"))
    account, size = Intake(header, 0), 0

    def accept(key: bytes, count: int) -> None:
        nonlocal size
        account.mark(key, size)
        size += count
        account.settle(size)

    account.hold(b"p" * 16)
    accept(b"p" * 16, 3)
    for number in range(MAX_WRITERS + 5):
        accept(number.to_bytes(16, "big"), 2)
    assert account.find(b"p" * 16).own == 3
    accept(b"p" * 16, 4)
    assert account.find(b"p" * 16).own == 7
    for number in range(MAX_WRITERS + 5):
        accept(number.to_bytes(16, "big"), 2)
    account.release(b"p" * 16)
    assert account.find(b"p" * 16) is None


def test_the_keys_are_those_of_the_writers_that_have_written() -> None:
    """Also after a death, with what was booked by the next one."""
    header = Header(memoryview(bytearray(header_bytes(1))).cast("Q"))
    account = Intake(header, 0)
    assert account.keys() == []
    account.mark(b"p" * 16, 0)
    account.settle(3)
    account.mark(b"\0" * 15 + b"q", 3)
    assert account.keys() == [b"p" * 16]

    assert set(Intake(header, 4).keys()) == {b"p" * 16, b"\0" * 15 + b"q"}
