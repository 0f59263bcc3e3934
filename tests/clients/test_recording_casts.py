"""Recordings of anybody are played as far as they are whole, and one line says what is wrong."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from unittest.mock import patch

import pytest
import trio
from attachd_clients.recording import reading
from attachd_clients.recording.casts import Cast, Happening, Pace
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError

HEADER = b'{"version": 2, "width": 80, "height": 24}\n'

times = st.floats(0, 10**6).map(lambda time: round(time, 6))
happenings = st.lists(
    st.builds(Happening, times, st.sampled_from("oirmx"), st.text(max_size=9)), max_size=8
)


def lines(cast: bytes) -> list[bytes]:
    return list(io.BytesIO(cast)) or [b""]


def written(happened: list[Happening]) -> bytes:
    return HEADER + b"".join(json.dumps(list(one)).encode() + b"\n" for one in happened)


def events(cast: bytes) -> Iterator[Happening]:
    first, *rest = lines(cast)
    begun = Cast.begin("x.cast", first)
    for line in rest:
        if event := begun.take(line):
            yield event


@given(happenings)
def test_what_was_written_is_read(happened) -> None:
    """Events of any kind, in the order of the file."""
    assert list(events(written(happened))) == happened


@given(happenings, st.data())
def test_a_file_that_is_cut_short_is_read_as_far_as_it_is_whole(happened, data) -> None:
    """Then one line says so; what is cut at the end of a line cannot be known."""
    whole = written(happened)
    cut = whole[: data.draw(st.integers(len(HEADER), len(whole)))]
    found, complaint = [], ""
    try:
        for event in events(cut):
            found.append(event)
    except UsageError as error:
        complaint = str(error)
    count = cut.count(b"\n") - 1

    assert found in (happened[:count], happened[: count + 1])
    assert ("x.cast is cut short" in complaint) == (len(found) == count and cut[-1:] != b"\n")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"{}\n", b"[]\n", b"\x89PNG\r\n", b'{"version": 2\n', b"2\n", b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
    ],
)  # fmt: skip
def test_what_is_no_header_is_told_in_one_line(line) -> None:
    """An empty file, a picture, a JSON of somebody else's."""
    with pytest.raises(UsageError, match=r"^x\.cast is no asciicast: its first line"):
        Cast.begin("x.cast", line)


@pytest.mark.parametrize("version", [1, 4, "2", None, [2]])
def test_another_version_is_refused_by_its_number(version) -> None:
    """The first one was one object, to be read whole."""
    with pytest.raises(UsageError, match=r"is asciicast .*: only 2 and 3 are known$"):
        Cast.begin("x.cast", json.dumps({"version": version}).encode())


def test_version_3_counts_from_event_to_event() -> None:
    """It has comments, too, and the exit as an event."""
    cast = (
        b'{"version": 3, "term": {"cols": 80, "rows": 24}}\n# words\n[1.5, "o", "a"]\n\n'
        b'[0.5, "r", "90x30"]\n# more\n[1, "x", "0"]\n'
    )
    assert list(events(cast)) == [(1.5, "o", "a"), (2.0, "r", "90x30"), (3.0, "x", "0")]


@pytest.mark.parametrize(
    "line",
    [
        b"{}", b"[1]", b'[1, "o"]', b'[1, "o", 2]', b'["1", "o", "x"]', b'[true, "o", "x"]',
        b'[-1, "o", "x"]', b'[NaN, "o", "x"]', b'[1e400, "o", "x"]', b"# no comment in 2",
        b'[1%s, "o", "x"]' % (b"0" * 400), b'[1, 2, "x"]',
    ],
)  # fmt: skip
def test_a_broken_line_in_the_middle_is_told_by_its_number(line) -> None:
    """What comes before it is played."""
    found = events(HEADER + b'[0, "o", "a"]\n' + line + b'\n[2, "o", "b"]\n')
    assert next(found) == (0, "o", "a")
    with pytest.raises(UsageError, match=r"^x\.cast is damaged: line 3 is no event$"):
        next(found)


def test_a_file_may_say_how_long_pauses_are_to_be() -> None:
    """What is no number of seconds says nothing."""
    for value, limit in ((2, 2), (0.5, 0.5), ("x", None), (-1, None), (None, None)):
        first = json.dumps({"version": 2, "idle_time_limit": value}).encode()
        assert Cast.begin("x.cast", first).idle_limit == limit


@given(st.lists(times, max_size=10).map(sorted))
def test_at_its_own_pace_everything_comes_at_its_time(at) -> None:
    """From the beginning on."""
    pace = Pace()
    assert [pace.due(time) for time in at] == pytest.approx(at)


def test_pauses_are_cut_first_and_the_rest_is_sped_up() -> None:
    """As asciinema has it; time that goes back is no pause."""
    pace = Pace(2.0, 3.0)
    assert [pace.due(time) for time in (1, 2, 20, 19, 21)] == [0.5, 1.0, 2.5, 2.5, 3.0]


@given(st.lists(st.binary(max_size=20), max_size=9), st.integers(1, 50))
def test_lines_are_whole_however_they_come(said, size) -> None:
    """From a pipe, too; the last one as it is."""
    data = b"\n".join(said)
    with patch.object(reading, "_READ_BYTES", size):
        assert trio.run(gathered, data) == list(io.BytesIO(data))


def test_a_line_without_an_end_is_no_reason_to_read_for_ever() -> None:
    """It is passed on as far as lines may be long, and then no event."""
    with patch.object(reading, "MAX_LINE", 100), patch.object(reading, "_READ_BYTES", 30):
        (line,) = trio.run(gathered, b"x" * 5000)
    assert line == b"x" * 100


async def gathered(data: bytes) -> list[bytes]:
    ours, theirs = os.pipe()
    found = []

    async def write() -> None:
        with contextlib.suppress(BrokenPipeError):
            async with trio.lowlevel.FdStream(theirs) as stream:
                await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        async for line in reading.read_lines(ours, "x.cast"):
            found.append(line)
        os.close(ours)
        nursery.cancel_scope.cancel()
    return found
