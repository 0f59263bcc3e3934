"""The rebuilt screen: what terminals do, what painting keeps, and a real terminal's opinion."""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from attachd_clients.emulator import MAX_CELLS, Emulator
from attachd_clients.emulator.screen import NARROW
from hypothesis import example, given
from hypothesis import strategies as st

from attachd.state.modes import Modes


def shown(data: str | bytes, columns: int = 10, rows: int = 4) -> Emulator:
    """Return a small screen that was fed with ``data``."""
    emulator = Emulator(columns, rows)
    emulator.feed(data.encode() if isinstance(data, str) else data)
    return emulator


def lines(data: str | bytes, columns: int = 10, rows: int = 4) -> list[str]:
    """Return its rows, without empty ones at the end."""
    text = shown(data, columns, rows).text()
    while text and not text[-1]:
        text.pop()
    return text


def place(emulator: Emulator) -> bytes:
    """Return where the cursor is."""
    return emulator.cursor(emulator.columns, emulator.rows)


def painted(emulator: Emulator, columns: int = 0, rows: int = 0) -> Emulator:
    """Return a fresh terminal on which ``emulator`` was painted; it showed something before."""
    second = Emulator(columns or emulator.columns, rows or emulator.rows)
    second.feed(b"old text\r\n" * 3)
    second.feed(emulator.paint(second.columns, second.rows))
    return second


