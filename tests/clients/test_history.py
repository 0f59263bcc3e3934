"""History: what the files of an ended container tell, against a model that knows no lines."""

import json
import re
from pathlib import Path

import pytest
from attachd_clients.history import recall
from attachd_clients.places import Place
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused, UsageError
from attachd.state.loglines import CriLines
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES
from attachd.state.times import rfc3339
from attachd.wire import messages as say

RECORD = {"schema": 1, "reason": "exited", "exit_code": 7, "signal": None}
ENDS = [say.Eof(stream="stdout"), say.Eof(stream="stderr"), say.Exit(record=RECORD)]
SECOND = 1_000_000_000

#: What another program may have written into our log, or a full disk have left of a line.
CORRUPT = [
    b"\n",
    b"no time stdout F text\n",
    b"2024-05-01T12:00:00.000000001Z stdout F\n",
    b"2024-05-01T12:00:00.000000001Z stdout X text\n",
    b"2024-99-01T12:00:00.000000001Z stdout F text\n",
    b"\xff\xfe\x00 stdout F text\n",
    b" \n",
]


class Line:
    """One line of a log, and the output that it stands for."""

    def __init__(self, stream: str, tag: str, text: bytes, time: int) -> None:
        self.stream, self.time = stream, time
        self.written = f"{rfc3339(time)} {stream} {tag} ".encode() + text + b"\n"
        self.data = text + b"\n" * (tag == "F")


LINES = st.builds(
    Line,
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from(["F", "F", "P"]),
    st.binary(max_size=9).map(lambda text: text.replace(b"\n", b" ")),
    st.integers(0, 4_000_000_000 * SECOND),
)
LOGS = st.lists(LINES, max_size=12)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A container that has ended; ``keep`` gives it a log."""
    made = Place(str(tmp_path_factory.mktemp("root")), "web")
    Path(made.path).mkdir()
    (Path(made.path) / "exit.json").write_text(json.dumps(RECORD))
    return made


def keep(place: Place, written: bytes, *, form: str = "cri", start: int = 0) -> None:
    """Let ``written`` be the container's log, which began at ``start``."""
    path = Path(place.path) / "container.log"
    path.write_bytes(written)
    state = {"logs": [{"format": form, "path": str(path), "start": start}]}
    (Path(place.path) / "state.json").write_text(json.dumps(state))


def marked(outputs: list[say.Output]) -> list[tuple[int, str, int, int]]:
    """Return every byte by itself: its offset, stream, time and value."""
    return [
        (output.offset + at, output.stream, output.time, byte)
        for output in outputs
        for at, byte in enumerate(output.data)
    ]


def model(lines: list[Line]) -> list[tuple[int, str, int, int]]:
    """Return the same for lines, by counting."""
    every = [(line.stream, line.time, byte) for line in lines for byte in line.data]
    return [(offset, *rest) for offset, rest in enumerate(every)]


def tail(data: bytes, lines: int) -> bytes:
    """Return the last lines of ``data``; one without its end counts."""
    found = re.findall(rb"[^\n]*\n|[^\n]+", data)
    return b"".join(found[max(0, len(found) - lines) :])


def recalled(place: Place, since: str) -> list[say.Output]:
    """Return the output from ``since`` on; fail when the ends do not follow."""
    events = list(recall(place, since))
    assert events[-3:] == ENDS
    return events[:-3]


def told_after_gaps(place: Place) -> list[say.Output]:
    """Return all output of a damaged log; every offset must be told, as output or as a gap."""
    at, outputs = 0, []
    for event in recalled(place, "start"):
        if isinstance(event, say.Gap):
            assert event.start == at < event.end
            at = event.end
        else:
            assert event.offset == at
            at += len(event.data)
            outputs.append(event)
    return outputs


# The model


@given(lines=LOGS)
def test_a_log_gives_back_every_byte_with_its_stream_and_time(place, lines) -> None:
    """F ends a line, P does not; offsets count from 0 without a hole."""
    keep(place, b"".join(line.written for line in lines))

    assert marked(recalled(place, "start")) == model(lines)


@given(lines=LOGS, offset=st.integers(0, 130))
def test_an_offset_begins_at_exactly_that_byte(place, lines, offset) -> None:
    """Inside a line, between two, or at the end; one that there never was is refused."""
    keep(place, b"".join(line.written for line in lines))
    end = len(model(lines))
    if offset > end:
        with pytest.raises(UsageError, match=f"offset {offset} is in the future of {end}"):
            recalled(place, f"offset:{offset}")
    else:
        assert marked(recalled(place, f"offset:{offset}")) == model(lines)[offset:]


@given(lines=LOGS, count=st.integers(0, 14))
def test_a_tail_is_the_last_lines_of_both_streams(place, lines, count) -> None:
    """Lines as they appear in the output, however many pieces the log has of them."""
    keep(place, b"".join(line.written for line in lines))
    whole = model(lines)
    data = bytes(byte for *_, byte in whole)

    assert (
        marked(recalled(place, f"tail:{count}")) == whole[len(data) - len(tail(data, count)) :]
    )


@given(lines=LOGS, before=st.binary(max_size=60))
def test_what_was_in_the_log_before_is_not_ours(place, lines, before) -> None:
    """A log may be appended to by one container after another."""
    written = before + b"".join(line.written for line in lines)
    keep(place, written, start=len(before))

    assert marked(recalled(place, "start")) == model(lines)


