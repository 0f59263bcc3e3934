"""The lines of ``ctl`` and ``winsz``: what they order, and how they come in pieces."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.control import (
    MAX_LINE,
    MAX_SIDE,
    REOPEN,
    RESIZE,
    Lines,
    Order,
    last_size,
    parse_control,
    parse_size,
    read_lines,
)
from attachd.state.sizes import Size

ORDERS = [
    (b"1 24 80", Order(RESIZE, Size(80, 24))),
    (b"1 0 0", Order(RESIZE, Size(0, 0))),
    (b"1 1000 1000", Order(RESIZE, Size(1000, 1000))),
    (b"1 0010 0020", Order(RESIZE, Size(20, 10))),
    (b"1 000000000000024 0000000000000080", Order(RESIZE, Size(80, 24))),
    (b"  1\t24 80  ", Order(RESIZE, Size(80, 24))),
    (b"1 2 2 3", Order(RESIZE, Size(2, 2))),
    (b"1 24 80\r", Order(RESIZE, Size(80, 24))),
    (b"2 0 0", Order(REOPEN, Size(0, 0))),
    (b"2 1 1", Order(REOPEN, Size(1, 1))),
]

NONE = [
    b"", b" ", b"foo", b"999", b"1", b"1 2", b"2", b"2 0", b"999 2 2", b"0 1 1", b"3 1 1",
    b"1 1001 1", b"1 1 1001", b"2 1001 0", b"1 -1 1", b"1 1.5 1", b"1 0x10 1", b"1 1e2 1",
    b"1 " + b"9" * 190 + b" 1", b"\xff\x00", b"\xd9\xa1 1 1", b"1 \xd9\xa1 1",
]  # fmt: skip


@pytest.mark.parametrize(("line", "order"), ORDERS)
def test_an_order_is_understood(line, order) -> None:
    """Decimal numbers, however many zeros are before them."""
    assert parse_control(line) == order


@pytest.mark.parametrize("line", NONE)
def test_what_is_no_order_is_none(line) -> None:
    """And nothing raises."""
    assert parse_control(line) is None


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (b"24 80", Size(80, 24)), (b"24 80 7", Size(80, 24)), (b"0 0", Size(0, 0)),
        (b"24", None), (b"", None), (b"1001 1", None), (b"-1 2", None), (b"a b", None),
    ],
)  # fmt: skip
def test_a_window_is_two_numbers(line, size) -> None:
    """Height before width."""
    assert parse_size(line) == size


@given(st.binary(max_size=2 * MAX_LINE))
def test_any_bytes_are_an_order_or_none(line) -> None:
    """Whose numbers are within the limits."""
    order = parse_control(line.replace(b"\n", b""))
    if order is not None:
        assert order.kind in (RESIZE, REOPEN)
        assert max(order.size) <= MAX_SIDE
    parse_size(line.replace(b"\n", b""))


@given(
    st.lists(st.binary(max_size=MAX_LINE + 5).map(lambda b: b.replace(b"\n", b"x"))),
    st.lists(st.integers(1, 400)),
)
def test_lines_are_the_same_however_they_are_cut(lines, cuts) -> None:
    """Only those that are too long are missing, and nothing else with them."""
    rest = b"".join(line + b"\n" for line in lines)
    taken = Lines()
    found = []
    for cut in cuts:
        found += taken.feed(rest[:cut])
        rest = rest[cut:]
    found += taken.feed(rest)
    assert found == [line for line in lines if len(line) <= MAX_LINE]


@given(st.lists(st.binary(max_size=1000), max_size=30))
def test_what_never_comes_to_an_end_takes_no_memory(pieces) -> None:
    """Of a line that does not end, no more is kept than a line may have."""
    lines = Lines()
    for piece in pieces:
        lines.feed(piece.replace(b"\n", b""))
        assert len(lines._rest) <= MAX_LINE


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", None), (b"1 24 80", None), (b"1 24 80\n", Size(80, 24)),
        (b"1 24 80\n1 30 90\n1 40 1", Size(90, 30)), (b"1 24 80\n1 0 0\n2 0 0\n", Size(80, 24)),
        (b"2 5 5\nfoo\n", None), (b"\n\n1 1 1\n\n", Size(1, 1)), (b"9" * 4096, None),
    ],
)  # fmt: skip
def test_the_last_size_counts(data, size) -> None:
    """Of whole lines, and only one that a terminal can have."""
    assert last_size(data) == size


def test_reading_takes_what_lies_there_and_never_waits() -> None:
    """A writer that comes and goes in the middle of a line is no end of it."""
    read, write = os.pipe2(os.O_NONBLOCK)
    found: list[bytes] = []
    lines = Lines()
    read_lines(read, lines, found.append)
    for piece in (b"1 2 3\n1 4", b" 5\n"):
        os.write(write, piece)
        read_lines(read, lines, found.append)
    read_lines(read, lines, found.append)
    os.close(read)
    os.close(write)
    assert found == [b"1 2 3", b"1 4 5"]