# What terminals do


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("abc\r\ndef", ["abc", "def"]),
        ("abcdefghijk", ["abcdefghij", "k"]),
        ("abcdefghij\r\nk", ["abcdefghij", "k"]),
        ("abcdefghij\x1b[Kk", ["abcdefghij", "k"]),
        ("abcdefghij\bX", ["abcdefghXj"]),
        ("abcdefghij\nX", ["abcdefghij", "         X"]),
        ("\x1b[?7labcdefghijklm", ["abcdefghim"]),
        ("\x1b[?7labcdefgh漢字", ["abcdefgh字"]),
        ("1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"]),
        ("1\r\n2\r\n3\r\n4\x1b[2S", ["3", "4"]),
        ("1\r\n2\x1b[T", ["", "1", "2"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[S", ["1", "3", "", "4"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\nx", ["1", "3", "x", "4"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2;1H\x1bMx", ["1", "x", "2", "4"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[4;1H\n\nx", ["1", "2", "3", "x"]),
        ("1\r\n2\r\n3\x1b[H\x1b[L", ["", "1", "2", "3"]),
        ("1\r\n2\r\n3\x1b[H\x1b[2M", ["3"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[4;1H\x1b[Lx", ["1", "2", "3", "x"]),
        ("\x1b[3;4r\x1b[1;1H\x1b[Ax", ["x"]),
        ("\x1b[1;2r\x1b[3;1H\x1b[Bx", ["", "", "", "x"]),
        ("\x1b[2;3r\x1b[?6h\x1b[9;1Hx", ["", "", "x"]),
        ("\x1b[2;3r\x1b[?6h\x1b[2dx", ["", "", "x"]),
        ("\x1b[5;1rx\x1b[ry", ["y"]),
        ("abc\x1b[2Cd\x1b[2De", ["abc ed"]),
        ("ab\x1bEc\x1bDd", ["ab", "c", " d"]),
        ("a\tb\x1b[2Zc", ["c       b"]),
        ("a\t\t\tb", ["a        b"]),
        ("\x1b[3g\ta\x1b[5G\x1bH\r\tb", ["    b    a"]),
        ("abcdef\x1b[3D\x1b[2@", ["abc  def"]),
        ("abcdef\x1b[1G\x1b[2P", ["cdef"]),
        ("abcdef\x1b[1G\x1b[2X", ["  cdef"]),
        ("abcdef\x1b[3G\x1b[1K", ["   def"]),
        ("abcdef\x1b[3G\x1b[K", ["ab"]),
        ("abcdef\x1b[3G\x1b[2K", []),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[J", ["1"]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[1J", ["", "", "3"]),
        ("1\r\n2\r\n3\x1b[2J", []),
        ("1\x1b[3J", ["1"]),
        ("1\x1b[7J\x1b[7K", ["1"]),
        ("abc\r\x1b[4hx", ["xabc"]),
        ("漢bcdefghi\r\x1b[4hx", ["x漢bcdefgh"]),
        ("abcdefgh漢\r\x1b[4hx", ["xabcdefgh"]),
        ("a\x1b[3b", ["aaaa"]),
        ("\x1b[3ba", ["a"]),
        ("a\x1b[99999999b", ["a" * 10, "a"]),
        ("1\x1b[999999999Lx", ["x"]),
        ("1\x1b[H\x1b[999999999M\x1b[999999999@\x1b[999999999P\x1b[99999S", []),
        ("a\x1b7b\x1b8c\x1b8d", ["ad"]),
        ("a\x1b[sb\x1b[uc", ["ac"]),
        ("ab\x1b8c", ["cb"]),
        ("a\x1b[?1048hb\x1b[?1048lc", ["ac"]),
        ("\x1b[31mabc\x1b[!pd", ["abcd"]),
        ("\x1b[20h1\n2", ["1", "2"]),
        ("\x1b[?3ha\x1b[?5hb\x1b[?3l", ["ab"]),
        ("\x1b(0lqk\x1b(Bq", ["┌─┐q"]),
        ("\x1b)0q\x0eq\x0fq", ["q─q"]),
        ("a\x1b[1;2;3Ab\x1b[H\x1b[1;2;3;4;5;6Hc", ["ac"]),
        ("ab\x00\x7f\u0085c", ["abc"]),
        ("a\x1bcb", ["b"]),
    ],
)
def test_a_sequence_does_what_terminals_do(data, expected) -> None:
    """The ones that programs use; where terminals differ, xterm or tmux is right."""
    assert lines(data) == expected


def test_the_alignment_screen_is_full() -> None:
    """ESC # 8 is what people measure a window with."""
    assert lines("\x1b[2;3r\x1b#8x") == ["xEEEEEEEEE", *["E" * 10] * 3]


@pytest.mark.parametrize(
    "silent",
    [
        *("\x1b[>4;2m", "\x1b[?4m", "\x1b[>1u", "\x1b[<u", "\x1b[=1;1u", "\x1b[?u", "\x1b[>c"),
        *(
            "\x1b[2 q",
            "\x1b[!p",
            "\x1b[?2004h",
            "\x1b[?1;6c",
            "\x1b[6n",
            "\x1b[>q",
            "\x1b[22;0t",
        ),
        *("\x1b[1$}", "\x1b[?1$p", '\x1b[1"q', "\x1b[1:2H", "\x1b[38:2::1:2:3m", "\x1b[4:3m"),
        *(
            "\x1b]0;title\a",
            "\x1b]8;;http://x\x1b\\",
            "\x1b]52;c;aGk=\a",
            "\x1b]R\a",
            "\x1b]\a",
        ),
        *(
            "\x1bPq#0;2;0\nline\x1b\\",
            "\x1b_Gi=1;AAAA\x1b\\",
            "\x1b^pm\x1b\\",
            "\x1bXsos\x1b\\",
        ),
        *("\x1b]0;title\x18", "\x1b[31\x18", "\x1b[3\x1b[1m", "\x1b]0;t\x1b[1m", "\x1b \x1bF"),
        *(
            "\x1b=",
            "\x1b>",
            "\x1b%G",
            "\x1b F",
            "\x1b*0",
            "\x1b#3",
            "\x1bN",
            "\x1b[1;2;3;4;5T",
        ),
        *(
            "\x1b[" + "1;" * 5000 + "H",
            "\x1b]0;" + "x" * 9000 + "\a",
            "\x1b[" + "1" * 9000 + "L",
        ),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 10**6])
def test_a_sequence_that_is_none_of_ours_leaves_no_trace(silent, step) -> None:
    """Neither garbage nor a moved cursor, however it is cut."""
    emulator = shown("ab")
    data = silent.encode()
    for at in range(0, len(data), step):
        emulator.feed(data[at : at + step])
    emulator.feed(b"c")

    assert emulator.text()[0] == "abc"


def test_a_control_inside_of_a_sequence_is_obeyed() -> None:
    """As the VT100 did; vttest asks for it."""
    assert lines("ab\x1b[\b2Cc\x1b[1\x00\r;3Hd") == ["abdc"]


@pytest.mark.parametrize("data", [b"\xff\xc3(\xe6\xbc", b"\xc0\x80\xf8"])
def test_what_is_no_utf_8_is_replaced(data) -> None:
    """The program may speak another language; the rest of its screen is still right."""
    assert lines(data + b"\x1b[2;1Hx")[1] == "x"
    assert "\ufffd" in lines(data)[0]


def test_what_is_drawn_fast_is_one_column_wide() -> None:
    """The class is written by hand; wcwidth knows better."""
    wcwidth = pytest.importorskip("wcwidth").wcwidth
    narrow = [
        chr(code) for code in range(0x20, 0x3000) if len(NARROW.findall(chr(code) * 2)) == 1
    ]

    assert len(narrow) > 1000
    assert {char for char in narrow if wcwidth(char) != 1} == set()


# Wide characters


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("漢字x", ["漢字x"]),
        ("abcdefghi漢", ["abcdefghi", "漢"]),
        ("漢字\x1b[2Gx", [" x字"]),
        ("漢字\x1b[1Gx", ["x 字"]),
        ("漢字\x1b[2G字", [" 字"]),
        ("漢字\x1b[4G\x1b[K", ["漢"]),
        ("漢字\x1b[3G\x1b[1K", []),
        ("漢字x\x1b[2G\x1b[P", [" 字x"]),
        ("漢字x\x1b[2G\x1b[@", ["   字x"]),
        ("abcdefgh漢\r\x1b[@", [" abcdefgh"]),
        ("e\u0301x", ["e\u0301x"]),
        ("漢\u0301x", ["漢\u0301x"]),
        ("\u0301x", ["x"]),
        ("abcdefghij\u0301k", ["abcdefghij\u0301", "k"]),
        ("👍🏽", ["👍🏽"]),
        ("❤\ufe0fx", ["❤\ufe0fx"]),
        ("a\u200db", ["a\u200db"]),
        ("a" + "\u0301" * 1000, ["a" + "\u0301" * 15]),
        ("a\xadb", ["a\xadb"]),
    ],
)
def test_wide_and_combining_characters_stay_whole(data, expected) -> None:
    """Half of a wide character is a blank; what combines belongs to the cell before."""
    assert lines(data) == expected


def test_a_wide_character_on_the_narrowest_screen_is_left_out() -> None:
    """There is no room for it in any row."""
    assert lines("a漢b", 1, 2) == ["a", "b"]


# The alternate screen


@pytest.mark.parametrize("number", [47, 1047, 1049])
def test_the_main_screen_comes_back_as_it_was(number) -> None:
    """With the cursor, too, when it was saved."""
    emulator = shown(f"one\x1b7\x1b[?{number}h\x1b[H\x1b[31mtwo\x1b[2;5Hx")
    assert emulator.text()[:2] == ["two", "    x"]
    emulator.feed(f"\x1b[?{number}l\x1b8!".encode())

    assert emulator.text()[:2] == ["one!", ""]


def test_1049_clears_on_entry_1047_on_leaving_47_never() -> None:
    """What vim, and what older programs count on."""
    emulator = shown("\x1b[?47hold\x1b[?47l")
    emulator.feed(b"\x1b[?47h")
    assert emulator.text()[0] == "old"
    emulator.feed(b"\x1b[?1047l\x1b[?47h")
    assert emulator.text()[0] == ""
    emulator.feed(b"x\x1b[?47l\x1b[?1049h\x1b[?1049h")

    assert emulator.text() == [""] * 4


def test_1049_restores_the_cursor_only_from_the_alternate_screen() -> None:
    """A program that leaves a screen that it never entered moves nothing."""
    assert lines("a\x1b7bc\x1b[?1049ld") == ["abcd"]
    assert lines("ab\x1b[?1049h\x1b[3;3Hx\x1b[?1049lc") == ["abc"]


def test_a_reset_forgets_both_screens() -> None:
    """ESC c is the last resort after a program that died."""
    emulator = shown(
        "one\x1b7\x1b[?1049h\x1b[2;3r\x1b[?6h\x1b[?7l\x1b[4h\x1b(0\x1b[31mtwo\x1bc"
    )

    assert emulator.text() == [""] * 4
    assert emulator.paint(10, 4) == Emulator(10, 4).paint(10, 4)
    emulator.feed(b"q\x1b[?47h\x1b[?47l")
    assert emulator.text() == ["q", "", "", ""]


# Styles


def style(data: str) -> bytes:
    """Return how an x after ``data`` is painted."""
    painting = shown(data + "\x1b[Hx").paint(10, 4)
    return painting.partition(b"\x1b[1;1H")[2].partition(b"x")[0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", ""),
        ("\x1b[1;2;3;4;5;7;8;9m", "\x1b[0;1;2;3;4;5;7;8;9m"),
        ("\x1b[1;2;3;4;5;7;8;9m\x1b[22;23;24;25;27;28;29m", ""),
        ("\x1b[31;42m", "\x1b[0;31;42m"),
        ("\x1b[31;42m\x1b[39;49m", ""),
        ("\x1b[97;107m", "\x1b[0;97;107m"),
        ("\x1b[38;5;1;48;5;200m", "\x1b[0;38;5;1;48;5;200m"),
        ("\x1b[38;2;1;2;3m\x1b[48;2;4;5;6m", "\x1b[0;38;2;1;2;3;48;2;4;5;6m"),
        ("\x1b[38:2::1:2:3;1m", "\x1b[0;1m\x1b[38:2::1:2:3m"),
        ("\x1b[4:3;58:5:9m", "\x1b[m\x1b[4:3m\x1b[58:5:9m"),
        ("\x1b[4:3m\x1b[4:0m", ""),
        ("\x1b[4:3m\x1b[24m", ""),
        ("\x1b[21m", "\x1b[0;21m"),
        ("\x1b[53m\x1b[6m\x1b[55m", "\x1b[0;6m"),
        ("\x1b[31m\x1b[m", ""),
        ("\x1b[31m\x1b[;1m", "\x1b[0;1m"),
        ("\x1b[38;5m", "\x1b[0;5m"),
        ("\x1b[31;99;10;1000m", "\x1b[0;31m"),
        ("\x1b[38:" + "1" * 50 + "m", ""),
        ("\x1b[:1m\x1b[?1m", ""),
    ],
)
def test_a_style_is_painted_as_it_was_made(data, expected) -> None:
    """By the parameters, in an order of their own; colons by themselves."""
    assert style(data) == expected.encode()


@pytest.mark.parametrize(
    "erase",
    ["\x1b[K", "\x1b[10X", "\x1b[2J", "\x1b[J", "\x1b[10P", "\x1b[10@", "\x1b[L", "\x1b[S"],
)
def test_what_is_erased_has_the_background_and_nothing_else(erase) -> None:
    """xterm calls it bce, and so does its terminfo entry."""
    emulator = shown(
        "old\x1b[4;1H\x1b[4;7;31;44m" + ("" if erase == "\x1b[S" else "\x1b[H") + erase
    )
    blank = b"\x1b[0;44m          "

    assert blank in emulator.paint(10, 4)


def test_blanks_at_the_end_are_not_painted() -> None:
    """But those that are seen are."""
    painting = shown("ab   \r\n\x1b[7mc \x1b[m  ").paint(10, 4)

    assert b"\x1b[1;1Hab\x1b[2;1H\x1b[0;7mc \x1b[?7h" in painting


def test_the_style_changes_only_where_it_changes() -> None:
    """A row of one colour is one sequence."""
    painting = shown("\x1b[31mred\x1b[1;31m\x1b[22mred\r\nred\x1b[m").paint(10, 4)

    assert painting.count(b"\x1b[0;31m") == 1


# The cursor


def test_a_full_row_is_full_again() -> None:
    """The next character wraps, and it is not seen that one was printed twice."""
    for text in ("abcdefghij", "abcdefgh漢", "abcdefghi\x1b[31mj", "abcdefghij\u0301"):
        first = shown(text + "\x1b[32m")
        second = painted(first)
        second.feed(b"k")

        assert second.text()[:2] == [first.text()[0], "k"]
        assert place(first) in first.paint(10, 4)


def test_in_a_larger_terminal_a_full_row_goes_on() -> None:
    """There is room for the next character."""
    second = painted(shown("abcdefghij"), 20, 4)
    second.feed(b"k")

    assert second.text()[0] == "abcdefghijk"


def test_the_cursor_counts_from_the_origin() -> None:
    """In origin mode rows count from the top of the region."""
    emulator = shown("\x1b[2;4r\x1b[?6h\x1b[2;3H")

    assert place(emulator) == b"\x1b[m\x1b[2;3H"
    assert emulator.paint(10, 4).endswith(b"\x1b[3;3H")


def test_a_full_row_is_not_drawn_in_lines() -> None:
    """A program may have changed the character set since."""
    emulator = shown("qqqqqqqqqq\x1b(0")
    second = painted(emulator)
    second.feed(b"\x1b(0" + place(emulator) + b"q")

    assert second.text()[:2] == ["q" * 10, "─"]


def test_half_a_character_is_finished_by_what_comes() -> None:
    """The bytes may have been cut anywhere."""
    emulator = shown("ab漢".encode()[:-1])
    second = painted(emulator)
    second.feed(place(emulator) + "漢".encode()[-1:])

    assert second.text()[0] == "ab漢"


def test_a_saved_cursor_outside_of_the_window_draws_nothing() -> None:
    """There is no place for it; what is visible must not be hurt."""
    first = shown("abcdefghij\x1b7\x1b[4;1Hx")

    assert painted(first, 10, 2).text() == ["", "x"]


def test_a_restored_style_is_in_force() -> None:
    """A mode tracker may believe otherwise."""
    emulator = shown("\x1b[31m\x1b7\x1b[m\x1b8")

    assert place(emulator) == b"\x1b[0;31m\x1b[1;1H"


def test_a_saved_cursor_is_saved_again() -> None:
    """The program will come back to it, with the style that it had."""
    second = painted(shown("ab\x1b[31m\x1b7\x1b[m\x1b[3;3Hx"))
    second.feed(b"\x1b8y")

    assert second.text()[0] == "aby"
    assert b"\x1b[0;31my" in second.paint(10, 4)


# Sizes


def test_fewer_rows_keep_the_cursor() -> None:
    """Rows go at the top only as far as needed."""
    emulator = shown("1\r\n2\r\n3\r\n4\x1b[3;1H")
    emulator.resize(10, 3)
    assert emulator.text() == ["1", "2", "3"]
    emulator.resize(10, 2)
    assert emulator.text() == ["2", "3"]
    emulator.resize(10, 4)
    emulator.feed(b"x")

    assert emulator.text() == ["2", "x", "", ""]


def test_the_hidden_screen_keeps_its_cursor_too() -> None:
    """The shell's prompt is there again after vim, whatever the window went through."""
    emulator = shown("1\r\n2\r\n3\r\n$ \x1b[?1049h\x1b[Hvim")
    emulator.resize(12, 2)
    assert emulator.text() == ["vim", ""]
    emulator.resize(12, 3)
    emulator.feed(b"\x1b[?1049lls")

    assert emulator.text() == ["3", "$ ls", ""]


def test_fewer_columns_crop() -> None:
    """As xterm does; no half of a wide character is left."""
    emulator = shown("abcdefghij\x1b[2;1H漢字漢字漢")
    emulator.resize(3, 4)
    assert emulator.text()[:2] == ["abc", "漢"]
    emulator.resize(5, 4)
    emulator.feed(b"\x1b[2;9Hx")

    assert emulator.text()[:2] == ["abc", "漢  x"]


def test_a_resize_ends_the_region() -> None:
    """As in most terminals: the program will set it anew."""
    emulator = shown("\x1b[2;3r")
    emulator.resize(10, 3)
    emulator.feed(b"1\r\n2\r\n3\r\n4")

    assert emulator.text() == ["2", "3", "4"]


@pytest.mark.parametrize("size", [(0, 0), (-5, 3), (10**6, 10**6), (1, 10**6), (1, 1)])
def test_absurd_sizes_are_bounded(size) -> None:
    """A program in the container can set any size."""
    emulator = Emulator(*size)
    emulator.feed("a漢\x1b[9;9Hb\x1b[?1049hc".encode())
    emulator.resize(3, 3)
    emulator.resize(*size)

    assert emulator.columns >= 1
    assert emulator.rows >= 1
    assert emulator.columns * emulator.rows <= MAX_CELLS
    assert emulator.paint(*size)


# Fuzz

SEQUENCES = st.one_of(
    st.sampled_from("ABCDEFGHIJKLMPSTXZ@`abdefghlmrsu").flatmap(
        lambda final: st.lists(st.integers(0, 12), max_size=3).map(
            lambda numbers: f"\x1b[{';'.join(map(str, numbers))}{final}"
        )
    ),
    st.sampled_from([47, 1047, 1048, 1049, 6, 7, 25, 3, 5]).flatmap(
        lambda number: st.sampled_from([f"\x1b[?{number}h", f"\x1b[?{number}l"])
    ),
    st.sampled_from(
        [
            *(
                "\x1b7",
                "\x1b8",
                "\x1bD",
                "\x1bE",
                "\x1bM",
                "\x1bH",
                "\x1bc",
                "\x1b#8",
                "\x1b[!p",
            ),
            *("\x1b(0", "\x1b(B", "\x1b)0", "\x0e", "\x0f", "\r", "\n", "\b", "\t", "\r\n"),
            *("\x1b]0;t\a", "\x1b[4h", "\x1b[4l", "\x1b[99999b", "\x1b[3J", "\x1b[?u", "\x1b"),
        ]
    ),
)
STYLES = st.lists(
    st.sampled_from(
        [
            *("", "0", "1", "2", "3", "4", "5", "7", "9", "22", "24", "27", "39", "49", "21"),
            *(
                "31",
                "42",
                "97",
                "38;5;1",
                "48;5;250",
                "48;2;1;2;3",
                "38:2::1:2:3",
                "4:3",
                "4:0",
            ),
        ]
    ),
    max_size=3,
).map(lambda attributes: f"\x1b[{';'.join(attributes)}m")
TEXTS = st.text(st.sampled_from("abc xyzq  漢字👍\u0301é─\ufe0f"), min_size=1, max_size=12)
STREAMS = st.lists(st.one_of(TEXTS, TEXTS, STYLES, SEQUENCES), max_size=30).map(
    lambda parts: "".join(parts).encode()
)
SIZES = st.tuples(st.integers(1, 14), st.integers(1, 8))


@given(data=st.binary(max_size=300), size=SIZES, other=SIZES)
def test_any_bytes_are_survived(data, size, other) -> None:
    """Somebody will look at a binary with cat."""
    emulator = Emulator(*size)
    emulator.feed(data)
    emulator.resize(*other)
    emulator.feed(data)

    assert len(emulator.text()) == emulator.rows
    assert emulator.paint(*size)
    assert emulator.cursor(*size)


@given(data=STREAMS, size=SIZES, other=SIZES, cuts=st.lists(st.integers(0, 300), max_size=9))
def test_however_it_is_cut_the_screen_is_the_same(data, size, other, cuts) -> None:
    """Reads end in the middle of sequences, and of characters."""
    whole, pieces = Emulator(*size), Emulator(*size)
    whole.feed(data)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data) + 1], strict=True):
        pieces.feed(data[begin:end])
    whole.resize(*other)
    pieces.resize(*other)

    assert whole.paint(*other) == pieces.paint(*other)
    assert whole.text() == pieces.text()


