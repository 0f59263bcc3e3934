"""Modes of a terminal: any cutting is the same, replay() is the state, undo() is its opposite."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.modes import (
    MAX_DEPTH,
    MAX_LATCHES,
    MAX_SEQUENCE,
    MAX_TITLE,
    Modes,
)

#: Sequences that set something, and what undoes each on a terminal that was fresh.
PAIRS = {
    b"\x1b[?1h": b"\x1b[?1l",
    b"\x1b[?25l": b"\x1b[?25h",
    b"\x1b[?7l": b"\x1b[?7h",
    b"\x1b[?2004h": b"\x1b[?2004l",
    b"\x1b[?65535h": b"\x1b[?65535l",
    b"\x1b[?1002;1006h": b"\x1b[?1006l\x1b[?1002l",
    b"\x1b[4h": b"\x1b[4l",
    b"\x1b[20h": b"\x1b[20l",
    b"\x1b=": b"\x1b>",
    b"\x1b[?47h": b"\x1b[?47l",
    b"\x1b[?1047h": b"\x1b[?1047l",
    b"\x1b[?1049h": b"\x1b[?1049l",
    b"\x1b[>1u": b"\x1b[<1u",
    b"\x1b[>u": b"\x1b[<1u",
    b"\x1b[>1u\x1b[>3u": b"\x1b[<2u",
    b"\x1b[=5u": b"\x1b[=0;1u",
    b"\x1b[>1u\x1b[?1049h\x1b[>7u": b"\x1b[<1u\x1b[?1049l\x1b[<1u",
    b"\x1b[?1049h\x1b[>7u\x1b[?1049l": b"\x1b[?1049h\x1b[<1u\x1b[?1049l",
    b"\x1b[>4;2m": b"\x1b[>4m",
    b"\x1b[2;20r": b"\x1b7\x1b[r\x1b8",
    b"\x1b[;20r": b"\x1b7\x1b[r\x1b8",
    b"\x1b[5r": b"\x1b7\x1b[r\x1b8",
    b"\x1b(0": b"\x1b(B",
    b"\x1b)0\x0e": b"\x1b)B\x0f",
    b'\x1b("?': b"\x1b(B",
    b"\x1b[5 q": b"\x1b[0 q",
    b"\x1b[22;0t": b"\x1b[23;0t",
    b"\x1b[22t\x1b[22;1t\x1b[22;2t": b"\x1b[23;0t" * 3,
    b"\x1b]4;1;red;02;#fff\a": b"\x1b]104;2\a\x1b]104;1\a",
    b"\x1b]10;red;blue\x1b\\": b"\x1b]111\a\x1b]110\a",
    b"\x1b]12;rgb:ff/00/00\a": b"\x1b]112\a",
    b"\x1b[1m": b"\x1b[0m",
    b"\x1b[0;38;5;1m": b"\x1b[0m",
    b"\x1b]0;unfinished": b"\x18\x1b\\",
    b"\x1b]0;unfinished\x1b": b"\x18\x1b\\",
    b"\x1bPq#0": b"\x18\x1b\\",
    b"\x1b[38;5": b"\x18",
    b"\x1b": b"\x18",
    b"\x1b(": b"\x18",
}

#: Sequences that leave a fresh terminal as it is.
NOTHING = [
    b"plain\r\n\t\xc3\xa4\xff\x9b?25l",
    b"\x1b[?25h",
    b"\x1b[?7h",
    b"\x1b[?8h\x1b[?2h",
    b"\x1b[?1048h",
    b"\x1b[?h",
    b"\x1b[?xh",
    b"\x1b[?25$p",
    b"\x1b[?1r\x1b[?1s",
    b"\x1b[12h",
    b"\x1b[1;1H\x1b[2J\x1b[K",
    b"\x1b[20;10r",
    b"\x1b[r",
    b"\x1b[1;r",
    b"\x1b(B\x1b)B\x0f",
    b"\x1b*0\x1b+0",
    b"\x1b[0 q",
    b"\x1b[u\x1b[?u\x1b[<u\x1b[<9u\x1b[=0u",
    b"\x1b[>4m\x1b[>1;3m\x1b[>4;0m",
    b"\x1b[23t\x1b[14t\x1b[22;3t\x1b[22;0;5t",
    b"\x1b[m\x1b[0m\x1b[39;49m\x1b[999m\x1b[?4m",
    b"\x1b]4;1;?\a\x1b]10;?\a\x1b]4;x;red\a\x1b]4;1234;red\a\x1b]4;1\a\x1b]4\a",
    b"\x1b]10;" + b"x" * 65 + b"\a",
    b"\x1b]7;file:///\a\x1b]8;;http://x\a\x1b]133;A\a\x1b]1;icon\a\x1b]1049h\a",
    b"\x1b]104\a\x1b]104;1\a\x1b]110\a",
    b"\x1bP1$r\x0e\x1b\\\x1b_G\x0e\x1b\\\x1b^\x0e\x07\x0e\x1b\\\x1bX\x0e\x1b\\\x1b]9;\x0e\a",
    b"\x1b]0;given up\x18\x1b]0;given up\x1a\x1b]0;given up\x1b[K",
    b"\x1b[?25\x18l\x1b[?25\x1al\x1b[?25\x1b[Kl\x1b[?25\xc3l",
    b"\x1b[?25" + b"0" * MAX_SEQUENCE + b"l",
    b"\x1b[1" + b";" * MAX_SEQUENCE + b"m",
    b"\x1b]2;" + b"x" * MAX_SEQUENCE + b"\a",
    b"\x1b7\x1b8\x1bM\x1bD\x1b#8\x1b%G\x1b F",
]

#: Of the sequences that are tracked, most; and what is not, and what is broken.
known = st.sampled_from(
    [
        *PAIRS,
        *PAIRS.values(),
        *NOTHING,
        b"\x1bc",
        b"\x1b[!p",
        b"\x0e",
        b"\x0f",
        b"\x1b\\",
        b"\a",
        b"\x1b]0;title\a",
        b"\x1b]2;\xc3\xa4\xff;x\x1b\\",
        b"\x1b[23;2t",
        b"\x1b[=2;2u",
        b"\x1b[=1;3u",
        b"\x1b[1;2;3;4:3;5;7;8;9;53;11;21m",
        b"\x1b[38;2;1;2;3;48:2::1:2:3;58;5;7m",
        b"\x1b[22m\x1b[24;27m",
        b"\x1b[4:0m",
        b"\x1b[38;5m\x1b[38;7;1m\x1b[;1m\x1b[1;m",
        b"\x1b]104\a",
        b"\x1b]104;1;2\a",
        b"\x1b[?25;1049;1000h",
        b"\x1b[\x0e?\n25l",
        b"\x1bP" + b"x" * MAX_SEQUENCE,
        b"\x1b[" + b"1" * MAX_SEQUENCE,
        b"\x1b]2;" + b"x" * (MAX_SEQUENCE - 6),
    ]
)
private = st.builds(
    lambda number, final: b"\x1b[?%d%c" % (number, final),
    st.integers(0, 70000),
    st.sampled_from(b"hl"),
)
attributes = st.builds(
    lambda numbers: b"\x1b[%bm" % ";".join(map(str, numbers)).encode(),
    st.lists(st.integers(0, 110) | st.sampled_from([2, 5, 38, 48, 58]), max_size=6),
)
garbage = st.binary(max_size=8) | st.lists(
    st.sampled_from([bytes([byte]) for byte in b"\x1b\x1b[]?>0123;:mhlutrqpc(B \a\\\x0e\x18"]),
    max_size=12,
).map(b"".join)
streams = st.lists(known | private | attributes | garbage, max_size=20).map(b"".join)
cuts = st.lists(st.integers(0, 400) | st.integers(0, 30000), max_size=8)


def modes_after(*pieces: bytes) -> Modes:
    """Return the modes of a fresh terminal after these pieces of output."""
    modes = Modes()
    for piece in pieces:
        modes.feed(piece)
    return modes


@given(streams, cuts)
def test_any_cutting_gives_the_same_state(stream, places) -> None:
    """Within numbers, within the end of a string, within what is too long."""
    places = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    pieces = [stream[begin:end] for begin, end in itertools.pairwise(places)]
    assert modes_after(*pieces) == modes_after(stream)


@pytest.mark.parametrize("stream", [*PAIRS, *NOTHING], ids=lambda stream: repr(stream[:20]))
def test_byte_by_byte_is_the_same(stream) -> None:
    """The smallest pieces there are."""
    stream += b"\x1b[?1049h"
    single = modes_after(*(stream[at : at + 1] for at in range(len(stream))))
    assert single == modes_after(stream)


@given(streams)
def test_replay_rebuilds_the_state(stream) -> None:
    """It is the serialised form: nothing is lost, not even what is unfinished."""
    modes = modes_after(stream)
    again = modes_after(modes.replay())
    assert again == modes
    assert again.replay() == modes.replay()


@given(streams, streams)
def test_a_replayed_terminal_goes_on_as_the_old_one(stream, more) -> None:
    """A successor does not notice."""
    assert modes_after(modes_after(stream).replay(), more) == modes_after(stream, more)


@given(streams)
def test_undo_gives_back_a_fresh_terminal(stream) -> None:
    """Whatever was set, only a title may stay."""
    modes = modes_after(stream)
    rest = modes_after(stream, modes.undo())
    assert rest.undo() == b""
    title = rest.replay()
    assert title == b"" or title.startswith(b"\x1b]2;")
    assert rest == modes_after(title)


@given(streams)
def test_settle_is_replay_on_the_right_screen(stream) -> None:
    """Whoever paints has switched; the stream's unfinished end comes later."""
    modes = modes_after(stream)
    settled = modes.settle()
    assert not modes_after(settled).alternate
    assert modes.replay().endswith(settled + modes.pending)
    if not modes.alternate:
        assert modes_after(settled).undo() in modes_after(stream, b"\x18\x1b\\").undo()


