"""What a script's failures and transcripts look like: short, aligned, for tired people."""

import pytest
from attachd_clients.script.failures import ExpectTimeout, Scene, ScriptError, headline
from attachd_clients.script.keys import control
from attachd_clients.script.patterns import EOF, compile_all
from attachd_clients.script.screen import BACKLOG, Snapshot, Watcher
from attachd_clients.script.transcript import Transcript
from attachd_clients.script.visible import visible_lines
from attachd_clients.signals import signal_number
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import AttachdError, UsageError
from attachd.state.sizes import Size


def test_a_failure_says_what_was_awaited_and_what_was_there() -> None:
    """In this order: the wish, the container, the output, the last lines, the screen."""
    wanted = compile_all([r"got (\d+)", b"\x00", EOF])
    scene = Scene(
        offset=1234,
        waiting=20,
        tail=b"one\r\n\x1b[31mtwo\x1b[0m \x07three\xff",
        dropped=7,
        missing=9,
        screen=Snapshot(("$ x", "y"), Size(80, 24), 1, 1),
        record={"exit_code": 3},
    )
    error = ExpectTimeout(f"not seen in 5 s: {headline(wanted)}", scene, wanted)

    assert str(error).split("\n") == [
        "not seen in 5 s: any of 3 patterns",
        "  any of     0  got (\\d+)",
        "             1  \\x00",
        "             2  EOF",
        "  container  exited with 3",
        "  output     20 bytes without a match, up to offset 1234",
        "  dropped    the oldest 7 bytes: too many to be kept",
        "  missing    9 bytes in a gap; nothing matches across it",
        "  last lines",
        "    | one",
        "    | two ^Gthree\ufffd",
        "  screen     80x24",
        "    | $ x",
        "    | y",
    ]
    assert (error.record, error.offset) == ({"exit_code": 3}, 1234)


def test_a_failure_is_both_ours_and_an_assertion() -> None:
    """A test runner tells it as a failure, and who catches ours gets it."""
    error = ScriptError("x", Scene(0))
    assert isinstance(error, AttachdError)
    assert isinstance(error, AssertionError)
    assert str(error).split("\n") == [
        "x",
        "  container  runs",
        "  output     0 bytes without a match, up to offset 0",
    ]
    assert Scene(0, lost="gone").container == "out of reach: gone"
    assert "output has ended" in Scene(0, output_ended=True).container


@given(st.binary(max_size=200))
def test_visible_lines_are_visible(data) -> None:
    """Whatever a program says: no escape, no control character, nothing too wide."""
    for line in visible_lines(data):
        assert line.isprintable()
        assert len(line) <= 160


def test_lines_without_what_only_a_terminal_wants() -> None:
    """Colours, titles, carriage returns at the end."""
    data = b"\x1b]0;title\x07\x1b[1;31mred\x1b[m\r\n\tx\x1b(B\r\n"
    assert visible_lines(data) == ["red", "    x"]
    assert visible_lines(b"a\nb", keep_ends=True) == ["a^J", "b"]


def test_a_transcript_is_in_order_and_bounded() -> None:
    """The oldest goes, which is told; output that comes in pieces is one entry."""
    transcript = Transcript("web", limit=100)
    transcript.note(0.5, "came", b"$ ")
    transcript.note(0.5001, "came", b"ready\n")
    transcript.note(1.25, "sent", b"exit\n")
    assert str(transcript).split("\n") == [
        "   0.500 s  came     $ ready",
        "   1.250 s  sent     exit^J",
    ]
    transcript.note(2, "came", b"x" * 1000)
    transcript.note(3, "matched", "end")
    assert sum(len(entry.text) for entry in transcript.entries) <= 103
    assert str(transcript).startswith("(")


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("c", b"\x03"),
        ("C", b"\x03"),
        ("@", b"\0"),
        ("[", b"\x1b"),
        ("_", b"\x1f"),
        ("?", b"\x7f"),
    ],
)
def test_control_keys(key, sent) -> None:
    """As on a terminal."""
    assert control(key) == sent


@pytest.mark.parametrize("key", ["", "cc", "1", "é", "\x03", "ctrl-c", "{"])
def test_a_wrong_control_key_is_refused(key) -> None:
    """Nothing else is sent in its place."""
    with pytest.raises(UsageError, match="control key"):
        control(key)


def test_signals_by_name_and_number() -> None:
    """As people write them; what is unknown is refused."""
    assert {signal_number(its) for its in ("TERM", "sigterm", "15", 15)} == {15}
    for wrong in ("NOPE", "", 0, -1, 4000, "SIG_DFL", "SIGNALS"):
        with pytest.raises(UsageError, match="no signal"):
            signal_number(wrong)


def test_a_snapshot_is_what_a_person_sees() -> None:
    """Rows, cursor, size; resized in order."""
    watcher = Watcher(Size(10, 3))
    watcher.feed(b"hello\r\nworld\x1b[1;1HJ")
    assert watcher.snapshot() == Snapshot(("Jello", "world", ""), Size(10, 3), 1, 0)
    assert str(watcher.snapshot()) == "Jello\nworld"
    watcher.resize(Size(4, 2))
    watcher.feed(b"\x1b[2;4Hx")
    shown = watcher.snapshot()
    assert (str(shown), shown.size, shown.column) == ("Jell\nworx", Size(4, 2), 3)


def test_a_flood_costs_no_memory_and_modes_are_remembered() -> None:
    """Only the last half of the backlog is drawn, on a screen that has the modes from before."""
    watcher = Watcher(Size(20, 3))
    watcher.feed(b"\x1b[?1049h")
    for _ in range(40):
        watcher.feed(b"x" * (BACKLOG // 16))
        assert watcher._waiting <= BACKLOG
    watcher.feed(b"\x1b[2J\x1b[Hend")
    assert str(watcher.snapshot()) == "end"
    watcher.feed(b"\x1b[?1049l")
    assert "x" not in str(watcher.snapshot())
