"""What a session does next, with a world that is told what to answer."""

import functools
import itertools

import pytest
from attachd_clients.conversation import Ended
from attachd_clients.script.dialogue import Dialogue
from attachd_clients.script.failures import ExpectEnded, ExpectTimeout, SendRefused
from attachd_clients.script.options import screen_pattern
from attachd_clients.script.patterns import EOF, EXIT, compile_all
from attachd_clients.script.plans import (
    AGAIN_SECONDS,
    GRACE_SECONDS,
    Plans,
    Recall,
    Receive,
    Scan,
    Silence,
    TypeEnd,
)
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused, UsageError
from attachd.state.sizes import Size
from attachd.wire import messages as say

ENDS = [say.Eof(stream="stdout"), say.Eof(stream="stderr")]
EXITED = say.Exit(record={"exit_code": 7, "signal": None})


def dialogue(size: Size | None = None, *, visible: float = 0, **options: object) -> Dialogue:
    return Dialogue.begin("web", None, size, visible=visible, **options)


def out(offset: int, data: bytes, stream: str = "stdout") -> say.Output:
    return say.Output(offset=offset, stream=stream, time=0, data=data)


def planning(talk: Dialogue) -> Plans:
    """Return plans with a clock that goes on by half a second whenever somebody looks."""
    return Plans(talk, functools.partial(next, itertools.count(step=0.5)))


def carry_out(talk: Dialogue, plan, world, left: say.Exit | None = None) -> object:
    """Give a plan what the world says, in its order; return its result, and what was asked."""
    world, steps, reply = iter(world), [], None
    while True:
        try:
            step = plan.send(reply)
        except StopIteration as end:
            return end.value, steps
        steps.append(step)
        if isinstance(step, Scan):
            reply = step.search.scan(lambda: 1.0, final=step.final)
            continue
        if isinstance(step, Recall):
            if left is not None:
                talk.hear(left, 0.0)
            reply = None
            continue
        reply = next(world)
        if not isinstance(reply, Silence | Exception) and isinstance(step, Receive):
            talk.hear(reply, 0.0)


def expected(talk: Dialogue, patterns, world):
    match, steps = carry_out(talk, planning(talk).expect(compile_all(patterns), 5), world)
    return match, steps


def test_output_that_is_there_is_not_waited_for() -> None:
    """What one match left is for the next."""
    talk = dialogue()
    match, steps = expected(talk, "two", [out(0, b"one two three")])
    assert (match.before, match.start, match.end) == ("one ", 4, 7)
    match, steps = expected(talk, "three", [])
    assert (match.before, steps) == (" ", [steps[0]])
    assert talk.buffer.start == 13


@given(st.lists(st.integers(1, 30), max_size=6))
def test_lines_come_one_by_one_however_they_came(sizes) -> None:
    """Each expectation goes on where the last one has ended."""
    talk = dialogue()
    data, events, at = b"one\ntwo\nthree\nend\n", [], 0
    for size in [*sizes, len(data)]:
        if piece := data[at : at + size]:
            events.append(out(at, piece))
            at += len(piece)
    world = iter(events)
    found = [expected(talk, r"(\w+)\n", world)[0] for _ in range(4)]

    assert [match[1] for match in found] == ["one", "two", "three", "end"]
    assert [match.start for match in found] == [0, 4, 8, 14]


def test_an_end_before_the_pattern_is_told_with_the_exit_record() -> None:
    """Which comes right behind; the last line needs no newline for a dollar."""
    talk = dialogue()
    with pytest.raises(
        ExpectEnded,
        match=r"(?s)the container ended before: never.*waited +0.50 s.*exited with 7",
    ):
        expected(talk, "never", [out(0, b"x"), *ENDS, EXITED])
    match, _ = expected(talk, "x$", [])
    assert match.end == 1
    match, _ = expected(talk, ["never", EXIT, EOF], [])
    assert (match.index, match.pattern) == (2, EOF)
    assert expected(talk, EXIT, [])[0].pattern is EXIT


def test_output_that_ended_while_the_container_goes_on() -> None:
    """No more is waited for than a moment; EXIT is waited for."""
    talk = dialogue()
    with pytest.raises(ExpectEnded, match=r"(?s)the output ended.*its output has ended"):
        expected(talk, "never", [*ENDS, Silence.IDLE])
    with pytest.raises(ExpectTimeout):
        expected(talk, EXIT, [Silence.LATE])
    match, steps = expected(talk, EXIT, [EXITED])
    assert match.pattern is EXIT
    assert Receive(GRACE_SECONDS) not in steps


def test_a_conversation_that_is_over_or_lost_ends_it() -> None:
    """Nothing hangs."""
    with pytest.raises(ExpectEnded):
        expected(dialogue(), "never", [None])
    talk = dialogue()
    talk.lost = Refused("unreachable", "its shim does not answer")
    with pytest.raises(ExpectEnded, match="out of reach: its shim does not answer"):
        expected(talk, "never", [])


def test_who_is_cut_off_looks_for_the_record_in_the_files() -> None:
    """The shim may have thrown us out because the container has ended."""
    talk = dialogue()
    code, steps = carry_out(talk, planning(talk).exit(5, send_eof=False), [None], EXITED)
    assert (code, steps) == (7, [Receive(), Recall()])
    talk = dialogue()
    plan = planning(talk).refused("stdin", Ended("protocol", "stdin at 5"))
    error, _ = carry_out(talk, plan, [None], EXITED)
    assert isinstance(error, ExpectEnded)
    assert "exited with 7" in str(error)


