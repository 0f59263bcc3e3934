"""A recording is what a terminal would have shown: everything once, in order, at its times."""

import json

import pyte
from attachd_clients.rebuild import Rebuild
from attachd_clients.recording.recorder import Recorder, ending
from attachd_clients.recording.sizes import Sized
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.sizes import Size
from attachd.state.timeline import Change, Timeline
from attachd.wire import messages as say

SECOND = 1_000_000_000
SIZE = Size(20, 4)

texts = st.text(st.sampled_from("ab\r\n\x1b€\N{GRINNING FACE}"), max_size=10)


def out(offset: int, data: bytes, seconds: float = 0, stream: str = "stdout") -> say.Output:
    return say.Output(offset=offset, stream=stream, time=int(seconds * SECOND), data=data)


def resized(offset: int, size: Size, seconds: float = 0) -> say.Resized:
    time = int(seconds * SECOND)
    return say.Resized(offset=offset, time=time, columns=size.columns, rows=size.rows)


def exited(**fields: object) -> say.Exit:
    return say.Exit(record={"exit_code": 0, "finished_at": "1970-01-01T00:01:40Z", **fields})


def read(lines: bytes) -> tuple[dict, list[list]]:
    """Return header and events."""
    assert lines.endswith(b"\n")
    first, *rest = [json.loads(line) for line in lines.split(b"\n")[:-1]]
    return first, rest


def record(recorder: Recorder, events: list, now: int = 0) -> tuple[dict, list[list]]:
    lines = b"".join(recorder.take(event, now) for event in events)
    return read(lines + recorder.end(now))


def cut(data: bytes, places: list[int]) -> list[say.Output]:
    """Return output as it may have been read."""
    ends = [*sorted(min(place, len(data)) for place in places), len(data)]
    pairs = zip([0, *ends], ends, strict=False)
    return [out(a, data[a:b], 50 + a) for a, b in pairs if a < b]


def test_time_begins_with_the_first_output() -> None:
    """And no line's time is before that of another one above it, whatever clocks have done."""
    events = [out(0, b"a", 50.25), out(1, b"b", 52), out(2, b"c", 51), exited()]
    header, found = record(Recorder(SIZE, returns=False, more={"title": "web"}), events)

    assert header == {"version": 2, "width": 20, "height": 4, "timestamp": 50, "title": "web"}
    assert found == [
        [0, "o", "a"], [1.75, "o", "b"], [1.75, "o", "c"], [49.75, "m", "exit 0"],
    ]  # fmt: skip


def test_time_begins_now_where_that_was_said() -> None:
    """A person who records sees the pause before the first word, too."""
    recorder = Recorder(SIZE, returns=False)
    lines = recorder.begin(45 * SECOND)
    assert recorder.begin(46 * SECOND) == b""
    _, found = read(lines + recorder.take(out(0, b"a", 47), 0))

    assert found == [[2, "o", "a"]]
    assert recorder.base == 45 * SECOND


def test_output_without_times_is_a_recording_without_pauses() -> None:
    """As what comes from a raw log."""
    header, found = record(
        Recorder(SIZE, returns=False), [out(0, b"a"), out(1, b"b")], 7 * SECOND
    )
    assert header["timestamp"] == 7
    assert found == [[0, "o", "a"], [0, "o", "b"]]


def test_nothing_makes_a_whole_file() -> None:
    """A header, which every player takes."""
    assert record(Recorder(SIZE, returns=True), [], 7 * SECOND)[1] == []


@given(texts, st.lists(st.integers(0, 40), max_size=6), st.booleans())
def test_characters_and_lines_are_whole_however_they_were_read(text, places, returns) -> None:
    """Without a terminal a newline must start a line by itself."""
    _, found = record(Recorder(SIZE, returns=returns), cut(text.encode(), places))

    joined = "".join(data for _, code, data in found if code == "o")
    assert joined == (text.replace("\n", "\r\n") if returns else text)


def test_both_streams_are_shown_and_each_ones_characters_are_joined() -> None:
    """As both come to a terminal; what never becomes a character is shown as that."""
    events = [out(0, b"\xe2\x82"), out(2, b"err\xc3", stream="stderr"), out(6, b"\xac\n")]
    _, found = record(Recorder(SIZE, returns=True), events)

    assert [data for _, _, data in found] == ["err", "€\r\n", "\ufffd"]


def test_what_is_missing_is_a_marker() -> None:
    """Never skipped in silence."""
    _, found = record(
        Recorder(SIZE, returns=False), [out(0, b"a", 50), say.Gap(start=1, end=9)]
    )
    assert found[1] == [0, "m", "gap: 8 bytes from offset 1: no longer there"]


def test_what_is_typed_is_input() -> None:
    """As it was sent: a return is no line."""
    typed = say.Input(offset=1, time=51 * SECOND, data=b"ls\r")
    _, found = record(Recorder(SIZE, returns=True), [out(0, b"$ ", 50), typed])

    assert found == [[0, "o", "$ "], [1, "i", "ls\r"]]