@given(streams, streams)
def test_a_copy_goes_its_own_way(stream, more) -> None:
    """It is equal, and stays what it was."""
    modes = modes_after(stream)
    copy, before = modes.copy(), modes.replay()
    assert copy == modes
    modes.feed(more)
    assert copy.replay() == before
    assert copy == modes_after(stream)


@given(streams)
def test_a_hard_reset_is_a_new_beginning(stream) -> None:
    """ESC c, wherever it comes."""
    assert modes_after(stream, b"\x1bc").fresh


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_taken(pieces) -> None:
    """Nothing is raised, and little is remembered."""
    modes = modes_after(*pieces)
    assert len(modes.pending) <= MAX_SEQUENCE + 1
    assert modes_after(modes.replay()) == modes


@pytest.mark.parametrize(("stream", "undo"), PAIRS.items(), ids=lambda s: repr(s[:20]))
def test_what_was_set_is_undone(stream, undo) -> None:
    """By exactly these bytes."""
    assert modes_after(stream).undo() == undo
    assert not modes_after(stream).fresh


@pytest.mark.parametrize("stream", NOTHING, ids=lambda stream: repr(stream[:20]))
def test_what_changes_nothing_leaves_nothing(stream) -> None:
    """Not tracked, at its default already, aborted, or too long."""
    assert modes_after(stream).fresh
    assert modes_after(stream).undo() == modes_after(stream).replay() == b""


