"""What a program asks its terminal is not asked again when somebody looks at history."""

import pytest
from attachd_clients.questions import MAX_QUESTION, Unasked
from hypothesis import given
from hypothesis import strategies as st

QUESTIONS = [
    b"\x05", b"\x1bZ", b"\x1b[c", b"\x1b[0c", b"\x1b[>c", b"\x1b[=c", b"\x1b[5n", b"\x1b[6n",
    b"\x1b[?6n", b"\x1b[?2026$p", b"\x1b[4$p", b"\x1b[>0q", b"\x1b[?u", b"\x1b[14t",
    b"\x1b[18t", b"\x1b[21t", b"\x1b]11;?\x07", b"\x1b]10;?\x1b\\", b"\x1b]4;7;?\x07",
    b"\x1b]52;c;?\x07", b"\x1bP+q544e\x1b\\", b"\x1bP$qm\x1b\\", b"\x1b_Gi=1,a=q;AA\x1b\\",
]  # fmt: skip
OTHERS = [
    b"text", b"\x1b[31m", b"\x1b[2J", b"\x1b[?25l", b"\x1b[22;0t", b"\x1b]0;title\x07",
    b"\x1b]11;#fff\x07", b"\x1b[>4;1m", b"\x1b[1;1H", b"\x1b7", b"\r\n", "\u00e9".encode(),
    b"\x1bPq#0sixel\x1b\\",
]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_taken_out(question: bytes) -> None:
    """And nothing around it."""
    unasked = Unasked()

    assert unasked.feed(b"a" + question + b"b") + unasked.end() == b"ab"


@given(
    st.lists(st.sampled_from([*QUESTIONS, *OTHERS]), max_size=12),
    st.lists(st.integers(1, 9), max_size=60),
)
def test_any_cutting_shows_everything_else(parts: list[bytes], cuts: list[int]) -> None:
    """Exactly, and in order."""
    stream, unasked, shown = b"".join(parts), Unasked(), b""
    for size in [*cuts, len(stream)]:
        shown += unasked.feed(stream[:size])
        stream = stream[size:]

    assert shown + unasked.end() == b"".join(p for p in parts if p in OTHERS)


@given(st.lists(st.binary(max_size=600), max_size=8))
def test_any_bytes_are_shown_sooner_or_later(parts: list[bytes]) -> None:
    """What is held back is bounded."""
    unasked, size = Unasked(), 0
    for part in parts:
        size += len(unasked.feed(part))
        assert len(unasked.end()) <= MAX_QUESTION
