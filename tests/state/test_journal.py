"""Entries of the journal: lines are whole by stream, however they came; nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journald import parse

from attachd.errors import UsageError
from attachd.state.journal import (
    LONGEST,
    Entries,
    Joiner,
    Journal,
    Piece,
    check_label,
    unfinished_after,
)
from attachd.state.ring import STDERR, STDOUT, STREAMS

ID = "0123456789abcdef" * 4
PLAIN = Journal()


def texts(pieces: list[Piece]) -> list[bytes]:
    return [piece.data for piece in pieces]


def entry(data: bytes, journal: Journal = PLAIN, **more: object) -> dict[str, bytes]:
    """Return the fields of a line's entry."""
    piece = Piece(
        **({"stream": STDOUT, "start": 0, "end": 9, "begins": True} | more), data=data
    )
    return parse(Entries(ID, journal).of_piece(piece))


# Lines


def test_a_line_that_comes_in_parts_is_one() -> None:
    """And the other stream may speak meanwhile: its lines are its own."""
    joiner = Joiner()

    assert joiner.feed(STDOUT, 0, b"part") == []
    assert texts(joiner.feed(STDERR, 4, b"err\nmo")) == [b"err\n"]
    assert joiner.start == 0
    assert joiner.size == 6
    assert joiner.feed(STDOUT, 10, b"ial\nx") == [
        Piece(STDOUT, 0, 14, b"partial\n", begins=True)
    ]
    assert joiner.start == 8
    assert joiner.flush() == [
        Piece(STDOUT, 14, 15, b"x", begins=True),
        Piece(STDERR, 8, 10, b"mo", begins=True),
    ]
    assert joiner.start is None


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (1, [1]),
        (8192, [8192]),
        (8193, [8192, 1]),
        (9001, [8192, 809]),
        (20000, [8192, 8192, 3616]),
    ],
)
@pytest.mark.parametrize("step", [1 << 20, 8192, 5000, 1])
def test_a_long_line_is_cut_at_8192_bytes(size, sizes, step) -> None:
    """Counted with its newline, and however it came."""
    data, joiner, found = b"x" * (size - 1) + b"\n", Joiner(), list[Piece]()
    for at in range(0, size, step):
        found += joiner.feed(STDOUT, at, data[at : at + step])

    assert [len(piece.data) for piece in found] == sizes
    assert [piece.whole for piece in found] == [False] * (len(sizes) - 1) + [True]
    assert [piece.begins for piece in found] == [True] + [False] * (len(sizes) - 1)
    assert found[-1].end == size


DATA = st.one_of(st.sampled_from([b"\n", b"a", b"bc\n", b"x" * 5000]), st.binary(max_size=4))


@given(
    st.lists(st.tuples(st.sampled_from(STREAMS), DATA.filter(bool)), max_size=12), st.data()
)
def test_whoever_goes_on_behind_any_piece_sends_the_rest(said, data) -> None:
    """From the offsets after each stream's last piece, and which lines were unfinished."""

    def pieces(joiner: Joiner, sent: dict[int, int]) -> list[Piece]:
        found, at = list[Piece](), 0
        for stream, text in said:
            start, end = max(at, sent[stream]), at + len(text)
            if start < end:
                found += joiner.feed(stream, start, text[start - at :])
            at = end
        return found + joiner.flush()

    whole = pieces(Joiner(), {STDOUT: 0, STDERR: 0})
    for stream in STREAMS:
        there = b"".join(piece.data for piece in whole if piece.stream == stream)
        assert there == b"".join(text for s, text in said if s == stream)
    assert all(len(piece.data) <= LONGEST for piece in whole)

    cut = data.draw(st.integers(0, len(whole)))
    sent, unfinished = {STDOUT: 0, STDERR: 0}, 0
    for piece in whole[:cut]:
        sent[piece.stream] = piece.end
        unfinished = unfinished_after(piece, unfinished)
    rest = pieces(Joiner(unfinished), sent)
    assert [(p.stream, p.end, p.data, p.begins) for p in rest] == [
        (p.stream, p.end, p.data, p.begins) for p in whole[cut:]
    ]


