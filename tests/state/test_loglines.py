"""CRI text gives back the exact bytes, however output was cut."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from attachd.state import loglines
from attachd.state.loglines import FORMATS, MAX_LINE, CriLines, RawLines
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


def parse(text: bytes) -> dict[int, bytes]:
    """Return each stream's bytes, by the rule of the format."""
    streams = {STDOUT: b"", STDERR: b""}
    for line in text.split(b"\n")[:-1]:
        _, name, tag, rest = line.split(b" ", 3)
        stream = STDOUT if name == b"stdout" else STDERR
        streams[stream] += rest + (b"\n" if tag == b"F" else b"")
        assert len(rest) <= MAX_LINE
    return streams


@given(pieces)
def test_joining_the_texts_gives_back_the_bytes(script) -> None:
    """Over cuts, streams, flushes, long lines, NUL and what is not UTF-8."""
    lines, text, offset = CriLines(), b"", 0
    expected = {STDOUT: b"", STDERR: b""}
    for stream, token, flush in script:
        data = build(token)
        text += lines.feed(stream, offset, 1, data)
        expected[stream] += data
        offset += len(data)
        if flush:
            text += lines.flush(stream)
            assert lines.open_start(stream) is None
    text += lines.flush(STDOUT) + lines.flush(STDERR)
    assert parse(text) == expected


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
    lines, offset, streams = CriLines(), 0, {STDOUT: [], STDERR: []}
    for stream, token, _ in script:
        data = build(token)
        lines.feed(stream, offset, 1, data)
        streams[stream] += [(offset + i, data[i : i + 1]) for i in range(len(data))]
        offset += len(data)
    for stream, held in streams.items():
        start = lines.open_start(stream)
        rest = b"".join(b for at, b in held if start is not None and at >= start)
        successor = CriLines()
        assert successor.feed(stream, start or 0, 1, rest) == b""
        assert successor.flush(stream) == lines.flush(stream)


def test_a_line_of_1_mb_is_cut_at_16_kib() -> None:
    """All pieces but the last are P."""
    text = CriLines().feed(STDOUT, 0, 1, b"x" * 1_000_000 + b"\n")
    tags = [line.split(b" ", 3)[2] for line in text.splitlines()]
    assert tags == [b"P"] * (1_000_000 // MAX_LINE) + [b"F"]


def test_raw_is_raw() -> None:
    """Nothing is added, nothing is held back."""
    raw = RawLines()
    assert raw.feed(STDERR, 0, 1, b"a\nb") == b"a\nb"
    assert raw.open_start(STDERR) is None
    assert raw.flush(STDERR) == b""


class ByteByByte:
    """The same format without a thought for speed: one byte after the other."""

    def __init__(self) -> None:
        self.open: dict[int, list[tuple[int, int, int]]] = {s: [] for s in STREAMS}

    def feed(self, stream: int, offset: int, time: int, data: bytes) -> bytes:
        """Add each byte with its own offset and time."""
        text, held = b"", self.open[stream]
        for at, byte in enumerate(data, offset):
            if byte == ord("\n"):
                text += self.piece(stream, "F", held[0][1] if held else time)
            else:
                if len(held) == loglines.MAX_LINE:
                    text += self.piece(stream, "P", held[0][1])
                held.append((byte, time, at))
        return text

    def flush(self, stream: int) -> bytes:
        """Let the open line go."""
        held = self.open[stream]
        return self.piece(stream, "P", held[0][1]) if held else b""

    def open_start(self, stream: int) -> int | None:
        """Return where the open line's first byte is."""
        held = self.open[stream]
        return held[0][2] if held else None

    def piece(self, stream: int, tag: str, time: int) -> bytes:
        """Return one line of text."""
        body = bytes(byte for byte, _, _ in self.open[stream])
        self.open[stream].clear()
        return f"{rfc3339(time)} {STREAM_NAMES[stream]} {tag} ".encode() + body + b"\n"


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
                assert lines.flush(stream) == model.flush(stream)
            for either in STREAMS:
                assert lines.open_start(either) == model.open_start(either)


@given(
    lengths=st.lists(st.integers(MAX_LINE - 2, MAX_LINE + 2) | st.integers(0, 9), max_size=5),
    cuts=st.lists(st.integers(0, 6 * MAX_LINE), max_size=8),
)
def test_long_lines_do_not_depend_on_cuts_either(lengths, cuts) -> None:
    """Around the limit, where P begins, the text is the same for every cutting."""
    data = b"\n".join(b"x" * length for length in lengths)
    whole = CriLines()
    expected = whole.feed(STDOUT, 0, 1, data) + whole.flush(STDOUT)
    lines, text, begin = CriLines(), b"", 0
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        text += lines.feed(STDOUT, begin, 1, data[begin:end])
        begin = end
    assert text + lines.flush(STDOUT) == expected


def test_formats_have_the_names_of_the_option() -> None:
    """``--log cri:PATH`` and ``--log raw:PATH``."""
    assert {"cri": CriLines, "raw": RawLines} == FORMATS
