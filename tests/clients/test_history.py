"""History: what the files of an ended container tell, against a model that knows no lines."""

import json
import re
from pathlib import Path

import pytest
from attachd_clients.history import read_log, recall
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


# The model


@given(lines=LOGS)
def test_a_log_gives_back_every_byte_with_its_stream_and_time(place, lines) -> None:
    """F ends a line, P does not; offsets count from 0 without a hole."""
    keep(place, b"".join(line.written for line in lines))

    assert marked(list(read_log(place))) == marked(recalled(place, "start")) == model(lines)


@given(lines=LOGS, offset=st.integers(0, 130))
def test_an_offset_begins_at_exactly_that_byte(place, lines, offset) -> None:
    """Inside a line, between two, or behind the last one."""
    keep(place, b"".join(line.written for line in lines))

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
def test_a_log_is_read_up_to_the_size_that_was_asked_for(place, lines, data) -> None:
    """What the shim writes meanwhile is told by the shim, and not twice."""
    count = data.draw(st.integers(0, len(lines)))
    written = b"before" + b"".join(line.written for line in lines[:count])
    keep(place, written + b"".join(line.written for line in lines[count:]), start=6)

    assert marked(list(read_log(place, len(written)))) == model(lines[:count])


@given(lines=LOGS, data=st.data())
def test_corrupt_lines_are_skipped(place, lines, data) -> None:
    """What is not a line of the format hides none of those that are."""
    written = []
    for line in lines:
        written += [*data.draw(st.lists(st.sampled_from(CORRUPT), max_size=2)), line.written]
    keep(place, b"".join(written))

    assert marked(recalled(place, "start")) == model(lines)


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

    assert marked(recalled(place, "start")) == model([good])


CHUNKS = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=20)), max_size=12
)


def write_cri(chunks: list[tuple[int, bytes]]) -> bytes:
    """Return the log that the shim writes for ``chunks``."""
    lines, written, offset = CriLines(), b"", 0
    for stream, data in chunks:
        written += lines.feed(stream, offset, SECOND, data)
        offset += len(data)
    return written + lines.flush(STDOUT) + lines.flush(STDERR)


@given(chunks=CHUNKS)
def test_what_the_shim_writes_is_read_back_for_each_stream(place, chunks) -> None:
    """The log writer and the reader agree, whatever the lines look like."""
    keep(place, write_cri(chunks))
    outputs = recalled(place, "start")
    for stream, name in STREAM_NAMES.items():
        told = b"".join(output.data for output in outputs if output.stream == name)

        assert told == b"".join(data for of, data in chunks if of == stream)


@given(data=st.lists(st.binary(max_size=20), max_size=8), offset=st.integers(0, 100))
def test_one_stream_has_the_same_offsets_in_the_log_as_it_had_in_the_shim(
    place, data, offset
) -> None:
    """So a client can go on from the log where it was when the shim went."""
    keep(place, write_cri([(STDOUT, chunk) for chunk in data]))
    outputs = recalled(place, f"offset:{offset}")

    assert b"".join(output.data for output in outputs) == b"".join(data)[offset:]


@pytest.mark.xfail(reason="a line that stays open is logged after what came behind it")
def test_two_streams_have_the_same_offsets_in_the_log_as_they_had_in_the_shim(place) -> None:
    """Also where a line of one stream was open while the other one wrote."""
    keep(place, write_cri([(STDOUT, b"ab"), (STDERR, b"x\n"), (STDOUT, b"c\n")]))
    told = [(o.offset, o.stream, o.data) for o in recalled(place, "offset:2")]

    assert told == [(2, "stderr", b"x\n"), (4, "stdout", b"c\n")]


# Raw logs


@given(data=st.binary(max_size=60), offset=st.integers(0, 70), count=st.integers(0, 9))
def test_a_raw_log_is_its_own_bytes(place, data, offset, count) -> None:
    """All told as stdout, without a time: nobody noted them."""
    keep(place, b"before" + data, form="raw", start=6)
    whole = [(at, "stdout", 0, byte) for at, byte in enumerate(data)]

    assert marked(recalled(place, "start")) == whole
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
    with pytest.raises(UsageError, match=r"container\.log: No such file"):
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
