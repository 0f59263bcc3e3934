"""Detach keys against ``bytes.find`` over all that was typed."""

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.state.keys import MAX_KEYS, DetachKeys, parse_keys

#: Sequences over a small alphabet overlap themselves often.
sequences = st.one_of(
    st.sampled_from([b"aab", b"abab", b"aaaa", b"\x10\x11", b"a", b"abacabab"]),
    st.lists(st.sampled_from(b"ab"), min_size=1, max_size=6).map(bytes),
)
typed = st.lists(st.lists(st.sampled_from(b"abc\x10\x11"), max_size=8).map(bytes), max_size=8)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-P,x,~, ", b"\x10x~ "),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\0\x1b\x1c\x1d\x1e\x1f"),
        ("DEL", b"\x7f"),
        ("none", b""),
        ("n,o,n,e", b"none"),
        (",".join("a" * MAX_KEYS), b"a" * MAX_KEYS),
    ],
)
def test_keys_are_written_as_docker_has_them(text, keys) -> None:
    """Characters, ctrl- with a letter or a sign, DEL; and none."""
    assert parse_keys(text) == keys


@pytest.mark.parametrize("letter", string.ascii_lowercase)
def test_every_letter_has_a_control_key(letter) -> None:
    """ctrl-a is 1, ctrl-z is 26, in either case."""
    value = bytes([string.ascii_lowercase.index(letter) + 1])
    assert parse_keys(f"ctrl-{letter}") == parse_keys(f"ctrl-{letter.upper()}") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "a,",
        "a,,b",
        "ctrl-",
        "ctrl-1",
        "ctrl-pp",
        "a b",
        "ä",
        "\n",
        "none,a",
        "a\n",
        "del",
    ],
)
def test_what_is_no_key_is_told_in_one_line(text) -> None:
    """The line says what to write instead."""
    with pytest.raises(UsageError, match=r"^[^\n]* is not a detach key: write [^\n]*$"):
        parse_keys(text)


def test_too_many_keys_are_told_in_one_line() -> None:
    """Seventeen."""
    with pytest.raises(UsageError, match=r"^17 detach keys are too many: write at most 16$"):
        parse_keys(",".join("a" * 17))


@given(st.text())
def test_any_text_is_keys_or_a_usage_error(text) -> None:
    """Nothing else is raised; a message is one line of a bounded length."""
    message = ""
    try:
        assert len(parse_keys(text)) <= MAX_KEYS
    except UsageError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 300


@given(sequences, typed)
def test_everything_before_the_first_match_is_passed_on(sequence, pieces) -> None:
    """Cut anywhere: nothing is lost, nothing is passed on twice, and no match is missed."""
    keys, passed, whole = DetachKeys(sequence), b"", b""
    for piece in pieces:
        out, matched = keys.feed(piece)
        passed, whole = passed + out, whole + piece
        at = whole.find(sequence)
        assert matched == (at >= 0)
        if matched:
            assert passed == whole[:at]
            assert not keys.holding
            return
        held = whole[len(passed) :]
        assert whole == passed + held
        assert sequence.startswith(held)
        assert keys.holding == bool(held)
    assert passed + keys.flush() == whole


@given(sequences, typed)
def test_no_more_is_held_back_than_may_become_the_keys(sequence, pieces) -> None:
    """What is held is the longest end of the input that the sequence begins with."""
    keys, whole = DetachKeys(sequence), b"".join(pieces)
    passed, matched = keys.feed(whole)
    if not matched:
        longest = max(n for n in range(len(sequence)) if whole.endswith(sequence[:n]))
        assert len(whole) - len(passed) == longest


def test_a_repeated_first_key_is_passed_on_once() -> None:
    """ctrl-p ctrl-p ctrl-q detaches, and the first ctrl-p was for the program."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10") == (b"\x10", False)
    assert keys.feed(b"\x11more") == (b"", True)
    assert not keys.holding


def test_a_flush_ends_an_attempt() -> None:
    """After the hold time the second key alone means nothing."""
    keys = DetachKeys(b"\x10\x11")
    assert keys.feed(b"x\x10") == (b"x", False)
    assert keys.flush() == b"\x10"
    assert keys.flush() == b""
    assert keys.feed(b"\x11") == (b"\x11", False)


def test_after_a_match_the_matcher_begins_anew() -> None:
    """It can be typed once more."""
    keys = DetachKeys(b"abab")
    assert keys.feed(b"abab") == (b"", True)
    assert keys.feed(b"ab") == (b"", False)
    assert keys.feed(b"ab") == (b"", True)


@given(st.binary())
def test_without_keys_everything_is_passed_on(data) -> None:
    """None means none."""
    keys = DetachKeys(parse_keys("none"))
    assert keys.feed(data) == (data, False)
    assert not keys.holding


def test_every_cut_of_a_short_input_finds_the_keys() -> None:
    """All inputs of length 7 over two letters, each fed byte by byte."""
    for letters in itertools.product(b"ab", repeat=7):
        whole, keys, passed, found = bytes(letters), DetachKeys(b"aab"), b"", False
        for letter in letters:
            out, found = keys.feed(bytes([letter]))
            passed += out
            if found:
                break
        assert found == (b"aab" in whole)
        assert passed + keys.flush() == whole.split(b"aab")[0]