def test_each_end_has_its_words() -> None:
    """A code as a number, anything else in words."""
    assert ending({"exit_code": 7}) == "exit 7"
    assert ending({"exit_code": None, "signal": 9, "reason": "oom"}) == (
        "exit: killed by signal 9 (oom)"
    )
    assert ending({"reason": "unknown"}) == "exit: ended, nobody knows how"


def test_an_end_that_nobody_has_timed_comes_after_the_last_output() -> None:
    """And is told all the same."""
    _, found = record(
        Recorder(SIZE, returns=False), [out(0, b"a", 50), exited(finished_at=None)]
    )
    assert found[-1] == [0, "m", "exit 0"]


# Sizes


def test_a_size_before_the_first_output_is_the_recordings() -> None:
    """Later ones are told in order, the same one again is not."""
    events = [resized(0, Size(30, 5)), out(0, b"a", 50), resized(1, Size(30, 5), 51)]
    header, found = record(
        Recorder(SIZE, returns=False), [*events, resized(1, Size(9, 9), 52)]
    )
    assert (header["width"], header["height"]) == (30, 5)
    assert found == [[0, "o", "a"], [2, "r", "9x9"]]


changes = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 200)), max_size=5)


@given(changes, st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=5), st.data())
def test_each_byte_is_told_while_its_size_is_the_last_one_told(
    sizes, data, places, more
) -> None:
    """Of a terminal whose shim is gone, from any offset on."""
    timeline = Timeline([Change(1, 0, 0, SIZE)])
    for offset, side in sorted(sizes):
        timeline.note(offset, 5, Size(side, side))
    begin = more.draw(st.integers(0, len(data)))
    sized, size, found = Sized(timeline), None, b""
    for event in cut(data, [*places, begin]):
        if event.offset < begin:
            continue
        for part in sized.add(event):
            if isinstance(part, say.Resized):
                size = Size(part.columns, part.rows)
                continue
            found += part.data
            for at in range(part.offset, part.offset + len(part.data)):
                assert size == timeline.at(at).size
    assert found == data[begin:]
    assert list(sized.add(exited())) == [exited()]


# The first picture


def shown(text: str, size: Size = SIZE) -> list[str]:
    screen = pyte.Screen(*size)
    pyte.Stream(screen).feed(text)
    return [row.rstrip() for row in screen.display]


@given(
    st.lists(
        st.sampled_from(["a", "b ", "\r\n", "\x1b[2;3H", "\x1b[31m", "\x1b[m"]), max_size=20
    ),
    st.data(),
)
def test_a_recording_from_the_middle_begins_with_the_screen_as_it_was(words, more) -> None:
    """What is played from there on ends as what was played from the start."""
    data = "".join(words).encode()
    at = more.draw(st.integers(0, len(data)))
    events = cut(data, more.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    rebuild = Rebuild(0, at, SIZE, b"")
    _, found = record(Recorder(SIZE, returns=False, rebuild=rebuild), events)

    assert shown("".join(text for _, _, text in found)) == shown(data.decode())
    later = [out(e.offset, e.data, 50) for e in events if e.offset + len(e.data) > at]
    assert len(found) == 1 + len(later)


def test_the_past_has_sizes_and_gaps_of_its_own() -> None:
    """The header has the size at the beginning; what was missing before it is nobody's."""
    events = [
        say.Gap(start=0, end=3), out(3, b"ab", 40), resized(5, Size(30, 5), 41), out(5, b"cd", 42),
        out(7, b"ef", 50), resized(9, Size(40, 6), 51),
    ]  # fmt: skip
    rebuild = Rebuild(3, 7, SIZE, b"")
    header, found = record(Recorder(SIZE, returns=False, rebuild=rebuild), events)

    assert (header["width"], header["height"], header["timestamp"]) == (30, 5, 50)
    assert [code for _, code, _ in found] == ["o", "o", "r"]
    assert shown(found[0][2], Size(30, 5))[0] == "abcd"
    assert found[1:] == [[0, "o", "ef"], [1, "r", "40x6"]]


def test_an_end_in_the_past_still_shows_the_last_screen() -> None:
    """As of a container that has ended, from now on."""
    rebuild = Rebuild(0, 10**9, SIZE, b"")
    events = [out(0, b"last words", 40), say.Eof(stream="stdout"), exited()]
    _, found = record(Recorder(SIZE, returns=False, rebuild=rebuild), events)

    assert [code for _, code, _ in found] == ["o", "m"]
    assert shown(found[0][2])[0] == "last words"


def test_half_a_character_before_the_beginning_is_joined_after_it() -> None:
    """The picture ends with its first bytes."""
    rebuild = Rebuild(0, 1, SIZE, b"")
    _, found = record(
        Recorder(SIZE, returns=False, rebuild=rebuild), [out(0, b"\xe2\x82\xac!", 50)]
    )
    assert shown("".join(text for _, _, text in found))[0] == "€!"


def test_a_message_that_shows_nothing_makes_no_line() -> None:
    """Who writes, notices, the ends of streams."""
    recorder = Recorder(SIZE, returns=False)
    for event in (
        say.Writer(name="x", you=False), say.Notice(code="x", text="x"), say.Eof(stream="stdout"),
    ):  # fmt: skip
        assert recorder.take(event, 0) == b""
