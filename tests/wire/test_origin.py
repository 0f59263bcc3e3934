"""The grammar of ``hello.since``."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused
from attachd.wire.messages import MAX_INT
from attachd.wire.origin import Origin, parse_origin

GRAMMAR = re.compile(r"start|live|none|screen|(tail|offset):[0-9]{1,19}", re.ASCII)


@pytest.mark.parametrize("word", ["start", "live", "none", "screen"])
def test_a_word_alone_is_an_origin(word: str) -> None:
    """They stand alone."""
    assert parse_origin(word) == Origin(word)


@pytest.mark.parametrize("word", ["tail", "offset"])
@given(number=st.integers(0, MAX_INT))
def test_tail_and_offset_carry_a_number(word: str, number: int) -> None:
    """Every count that a message can carry can be named here, too."""
    assert parse_origin(f"{word}:{number}") == Origin(word, number)


@pytest.mark.parametrize(
    "text",
    [
        "", "begin", "START", " start", "start ", "start:", "live:1", "none:",
        "tail", "tail:", "tail:-1", "tail:+1", "tail:1.0", "tail:1e3", "tail:1_0", "tail: 1",
        "tail:\u0663", "tail:\u00b2", "offset", "offset:", "offset:0x10", "offset:1:2",
        f"offset:{MAX_INT + 1}", "offset:" + "9" * 20, "offset:" + "0" * 20, "tail:1\n",
    ],
)  # fmt: skip
def test_anything_else_is_refused_as_a_bad_request(text: str) -> None:
    """The refusal names the grammar, and its code travels in a goodbye."""
    with pytest.raises(
        Refused, match="none of start, live, none, screen, tail:LINES"
    ) as caught:
        parse_origin(text)

    assert caught.value.code == "bad_request"


@given(text=st.text(max_size=30) | st.from_regex(r"(tail|offset):[0-9]*", fullmatch=True))
def test_any_text_gives_an_origin_or_a_refusal(text: str) -> None:
    """A hostile ``since`` ends in Refused and in nothing else; the grammar decides."""
    try:
        origin = parse_origin(text)
    except Refused:
        number = text.partition(":")[2]
        assert not GRAMMAR.fullmatch(text) or int(number) > MAX_INT
    else:
        assert GRAMMAR.fullmatch(text)
        assert 0 <= origin.number <= MAX_INT


def test_a_long_text_is_not_repeated_in_full() -> None:
    """The refusal stays a line, whatever was sent."""
    with pytest.raises(Refused) as caught:
        parse_origin("x" * 4000)

    assert len(str(caught.value)) < 200