@given(data=STREAMS, size=SIZES)
@example("\x1b[?47h漢".encode(), (2, 1))
def test_what_is_painted_is_what_was_there(data, size) -> None:
    """Characters, styles, cursor, both screens: another painting of it is the same."""
    first = Emulator(*size)
    first.feed(data)
    second = painted(first)

    assert second.text() == first.text()
    assert second.paint(*size) == first.paint(*size)


@given(data=STREAMS, size=SIZES, wider=st.integers(0, 5), higher=st.integers(0, 5))
def test_on_a_larger_terminal_it_is_painted_at_the_top_left(data, size, wider, higher) -> None:
    """The program will soon be told the size, and draw the rest."""
    first = Emulator(*size)
    first.feed(data)
    second = painted(first, size[0] + wider, size[1] + higher)

    assert second.text() == first.text() + [""] * higher


@given(data=STREAMS, size=SIZES, target=SIZES)
def test_on_a_smaller_terminal_the_cursor_is_visible(data, size, target) -> None:
    """The rows down to its own, the columns from the left."""
    first = Emulator(*size)
    first.feed(data)
    target = (min(size[0], target[0]), min(size[1], target[1]))
    second = painted(first, *target)
    first.resize(target[0], size[1])
    line = int(re.findall(rb"\x1b\[(\d+);\d+H", first.paint(target[0], size[1]))[-1])
    top = max(0, line - target[1])

    assert second.text() == first.text()[top : top + target[1]]