# Fields


def test_the_fields_of_a_line() -> None:
    """The message has its newline; the id is there twice, and is who speaks."""
    assert entry(b"hello\n") == {
        "MESSAGE": b"hello\n",
        "PRIORITY": b"6",
        "CONTAINER_ID_FULL": ID.encode(),
        "CONTAINER_ID": b"0123456789ab",
        "SYSLOG_IDENTIFIER": b"0123456789ab",
    }
    assert entry(b"hello\n", stream=STDERR)["PRIORITY"] == b"3"


def test_names_tags_and_labels() -> None:
    """The tag is who speaks, or else the name; values may be anything."""
    journal = Journal(name="web", labels=("A_1=b", "EMPTY="))
    told = entry(b"x\n", journal)

    assert told["CONTAINER_NAME"] == told["SYSLOG_IDENTIFIER"] == b"web"
    assert (told["A_1"], told["EMPTY"]) == (b"b", b"")
    told = entry(b"x\n", journal._replace(tag="two\nlines", name="w\udcff"))
    assert told["CONTAINER_TAG"] == told["SYSLOG_IDENTIFIER"] == b"two\nlines"
    assert told["CONTAINER_NAME"] == b"w\xff"


@pytest.mark.parametrize("partial", [True, False])
def test_pieces_are_marked_unless_that_is_not_wanted(partial) -> None:
    """Whole lines never are."""
    journal = Journal(partial=partial)

    assert entry(b"x", journal).get("CONTAINER_PARTIAL_MESSAGE") == (
        b"true" if partial else None
    )
    assert "CONTAINER_PARTIAL_MESSAGE" not in entry(b"x\n", journal)


@pytest.mark.parametrize(
    ("data", "message", "priority"),
    [
        (b"<3>bad\n", b"bad\n", b"3"),
        (b"<7>\n", b"\n", b"7"),
        (b"<0>", b"", b"0"),
        (b"<8>x\n", b"<8>x\n", b"6"),
        (b" <3>x\n", b" <3>x\n", b"6"),
        (b"<3 >x\n", b"<3 >x\n", b"6"),
    ],
)
def test_a_priority_before_a_line(data, message, priority) -> None:
    """As sd-daemon(3) has it; where a line goes on it is text."""
    told = entry(data)

    assert (told["MESSAGE"], told["PRIORITY"]) == (message, priority)
    assert entry(data, begins=False)["MESSAGE"] == data


def test_any_bytes_arrive() -> None:
    """Also what looks like the protocol's own."""
    for data in (bytes(range(256)) + b"\n", b"\0\n", b"MESSAGE=\nPRIORITY=0\n", b"\n", b"\0"):
        assert entry(data)["MESSAGE"] == data


def test_what_is_missing_is_told_as_an_error() -> None:
    """With a priority that podman knows."""
    told = parse(Entries(ID, Journal()).of_gap(17, "no such file"))

    assert told["MESSAGE"] == b"attachd: 17 bytes of output are missing here: no such file\n"
    assert told["PRIORITY"] == b"3"


@pytest.mark.parametrize("label", ["A=b", "A_0=", "_9=x y"])
def test_labels_that_are_taken(label) -> None:
    """Whatever the value is."""
    check_label(label)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("A", "LABEL=VALUE"),
        ("=b", "LABEL=VALUE"),
        ("A=b=c", "LABEL=VALUE"),
        ("", "LABEL=VALUE"),
        ("a=b", "only uppercase letters"),
        ("Ä=b", "only uppercase letters"),
        ("A B=c", "only uppercase letters"),
    ],
)
def test_labels_that_are_not(label, why) -> None:
    """In one line."""
    with pytest.raises(UsageError, match=why):
        check_label(label)
