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