#: What the mode tracker and painting together must give back. Not in it: tab stops, the last
#: character for repeating it, an alternate screen that is hidden, charset and origin of a
#: saved cursor.
COMMON = st.one_of(
    TEXTS,
    STYLES,
    st.sampled_from("ABCDEFGHJKLMPSTX@`ade").flatmap(
        lambda final: st.integers(0, 9).map(lambda number: f"\x1b[{number}{final}")
    ),
    st.sampled_from(
        [
            *("\x1bD", "\x1bE", "\x1bM", "\x1bc", "\r", "\n", "\b", "\t", "\r\n", "\x1b[?7l"),
            *(
                "\x1b[?7h",
                "\x1b[4h",
                "\x1b[4l",
                "\x1b[2;3r",
                "\x1b[1;3r",
                "\x1b[r",
                "\x1b[20h",
            ),
            *("\x1b[20l", "\x1b]2;t\a", "\x1b[?25l", "\x1b[4;4H", "\x1b[3;12H"),
        ]
    ),
)
SAVING = st.sampled_from(["\x1b7", "\x1b8", "\x1b[?1049h", "\x1b[?1049l", "\x1b[s", "\x1b[u"])
SHIFTING = st.sampled_from(
    [*("\x1b(0", "\x1b(B", "\x1b)0", "\x0e", "\x0f", "\x1b[?6h", "\x1b[?6l", "\x1b[!p")]
)