@given(
    st.lists(st.tuples(st.sampled_from([1, 7, 25, 1000, 2004]), st.booleans()), max_size=12)
)
def test_private_modes_are_a_dictionary(script) -> None:
    """The last word about each one counts."""
    truth = {1: False, 7: True, 25: True, 1000: False, 2004: False}
    default = dict(truth)
    modes = Modes()
    for number, on in script:
        modes.feed(b"text\x1b[?%d%ctext" % (number, b"lh"[on]))
        truth[number] = on
    undo = {b"\x1b[?%d%c" % (n, b"lh"[default[n]]) for n in truth if truth[n] != default[n]}
    assert {b"\x1b" + word for word in modes.undo().split(b"\x1b")[1:]} == undo


@given(st.lists(attributes, max_size=12))
def test_attributes_do_not_depend_on_what_is_looked_at_once(sequences) -> None:
    """Equal ones and those before a reset are passed over; one by one it is the same."""
    sequences = sequences * 2
    assert modes_after(b"x".join(sequences)) == modes_after(*sequences)


@pytest.mark.parametrize(
    ("stream", "replay"),
    [
        (b"\x1b[1m\x1b[31m\x1b[1m", b"\x1b[31m\x1b[1m"),
        (b"\x1b[1m\x1b[0m\x1b[4m", b"\x1b[4m"),
        (b"\x1b[1m\x1b[4;0;7m", b"\x1b[7m"),
        (b"\x1b[1;2m\x1b[22m", b""),
        (b"\x1b[4:3m\x1b[4:0m", b""),
        (b"\x1b[31m\x1b[38;2;1;2;3m", b"\x1b[38;2;1;2;3m"),
        (b"\x1b[38;5;0m", b"\x1b[38;5;0m"),
        (b"\x1b[38:2::0:0:0m", b"\x1b[38:2::0:0:0m"),
        (b"\x1b[97;107m\x1b[39;49m", b""),
        (b"\x1b[1m\x1b[!p\x1b[3m", b"\x1b[3m"),
        (b"\x1b[1m\x1bc", b""),
        (b"\x1b[\n1m", b"\x1b[1m"),
    ],
)
def test_attributes_are_those_since_the_last_reset(stream, replay) -> None:
    """Each with its last value."""
    assert modes_after(stream).replay() == replay


def test_a_soft_reset_leaves_what_xterm_leaves() -> None:
    """Mouse, paste and the screen stay; insert, origin, cursor and the like do not."""
    kept = b"\x1b[?1049h\x1b[?2004h\x1b[?1000h"
    gone = b"\x1b[?1;6h\x1b[?7;25l\x1b[4h\x1b=\x1b[2;3r\x1b(0\x1b)0\x0e\x1b[1m"
    assert modes_after(kept, gone, b"\x1b[!p") == modes_after(kept)


