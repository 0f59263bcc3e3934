"""A recording has all output at its times, however it was cut and whoever went on with it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from attachd.state import asciicast
from attachd.state.asciicast import CastLines, Characters, base_of, event, header
from attachd.state.ring import STDERR, STDOUT, STREAMS
from attachd.state.sizes import DEFAULT_SIZE, Size
from attachd.state.timeline import Change, Timeline

SECOND = 1_000_000_000

texts = st.text(
    st.sampled_from('a\n\r\0\x1b\x7f\x9f"\\é€\N{SNOWMAN}\N{GRINNING FACE}'), max_size=12
)
datas = st.one_of(texts.map(str.encode), st.binary(max_size=6))
records = st.lists(st.tuples(st.sampled_from(STREAMS), datas.filter(bool)), max_size=12)


def events(text: bytes) -> list[list]:
    """Return the events in a text without a header."""
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


def output(text: bytes) -> str:
    """Return all output in it."""
    return "".join(data for _, code, data in events(text) if code == "o")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces."""
    ends = [*sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in zip([0, *ends], ends, strict=False) if a < b]


def test_a_header_is_what_the_format_wants() -> None:
    """Version, size and whole seconds; more where it is known."""
    line = header(Size(120, 40), 1_500_000_000_999_999_999, {"title": "wéb"})

    assert json.loads(line) == {
        "version": 2, "width": 120, "height": 40, "timestamp": 1_500_000_000, "title": "wéb",
    }  # fmt: skip
    assert line.endswith(b"\n")
    assert base_of(line) == 1_500_000_000 * SECOND


def test_what_is_no_header_has_no_beginning() -> None:
    """A successor that finds anything else in the file knows that it knows nothing."""
    for line in (b"", b"[]", b"{", b"\xff", b'{"timestamp": "x"}', b"{}", b"[" * 9999):
        assert base_of(line) is None


@given(st.integers(0, 10**20), st.sampled_from("oirm"), st.text(max_size=20))
def test_an_event_is_one_line_of_json(time, code, data) -> None:
    """With microseconds, and no control character in it."""
    line = event(time, code, data)
    seconds, *rest = json.loads(line)

    assert rest == [code, data]
    assert abs(seconds - time / SECOND) <= 1e-6 + seconds * 1e-12
    assert min(line[:-1]) >= 0x20
    assert line[-1:] == b"\n"


def test_time_does_not_begin_before_the_beginning() -> None:
    """A clock may have been set back."""
    assert event(-5, "o", "") == b'[0.000000, "o", ""]\n'


@given(texts, st.lists(st.integers(0, 40), max_size=8), st.booleans())
def test_characters_are_joined_however_they_were_cut(text, places, returns) -> None:
    """And a newline starts a line where nothing else has it do so."""
    characters, found, offset = Characters(returns=returns), "", 0
    for piece in cut(text.encode(), places):
        found += characters.feed(offset, piece)
        offset += len(piece)
        held = text.encode()[:offset].decode(errors="ignore").encode()
        assert characters.start == (None if len(held) == offset else len(held))

    assert found == (text.replace("\n", "\r\n") if returns else text)
    assert characters.flush() == ""


@given(st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_what_is_no_utf8_is_replaced_as_ever(data, places) -> None:
    """The same for every cutting."""
    characters, found, offset = Characters(returns=False), "", 0
    for piece in cut(data, places):
        found += characters.feed(offset, piece)
        offset += len(piece)

    assert found + characters.flush() == data.decode(errors="replace")
    assert characters.start is None


def model(script: list[tuple[int, bytes]], *, returns: bool) -> dict[int, str]:
    """Return each stream's text."""
    joined = {s: b"".join(d for stream, d in script if stream == s) for s in STREAMS}
    found = {stream: data.decode(errors="replace") for stream, data in joined.items()}
    return {s: t.replace("\n", "\r\n") if returns else t for s, t in found.items()}


def feed(lines: CastLines, script: list[tuple[int, bytes]], offset: int = 0) -> bytes:
    """Feed each record, a second after the one before."""
    text = b""
    for when, (stream, data) in enumerate(script, 5):
        text += lines.feed(stream, offset, when * SECOND, data)
        offset += len(data)
    return text


@given(records)
def test_a_log_has_the_text_of_both_streams(script) -> None:
    """A character is joined also where the other stream speaks in its middle."""
    lines = CastLines()
    text = feed(lines, script) + lines.flush()
    for stream in STREAMS:
        alone = [(s, d) for s, d in script if s == stream]
        one = CastLines()
        assert output(feed(one, alone) + one.flush()) == model(script, returns=True)[stream]
    assert sorted(output(text)) == sorted("".join(model(script, returns=True).values()))
    assert lines.open_start is None


@given(st.lists(datas.filter(bool), max_size=12))
def test_a_terminals_output_is_as_it_was(script) -> None:
    """Its driver has started the lines."""
    timeline = Timeline([Change(1, 0, 0, Size(90, 30))])
    lines = CastLines(timeline)
    text = feed(lines, [(STDOUT, data) for data in script]) + lines.flush()

    assert output(text) == b"".join(script).decode(errors="replace")


changes = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 300)), max_size=5)


