"""CRI text gives back the exact bytes, however output was cut."""

import base64
import json
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.state import loglines
from attachd.state.loglines import (
    FORMATS,
    MAX_LINE,
    CriLines,
    JsonLines,
    RawLines,
    ShimmyLines,
)
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES, STREAMS
from attachd.state.times import rfc3339

#: A short text as it is, or a number: that many bytes without a newline.
tokens = st.one_of(
    st.binary(max_size=20),
    st.lists(st.sampled_from([b"\n", b"a", b"\0\xff"]), max_size=12).map(b"".join),
    st.integers(MAX_LINE - 2, 3 * MAX_LINE),
    st.just("lines"),
)
pieces = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), tokens, st.booleans()), max_size=12
)


def build(token: bytes | int | str) -> bytes:
    """Return the bytes of a token."""
    if isinstance(token, int):
        return b"x" * token
    if token == "lines":
        return b"y" * MAX_LINE + b"\n" + b"z" * (MAX_LINE + 1) + b"\nshort\n"
    assert isinstance(token, bytes)
    return token


def parse_cri(text: bytes) -> list[tuple[int, int]]:
    """Return (stream, byte) of all output in the log's order, by the rule of the format."""
    output: list[tuple[int, int]] = []
    for line in text.split(b"\n")[:-1]:
        _, name, tag, rest = line.split(b" ", 3)
        stream = STDOUT if name == b"stdout" else STDERR
        output += [(stream, byte) for byte in rest + (b"\n" if tag == b"F" else b"")]
        assert len(rest) <= MAX_LINE
    return output


def parse_shimmy(text: bytes) -> list[tuple[int, int]]:
    """The same for shimmy."""
    output: list[tuple[int, int]] = []
    for line in text.split(b"\n")[:-1]:
        time, name, rest = line.split(b" ", 2)
        stream = STDOUT if name == b"stdout" else STDERR
        output += [(stream, byte) for byte in rest + b"\n" * time.endswith(b"+00:00")]
        assert len(rest) <= MAX_LINE
    return output


def parse_json(text: bytes) -> list[tuple[int, int]]:
    """The same for json-file."""
    output: list[tuple[int, int]] = []
    for line in text.split(b"\n")[:-1]:
        record = json.loads(line)
        data = record["log"].encode()
        if "raw" in record:
            data = base64.b64decode(record["raw"])
            assert record["log"] == data.decode(errors="replace")
        stream = STDOUT if record["stream"] == "stdout" else STDERR
        assert record["time"] == rfc3339(1)
        assert len(data.removesuffix(b"\n")) <= MAX_LINE
        output += [(stream, byte) for byte in data]
    return output


@pytest.mark.parametrize(
    ("form", "parse"),
    [(CriLines, parse_cri), (JsonLines, parse_json), (ShimmyLines, parse_shimmy)],
    ids=["cri", "json", "shimmy"],
)
@given(script=pieces)
def test_a_log_gives_back_all_output_in_its_order(form, parse, script) -> None:
    """Over cuts, streams, flushes, long lines, NUL and what is not UTF-8."""
    lines, text, offset = form(), b"", 0
    expected: list[tuple[int, int]] = []
    for stream, token, flush in script:
        data = build(token)
        text += lines.feed(stream, offset, 1, data)
        expected += [(stream, byte) for byte in data]
        offset += len(data)
        if flush:
            text += lines.flush()
            assert lines.open_start is None
    assert parse(text + lines.flush()) == expected


@given(st.text(max_size=30))
def test_text_is_readable_in_a_json_log_whatever_it_says(text) -> None:
    """Quotes, backslashes, NULs and emoji: what json.loads gives back is what was said."""
    said = (text.replace("\n", "") + "\n").encode()
    record = json.loads(JsonLines().feed(STDERR, 0, 1, said))

    assert record == {"log": said.decode(), "stream": "stderr", "time": rfc3339(1)}


def test_a_long_json_line_is_not_cut_inside_of_a_character() -> None:
    """So every piece is text by itself, and none needs its raw bytes."""
    said = "x" + "\N{SNOWMAN}" * 20_000 + "\n"
    records = [
        json.loads(line) for line in JsonLines().feed(1, 0, 1, said.encode()).splitlines()
    ]

    assert "".join(record["log"] for record in records) == said
    assert not any("raw" in record for record in records)
    assert len(records) == 4


def test_gaps_are_records_in_their_place() -> None:
    """From which offset to which, for programs and for people; raw logs have none."""
    cri = CriLines().gap(5, 105, 1, "No space left on device")
    told = b"attachd: 100 bytes of output are missing here: No space left on device"
    assert cri == rfc3339(1).encode() + b" stderr F:gap:5:105 " + told + b"\n"
    record = json.loads(JsonLines().gap(5, 105, 1, "No space left on device") or b"")
    assert record == {
        "log": told.decode() + "\n", "stream": "stderr", "time": rfc3339(1), "gap": [5, 105],
    }  # fmt: skip
    assert RawLines().gap(5, 105, 1, "") is None
    shimmys = ShimmyLines().gap(5, 105, 1, "No space left on device")
    time = rfc3339(1).replace("Z", "-00:00").encode()
    assert shimmys == time + b" stderr 5:105 " + told + b"\n"