def test_a_screen_is_left_as_it_was_entered() -> None:
    """Once entered, a second number changes nothing; any number leaves."""
    modes = modes_after(b"\x1b[?1049h\x1b[?47h")
    assert modes.alternate
    assert modes.undo() == b"\x1b[?1049l"
    modes.feed(b"\x1b[?47l")
    assert not modes.alternate
    assert modes.fresh


def test_mouse_modes_keep_their_order() -> None:
    """Of 1000, 1002 and 1003 a terminal follows the last one."""
    assert modes_after(b"\x1b[?1003;1000h").replay() == b"\x1b[?1003h\x1b[?1000h"
    assert modes_after(b"\x1b[?1000;1003;1000h").replay() == b"\x1b[?1003h\x1b[?1000h"


def test_each_screen_has_its_own_keyboard_stack() -> None:
    """The main one's is built before the switch, and undone after it."""
    modes = modes_after(b"\x1b[=1u\x1b[>2u\x1b[?1049h\x1b[>4u\x1b[=8;2u\x1b[=4;3u")
    assert modes.replay() == b"\x1b[=1;1u\x1b[>2u\x1b[?1049h\x1b[>8u"
    assert modes.settle() == b"\x1b[>8u"
    assert modes.undo() == b"\x1b[<1u\x1b[?1049l\x1b[<1u\x1b[=0;1u"
    modes.feed(b"\x1b[<u\x1b[?1049l\x1b[<5u")
    assert modes.fresh


def test_titles_come_back() -> None:
    """Those that were pushed are popped, in order; what is set without a push stays."""
    modes = modes_after(b"\x1b[22;0t\x1b]0;one\a\x1b[22;2t\x1b]2;two\x1b\\")
    assert modes.replay() == b"\x1b[22;0t\x1b]2;one\a\x1b[22;0t\x1b]2;two\a"
    assert modes.undo() == b"\x1b[23;0t" * 2
    modes.feed(b"\x1b[23t")
    assert modes.replay() == b"\x1b[22;0t\x1b]2;one\a"
    modes.feed(b"\x1b[23t")
    assert modes.fresh
    assert modes_after(b"\x1b]2;mine\a").undo() == b""


def test_a_long_title_is_cut_between_characters() -> None:
    """At 256 bytes."""
    title = "x" + "ä" * MAX_TITLE
    replay = modes_after(b"\x1b]2;" + title.encode() + b"\a").replay()
    assert replay == b"\x1b]2;" + title[: MAX_TITLE // 2].encode() + b"\a"


def test_colours_can_be_reset_by_the_program() -> None:
    """One by one, and all of the palette."""
    colours = b"\x1b]4;1;red;2;blue\a\x1b]11;black\a"
    assert modes_after(colours, b"\x1b]104;01\a").undo() == b"\x1b]111\a\x1b]104;2\a"
    assert modes_after(colours, b"\x1b]104\a\x1b]111\a").fresh


def test_memory_is_bounded() -> None:
    """By what a program sets, pushes, or never ends."""
    modes = Modes()
    for number in range(3 * MAX_LATCHES):
        modes.feed(b"\x1b[?%dh\x1b[>3u\x1b[22t\x1b]2;%d\a" % (5000 + number, number))
    assert len(modes.replay()) < 12 * MAX_LATCHES
    assert modes.undo().count(b"\x1b[23;0t") == MAX_DEPTH
    assert modes_after(modes.replay()) == modes
    modes.feed(b"\x1b[?5000l\x1b[?9999h\x1b[?9998h")
    assert b"\x1b[?9999h" in modes.replay()
    assert b"\x1b[?9998h" not in modes.replay()
    modes.feed(b"\x1bP")
    for _ in range(100):
        modes.feed(b"x" * MAX_SEQUENCE)
        assert len(modes.pending) == MAX_SEQUENCE
    modes.feed(b"\x1b\\")
    assert modes.pending == b""


def test_the_limit_of_a_sequence_is_the_same_for_every_cut() -> None:
    """The longest title that counts, and one byte more."""
    for end in (b"\a", b"\x1b\\"):
        for excess in (0, 1):
            fill = b"x" * (MAX_SEQUENCE + excess - 4 - len(end))
            whole = b"\x1b]2;" + fill + end
            for cut in (1, 3, 4, len(whole) - 3, len(whole) - 2, len(whole) - 1):
                modes = modes_after(whole[:cut], whole[cut:])
                assert modes == modes_after(whole)
                assert modes.fresh == bool(excess)


def test_modes_are_compared_by_their_state() -> None:
    """With each other only, and they are no keys."""
    assert Modes() == Modes()
    assert Modes() != b""
    assert modes_after(b"\x1b[") != Modes()
    with pytest.raises(TypeError):
        hash(Modes())