def test_a_tail_leaves_out_every_piece_of_the_lines_before_it(place) -> None:
    """A line in two pieces is left out as a whole when the last line is asked for."""
    lines = [Line("stdout", tag, b"x", SECOND) for tag in ("P", "F", "P")]
    keep(place, b"".join(line.written for line in lines))

    assert marked(recalled(place, "tail:1")) == model(lines)[3:]


@given(lines=LOGS, data=st.data())
def test_corrupt_lines_are_skipped_and_told(place, lines, data) -> None:
    """What is not a line of the format hides none of those that are."""
    written = []
    for line in lines:
        written += [*data.draw(st.lists(st.sampled_from(CORRUPT), max_size=2)), line.written]
    keep(place, b"".join(written))
    outputs = told_after_gaps(place)

    assert [mark[1:] for mark in marked(outputs)] == [mark[1:] for mark in model(lines)]


@given(lines=LOGS.filter(bool), data=st.data())
def test_a_last_line_that_was_cut_off_is_skipped(place, lines, data) -> None:
    """A disk that was full leaves half a line; it is not told as if it were a whole one."""
    written = b"".join(line.written for line in lines)
    lost = data.draw(st.integers(1, len(lines[-1].written)))
    keep(place, written[:-lost])

    assert marked(recalled(place, "start")) == model(lines[:-1])


@pytest.mark.parametrize("stream", [b"stdlog", b"\xff", b""], ids=["foreign", "bytes", "none"])
def test_a_line_of_a_stream_that_is_none_is_skipped(place, stream) -> None:
    """There are two streams: a third one would be a surprise to every client."""
    good = Line("stdout", "F", b"good", SECOND)
    keep(place, b"2024-05-01T12:00:00.000000001Z " + stream + b" F text\n" + good.written)

    assert [output.data for output in told_after_gaps(place)] == [b"good\n"]


CHUNKS = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=20)), max_size=12
)


def write_cri(chunks: list[tuple[int, bytes]]) -> bytes:
    """Return the log that the shim writes for ``chunks``."""
    lines, written, offset = CriLines(), b"", 0
    for stream, data in chunks:
        written += lines.feed(stream, offset, SECOND, data)
        offset += len(data)
    return written + lines.flush()


@given(chunks=CHUNKS, data=st.data())
def test_a_log_has_the_shims_own_offsets(place, chunks, data) -> None:
    """Of both streams, so a client goes on from the log where it was when the shim went."""
    keep(place, write_cri(chunks))
    said = [(STREAM_NAMES[stream], byte) for stream, text in chunks for byte in text]
    offset = data.draw(st.integers(0, len(said)))
    told = marked(recalled(place, f"offset:{offset}"))

    assert [(at, stream, byte) for at, stream, _, byte in told] == [
        (at, *said[at]) for at in range(offset, len(said))
    ]


# Raw logs


@given(data=st.binary(max_size=60), offset=st.integers(0, 70), count=st.integers(0, 9))
def test_a_raw_log_is_its_own_bytes(place, data, offset, count) -> None:
    """All told as stdout, without a time: nobody noted them."""
    keep(place, b"before" + data, form="raw", start=6)
    whole = [(at, "stdout", 0, byte) for at, byte in enumerate(data)]

    assert marked(recalled(place, "start")) == whole
    offset = min(offset, len(data))
    assert marked(recalled(place, f"offset:{offset}")) == whole[offset:]
    lines = tail(data, count)
    assert marked(recalled(place, f"tail:{count}")) == whole[len(data) - len(lines) :]


def test_a_large_raw_log_is_read_piece_by_piece(place) -> None:
    """No event is larger than a message may be."""
    data = bytes(range(256)) * 4096
    keep(place, data, form="raw")
    outputs = recalled(place, "start")

    assert b"".join(output.data for output in outputs) == data
    assert max(len(output.data) for output in outputs) <= 256 * 1024


# What is not asked for, and what is not there


@pytest.mark.parametrize(("since", "told"), [("live", ENDS), ("none", ENDS[2:])])
def test_live_and_none_need_no_log(place, since, told) -> None:
    """Nothing will come any more; the record alone is told, and who looks live hears the ends."""
    (Path(place.path) / "state.json").write_text(json.dumps({"logs": []}))

    assert list(recall(place, since)) == told


def test_without_a_log_there_is_no_past(place) -> None:
    """The words name the option that is the reason."""
    (Path(place.path) / "state.json").write_text(json.dumps({"logs": []}))
    with pytest.raises(UsageError, match="--log none"):
        list(recall(place, "start"))


def test_a_log_that_is_gone_is_named(place) -> None:
    """Somebody has removed it."""
    keep(place, b"")
    (Path(place.path) / "container.log").unlink()
    with pytest.raises(UsageError, match=r"container\.log: it is gone"):
        list(recall(place, "tail:5"))


def test_a_log_that_was_made_shorter_is_empty(place) -> None:
    """Rotated away, or cut by hand: what is left is told, and nothing is made up."""
    keep(place, b"short", start=1000)

    assert recalled(place, "start") == []


def test_without_an_exit_record_nothing_is_told(tmp_path) -> None:
    """A shim that vanished without a trace must not look like a quiet container."""
    place = Place(str(tmp_path), "web")
    Path(place.path).mkdir()
    with pytest.raises(UsageError, match="no exit record"):
        list(recall(place, "start"))


def test_an_origin_that_means_nothing_is_refused(place) -> None:
    """As the shim would have refused it."""
    keep(place, b"")
    with pytest.raises(Refused, match="none of start, live"):
        list(recall(place, "yesterday"))