def test_an_unfinished_line_is_known_also_to_a_successor() -> None:
    """Of each stream, until its newline comes: there a file must not end."""
    lines = CriLines()
    lines.feed(STDOUT, 0, 1, b"prompt")
    assert lines.unfinished == 0
    lines.feed(STDERR, 6, 1, b"warning\n")
    assert lines.unfinished == 1 << STDOUT
    successor = CriLines(lines.unfinished)
    successor.feed(STDERR, 14, 1, b"more\n")
    assert successor.unfinished == 1 << STDOUT
    successor.feed(STDOUT, 19, 1, b" ends\n")
    assert successor.unfinished == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_the_text_does_not_depend_on_how_reads_were_cut(data, cuts) -> None:
    """P comes from length or time, never from where a read ended."""
    whole = CriLines().feed(STDOUT, 0, 1, data)
    lines, text, begin = CriLines(), b"", 0
    for end in [*sorted(min(c, len(data)) for c in cuts), len(data)]:
        text += lines.feed(STDOUT, begin, 1, data[begin:end])
        begin = end
    assert text == whole
    assert b"stdout P" not in text


@given(pieces)
def test_the_open_line_begins_where_it_says(script) -> None:
    """A successor that feeds the same bytes from there is in the same state."""
    lines, offset, output = CriLines(), 0, b""
    for stream, token, _ in script:
        data = build(token)
        lines.feed(stream, offset, 1, data)
        output += data
        offset += len(data)
        last = stream if data else None
    start = lines.open_start
    if start is not None and last is not None:
        successor = CriLines(lines.unfinished)
        assert successor.feed(last, start, 1, output[start:]) == b""
        assert successor.open_start == start
        assert successor.flush() == lines.flush()


def test_a_line_of_1_mb_is_cut_at_16_kib() -> None:
    """All pieces but the last are P."""
    text = CriLines().feed(STDOUT, 0, 1, b"x" * 1_000_000 + b"\n")
    tags = [line.split(b" ", 3)[2] for line in text.splitlines()]
    assert tags == [b"P"] * (1_000_000 // MAX_LINE) + [b"F"]


def test_raw_is_raw() -> None:
    """Nothing is added, nothing is held back."""
    raw = RawLines()
    assert raw.feed(STDERR, 0, 1, b"a\nb") == b"a\nb"
    assert raw.unfinished
    raw.feed(STDERR, 3, 1, b"c\n")
    assert not raw.unfinished
    assert raw.open_start is None
    assert raw.flush() == b""


class ByteByByte:
    """The same format without a thought for speed: one byte after the other."""

    def __init__(self) -> None:
        self.stream = STDOUT
        self.held: list[tuple[int, int, int]] = []

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Add each byte with its own offset and time."""
        text = b""
        if stream != self.stream:
            text, self.stream = self.flush(), stream
        for at, byte in enumerate(data, offset):
            if byte == ord("\n"):
                text += self.piece("F", self.held[0][1] if self.held else time)
            else:
                if len(self.held) == loglines.MAX_LINE:
                    text += self.piece("P", self.held[0][1])
                self.held.append((byte, time, at))
        return text

    def flush(self) -> bytes:
        """Let the open line go."""
        return self.piece("P", self.held[0][1]) if self.held else b""

    @property
    def open_start(self) -> int | None:
        """Return where the open line's first byte is."""
        return self.held[0][2] if self.held else None

    def piece(self, tag: str, time: int) -> bytes:
        """Return one line of text."""
        body = bytes(byte for byte, _, _ in self.held)
        self.held.clear()
        return f"{rfc3339(time)} {STREAM_NAMES[self.stream]} {tag} ".encode() + body + b"\n"


short_tokens = st.one_of(
    st.binary(max_size=6),
    st.lists(st.sampled_from([b"\n", b"a", b"\0\xff"]), max_size=12).map(b"".join),
    st.integers(3, 20).map(lambda length: b"x" * length),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(STREAMS), short_tokens, st.sampled_from([False] * 7 + [True])
        ),
        max_size=20,
    )
)
def test_every_piece_has_the_time_of_its_first_byte(script) -> None:
    """Texts, tags, times and open starts are those of counting byte by byte."""
    with patch.object(loglines, "MAX_LINE", 5):
        lines, model, offset = CriLines(), ByteByByte(), 0
        for when, (stream, data, flush) in enumerate(script):
            text = lines.feed(stream, offset, when, data)
            assert text == model.feed(stream, offset, when, data)
            offset += len(data)
            if flush:
                assert lines.flush() == model.flush()
            assert lines.open_start == model.open_start


@given(
    lengths=st.lists(st.integers(MAX_LINE - 2, MAX_LINE + 2) | st.integers(0, 9), max_size=5),
    cuts=st.lists(st.integers(0, 6 * MAX_LINE), max_size=8),
)
def test_long_lines_do_not_depend_on_cuts_either(lengths, cuts) -> None:
    """Around the limit, where P begins, the text is the same for every cutting."""
    data = b"\n".join(b"x" * length for length in lengths)
    whole = CriLines()
    expected = whole.feed(STDOUT, 0, 1, data) + whole.flush()
    lines, text, begin = CriLines(), b"", 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        text += lines.feed(STDOUT, begin, 1, data[begin:end])
        begin = end
    assert text + lines.flush() == expected


def test_formats_have_the_names_of_the_option() -> None:
    """``--log cri:PATH``, ``--log json-file:PATH`` and ``--log raw:PATH``; and a door's."""
    named = {"cri": CriLines, "json-file": JsonLines, "raw": RawLines}

    assert named | {"shimmy": ShimmyLines} == FORMATS


def test_a_shimmy_log_has_three_fields_as_conmans_tests_read_it() -> None:
    """Time, stream and the line, an empty one too, in the zone that shimmy writes."""
    text = ShimmyLines().feed(STDERR, 0, 1, b"stderr line\n\n")
    time = rfc3339(1).replace("Z", "+00:00")

    assert text.decode().split("\n") == [f"{time} stderr stderr line", f"{time} stderr ", ""]