def test_a_gap_is_told() -> None:
    """And never matched across."""
    talk = dialogue()
    world = [out(0, b"on"), say.Gap(start=2, end=9), out(9, b"e"), Silence.LATE]
    with pytest.raises(ExpectTimeout, match="7 bytes in a gap"):
        expected(talk, "(?s)o.*e", world)
    assert talk.transcript.entries[1].text == b"7 bytes are missing"


def test_one_stream_alone_skips_the_other_and_matches_on() -> None:
    """Offsets are those of the container."""
    talk = dialogue(streams=["stderr"])
    world = [out(0, b"er", "stderr"), out(2, b"!!"), out(4, b"ror", "stderr")]
    match, _ = expected(talk, "error", world)
    assert (match.start, match.end) == (0, 7)
    with pytest.raises(UsageError):
        dialogue(streams=[])


def test_what_was_there_before_is_for_the_screen_alone() -> None:
    """A session that came late."""
    talk = dialogue(Size(20, 3), visible=4)
    with pytest.raises(ExpectTimeout):
        expected(talk, "old", [out(0, b"old new"), Silence.LATE])
    assert expected(talk, "new", [])[0].start == 4
    shown, _ = carry_out(
        talk, planning(talk).expect_screen(*screen_pattern("old$|old new"), 5), []
    )
    assert str(shown) == "old new"


def test_a_screen_that_never_shows_it() -> None:
    """Late, or ended; a pattern that never ends is one that is not seen."""
    talk = dialogue(Size(80, 24))
    talk.hear(out(0, b"a" * 70 + b"?!"), 0.0)
    for pattern in ("never", "(a|aa)+!"):
        with pytest.raises(ExpectTimeout, match="not on the screen in 5 s"):
            carry_out(
                talk, planning(talk).expect_screen(*screen_pattern(pattern), 5), [Silence.LATE]
            )
    plan = planning(talk).expect_screen(*screen_pattern("never"), 5)
    with pytest.raises(
        ExpectEnded, match=r"before the screen showed: never\n  waited +0.50 s"
    ):
        carry_out(talk, plan, [*ENDS, EXITED])
    with pytest.raises(UsageError):
        carry_out(dialogue(), planning(dialogue()).expect_screen(*screen_pattern("x"), 5), [])


def test_ctrl_d_is_pressed_again_where_a_terminal_has_swallowed_it() -> None:
    """After each second without anything; never at a pipe."""
    talk = dialogue(Size(80, 24))
    code, steps = carry_out(
        talk, planning(talk).exit(5, send_eof=True), [None, Silence.IDLE, None, EXITED]
    )
    assert code == 7
    assert steps == [TypeEnd(), Receive(AGAIN_SECONDS), TypeEnd(), Receive(AGAIN_SECONDS)]
    code, steps = carry_out(dialogue(), planning(talk).exit(5, send_eof=True), [])
    assert (code, steps) == (7, [])
    talk = dialogue()
    _, steps = carry_out(
        talk, planning(talk).exit(5, send_eof=True), [None, out(0, b"x"), EXITED]
    )
    assert steps == [TypeEnd(), Receive(), Receive()]


def test_an_end_that_is_refused_or_late() -> None:
    """A closed stdin is what was wanted; somebody else's is not."""
    talk = dialogue()
    closed = Refused("stdin_closed", "closed")
    assert carry_out(talk, planning(talk).exit(5, send_eof=True), [closed, EXITED])[0] == 7
    talk = dialogue()
    with pytest.raises(SendRefused, match="the end of stdin was refused: leased"):
        carry_out(talk, planning(talk).exit(5, send_eof=True), [Refused("leased", "leased")])
    with pytest.raises(ExpectTimeout, match="not ended in 5 s"):
        carry_out(talk, planning(talk).exit(5, send_eof=False), [Silence.LATE])
    with pytest.raises(ExpectEnded, match=r"without a record\n  waited +0.50 s"):
        carry_out(talk, planning(talk).exit(5, send_eof=False), [None])


def test_a_refusal_is_the_container_s_end_when_that_is_why() -> None:
    """Otherwise it is what it is."""
    talk = dialogue()
    closed = Refused("stdin_closed", "closed")
    error, _ = carry_out(talk, planning(talk).refused("stdin", closed), [Silence.LATE])
    assert isinstance(error, SendRefused)
    error, _ = carry_out(talk, planning(talk).refused("stdin", Refused("leased", "x")), [])
    assert isinstance(error, SendRefused)
    error, _ = carry_out(talk, planning(talk).refused("stdin", closed), [EXITED])
    assert isinstance(error, ExpectEnded)


def test_a_size_that_was_set_is_waited_for() -> None:
    """It may come behind the answer; no longer than it can come."""
    size, told = Size(90, 20), say.Resized(offset=0, time=0, columns=90, rows=20)
    talk = dialogue(Size(80, 24))
    carry_out(talk, planning(talk).take_size(size), [out(0, b"x"), told])
    assert talk.watcher.snapshot().size == size
    for world in ([], [None], [Silence.LATE]):
        talk = dialogue(size if not world else Size(80, 24))
        assert len(carry_out(talk, planning(talk).take_size(size), world)[1]) == len(world)
    for talk in (dialogue(), dialogue(Size(80, 24))):
        talk.blind = True
        assert carry_out(talk, planning(talk).take_size(size), [])[1] == []