@pytest.mark.parametrize("more", [SAVING, SHIFTING], ids=["saving", "shifting"])
@given(data=st.data())
def test_output_goes_on_as_if_nobody_had_left(more, data) -> None:
    """With the modes set after painting, both terminals stay the same from there on."""
    streams = st.lists(st.one_of(COMMON, COMMON, more), max_size=25).map("".join)
    before, after = data.draw(streams).encode(), data.draw(streams).encode()
    cut = data.draw(st.integers(0, len(before)))
    before, after = before[:cut], before[cut:] + after
    stayed, modes = Emulator(12, 4), Modes()
    stayed.feed(before)
    modes.feed(before)
    back = painted(stayed)
    back.feed(modes.settle() + place(stayed) + modes.pending)
    assert back.text() == stayed.text()
    stayed.feed(after)
    back.feed(after)

    assert back.text() == stayed.text()
    assert back.paint(12, 4) == stayed.paint(12, 4)


@pytest.mark.parametrize(
    "data",
    [
        *(b"\x1b[999999999L", b"a\x1b[99999999b", b"\x1b[9999@", b"\x1b[9999I", b"\n", b"\t"),
        *(
            b"\x1b]0;",
            b"\x1b[1",
            b"1;",
            b"\x1b",
            b"\x1b7",
            b"\x1b[?1049h\x1b[?1049l",
            b"\xcc\x81",
        ),
    ],
)
def test_no_output_is_expensive(data) -> None:
    """256 KiB of the worst take seconds at most; the deadline is for a slow machine."""
    emulator, began = Emulator(80, 24), time.monotonic()
    emulator.feed(data * (256 * 1024 // len(data)))
    for _ in range(1000):
        emulator.feed(b"\x1b[" + data)
    emulator.paint(80, 24)

    assert time.monotonic() - began < 30


# A real terminal


class Tmux:
    """A tmux server of our own; every screen is a session."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"attachd-{uuid.uuid4().hex[:12]}"
        (directory / "conf").write_text("set -g status off\nset -g default-terminal xterm\n")

    def ask(self, *words: str) -> str:
        """Return what a tmux command says."""
        command = ["tmux", "-u", "-L", self._name, "-f", str(self._directory / "conf"), *words]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        done = subprocess.run(command, capture_output=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def show(self, data: bytes, columns: int, rows: int) -> str:
        """Print ``data`` in a pane of its own; return the pane when all of it is there."""
        session = f"s{uuid.uuid4().hex[:8]}"
        file = self._directory / session
        file.write_bytes(data + f"\x1b]2;{session}\a".encode())
        program = f"stty raw -echo; cat {file}; exec sleep 1000"
        size = ("-x", str(columns), "-y", str(rows))
        self.ask("new-session", "-d", *size, "-s", session, program)
        end = time.monotonic() + 60
        while self.ask("display", "-p", "-t", session, "#{pane_title}").strip() != session:
            assert time.monotonic() < end
        return session

    def text(self, session: str, *options: str) -> list[str]:
        """Return what a pane shows."""
        captured = self.ask("capture-pane", "-p", *options, "-t", session)
        return [line.rstrip(" ") for line in captured.split("\n")[:-1]]

    def place(self, session: str) -> str:
        """Return where a pane's cursor is, from 0, and which screen is shown."""
        form = "#{cursor_x} #{cursor_y} #{alternate_on}"
        return self.ask("display", "-p", "-t", session, form).strip()


@pytest.fixture(scope="module")
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    """The server; it goes with the last test."""
    if not shutil.which("tmux"):
        pytest.skip("no tmux")
    server = Tmux(tmp_path_factory.mktemp("tmux"))
    server.ask("new-session", "-d", "exec sleep 1000")
    socket = Path(server.ask("display", "-p", "#{socket_path}").strip())
    yield server
    server.ask("kill-server")
    socket.unlink(missing_ok=True)


SCREENS = {
    "text": "one\r\ntwo\r\n\x1b[31mred \x1b[1;44mblue\x1b[m \x1b[4;38;5;200mpink\x1b[m",
    "wide": "漢字 👍 e\u0301 é ─┐\r\n" + "漢" * 25 + "x\r\n",
    "full": "x" * 200 + "\x1b[31m" + "y" * 40,
    "scrolled": "".join(f"line {n}\r\n" for n in range(40)) + "$ ",
    "alternate": "shell$ vim\x1b[?1049h\x1b[2J\x1b[44m     \x1b[3;5Htext\x1b[m\x1b[8;1H~\x1b[5;6H",
    "attributes": "┌──┐\r\nx\x1b[5b\x1b[2;3H\x1b[1;3;4;5;7;9mmany\x1b[22;24mfew",
    "colours": "\x1b[48;2;10;20;30m\x1b[38;2;1;2;3mtrue\x1b[38;5;9m9\x1b[97mbright\x1b[2mfaint",
}


@pytest.mark.parametrize("name", SCREENS)
def test_tmux_shows_the_same_from_the_painting_as_from_the_output(tmux, name) -> None:
    """Characters, colours and cursor, without any emulator of ours between them."""
    emulator = shown(SCREENS[name], 40, 10)
    first = tmux.show(SCREENS[name].encode(), 40, 10)
    second = tmux.show(b"before\r\n" * 12 + emulator.paint(40, 10), 40, 10)

    assert emulator.text() == tmux.text(first) == tmux.text(second)
    assert tmux.text(first, "-e") == tmux.text(second, "-e")
    assert tmux.place(first) == tmux.place(second)
    if name != "alternate":
        assert tmux.text(second, "-S", "-")[:12] == ["before"] * 12


@pytest.mark.parametrize("size", [(20, 5), (60, 20)], ids=["smaller", "larger"])
@pytest.mark.parametrize("name", SCREENS)
def test_tmux_of_another_size_shows_what_our_terminal_would(tmux, name, size) -> None:
    """What does not fit is left out, and nothing scrolls."""
    painting = shown(SCREENS[name], 40, 10).paint(*size)
    target = shown(painting, *size)

    assert tmux.text(tmux.show(painting, *size)) == target.text()


def test_tmux_shows_the_background_of_what_was_erased(tmux) -> None:
    """tmux does not tell the colour of erased cells, but that of painted ones."""
    session = tmux.show(shown("\x1b[44m\x1b[2Kx\x1b[m", 20, 3).paint(20, 3), 20, 3)

    assert tmux.ask("capture-pane", "-peNt", session).startswith("\x1b[44mx" + " " * 19)


def test_tmux_shows_lines_that_were_drawn_with_letters(tmux) -> None:
    """As the characters that they look like: no character set is needed."""
    session = tmux.show(shown("\x1b(0lqqk\x1b(Bq", 20, 3).paint(20, 3), 20, 3)

    assert tmux.text(session)[0] == "┌──┐q"


def test_the_main_screen_is_below_the_alternate_one(tmux) -> None:
    """Leaving the program gives back the shell, with the cursor behind the prompt."""
    painting = shown(SCREENS["alternate"], 40, 10).paint(40, 10)
    session = tmux.show(painting + b"\x1b[?1049l!", 40, 10)

    assert tmux.text(session)[0] == "shell$ vim!"


def recorded(argv: list[str], keys: list[bytes]) -> bytes:
    """Return what a program draws on a terminal of 80x24 until it ends."""
    child, master = pty.fork()
    if not child:
        os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", LESS="", LINES="24", COLUMNS="80")
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execvp(argv[0], argv)
    output = b""
    try:
        while select.select([master], [], [], 60)[0]:
            output += os.read(master, 65536)
            if keys and len(output) > 200:
                os.write(master, keys.pop(0))
    except OSError:
        pass  # Linux says EIO when the last one has closed it
    os.kill(child, signal.SIGKILL)  # it has ended already, if all went well
    os.waitpid(child, 0)
    os.close(master)
    return output


PROGRAMS = {
    "vim": (
        ["vim.tiny", "-u", "NONE", "FILE"],
        [b"15jdd3p", b"\x06", b"ihello\x1b", b"ggOx\x1b:q!\r"],
    ),
    "vim2": (
        ["vim.tiny", "-u", "NONE", "-c", "set nu hls", "FILE"],
        [b":split\r", b"/row\r:q!\r:q!\r"],
    ),
    "less": (["less", "FILE"], [b" ", b" ", b"y", b"/4\r", b"q"]),
    "busybox vi": (["busybox", "vi", "FILE"], [b"5jddp", b"\x06", b"kkxx", b":q!\r"]),
    "busybox top": (["busybox", "top", "-d", "1"], [b"", b"q"]),
    "top": (["top", "-d", "1"], [b"", b"", b"q"]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_real_program_looks_as_it_does_in_tmux(tmux, tmp_path, name) -> None:
    """While it ran, and after it; and so does the painting."""
    argv, keys = PROGRAMS[name]
    if not shutil.which(argv[0]):
        pytest.skip(f"no {argv[0]}")
    file = tmp_path / "file"
    file.write_text("".join(f"row {n} {'漢字 é' * (n % 5)}\t{n * 'x'}\n" for n in range(90)))
    output = recorded([word.replace("FILE", str(file)) for word in argv], list(keys))
    last = output.rfind(b"\x1b[?1049l")
    for data in (output, output[: max(0, last)], output[: len(output) // 2]):
        emulator = shown(data, 80, 24)
        session = tmux.show(data + b"\x18", 80, 24)

        assert emulator.text() == tmux.text(session)
        assert tmux.text(tmux.show(emulator.paint(80, 24), 80, 24)) == emulator.text()
        assert painted(emulator).text() == emulator.text()