def timeline_of(sizes: list[tuple[int, int]]) -> Timeline:
    """Return a timeline that begins with 80x24."""
    made = Timeline([Change(1, 0, 0, DEFAULT_SIZE)])
    for number, (offset, side) in enumerate(sorted(sizes)):
        made.note(offset, (number + 1) * SECOND // 2, Size(side, number + 1))
    return made


@given(script=records, sizes=changes, terminal=st.booleans(), stop=st.integers(0, 12))
def test_a_successor_writes_what_would_have_been_written(
    script, sizes, terminal, stop
) -> None:
    """From the offset of the open character on, with what was written thrown away."""
    script = [(STDOUT, data) for _, data in script] if terminal else script
    timeline = timeline_of(sizes) if terminal else None
    whole, lines, offset, parts, written = CastLines(timeline), CastLines(timeline), 0, [], b""
    expected = feed(whole, script) + whole.flush()
    for when, (stream, data) in enumerate(script, 5):
        if len(parts) == stop:
            begin = offset if lines.open_start is None else lines.open_start
            base = base_of(lines.opening(0)) if written else None
            lines = CastLines(timeline, base, begin)
            for its, at, then, old in parts:
                if at + len(old) > begin:
                    skipped = max(0, begin - at)
                    lines.feed(its, at + skipped, then, old[skipped:])
        parts.append((stream, offset, when * SECOND, data))
        written += lines.feed(*parts[-1])
        offset += len(data)

    assert written + lines.flush() == expected


@given(
    st.lists(datas.filter(bool), max_size=8), changes, st.lists(st.integers(0, 60), max_size=5)
)
def test_a_size_is_told_before_the_first_byte_that_came_after_it(
    script, sizes, places
) -> None:
    """In order with the output, however that was read."""
    timeline, data = timeline_of(sizes), b"".join(script)
    lines = CastLines(timeline)
    text = feed(lines, [(STDOUT, piece) for piece in cut(data, places)])
    opening = json.loads(lines.opening(0))
    size, shown = Size(opening["width"], opening["height"]), ""
    assert size == timeline.at(0).size if data else True
    for _, code, told in events(text):
        if code == "r":
            size = Size(*map(int, told.split("x")))
            continue
        for character in told:
            shown += character
            end = len(shown.encode())
            if data.decode(errors="replace").encode() == data:
                assert size == timeline.at(end - 1).size


def test_a_new_file_is_a_recording_of_its_own() -> None:
    """Its time begins anew, and so does its size."""
    timeline = timeline_of([(3, 100)])
    lines = CastLines(timeline)
    first = lines.feed(STDOUT, 0, 7 * SECOND + 500_000_000, b"abcde")
    assert [code for _, code, _ in events(first)] == ["o", "r", "o"]
    assert base_of(lines.opening(0)) == 7 * SECOND
    lines.begin_file()
    assert events(lines.feed(STDOUT, 5, 9 * SECOND, b"f")) == [[0.0, "o", "f"]]
    assert json.loads(lines.opening(0))["width"] == 100


def test_what_is_missing_is_a_marker() -> None:
    """With the offset, the count, and the reason; also where nothing else is in the file."""
    lines = CastLines()
    text = lines.gap(10, 30, 4 * SECOND + 1000, "No space left on device")

    assert text is not None
    assert events(text) == [
        [1e-6, "m", "gap: 20 bytes from offset 10: No space left on device"]
    ]
    assert base_of(lines.opening(99 * SECOND)) == 4 * SECOND


def test_half_a_character_is_written_only_at_the_end() -> None:
    """Both streams' halves, as what they are: no characters."""
    lines = CastLines()
    lines.feed(STDOUT, 0, SECOND, b"\xe2\x82")
    lines.feed(STDERR, 2, SECOND, b"x\xf0\x9f")
    assert lines.open_start == 0
    assert lines.is_patient
    assert output(lines.flush()) == "\ufffd\ufffd"


def test_a_rotated_file_that_only_ends_a_character_begins_now() -> None:
    """The time is never counted from 1970."""
    lines = CastLines()
    lines.feed(STDOUT, 0, 5 * SECOND, b"\xe2")
    lines.begin_file()
    assert events(lines.flush()) == [[0.0, "o", "\ufffd"]]


def test_formats_name() -> None:
    """As ``--log asciicast:PATH`` has it."""
    assert asciicast.FORMAT == "asciicast"
