"""Log text is read back exactly, whoever wrote it, and what is none is said to be none."""

import json
import re
from itertools import pairwise

import pytest
from history.reference import (
    NOW,
    READS,
    RECORDS,
    Read,
    Record,
    records_of,
    truth_of,
    write,
    write_gap,
)
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.asciicast import CastLines
from attachd.state.loglines import FORMATS
from attachd.state.logparse import (
    GRAMMARS,
    Corrupt,
    Hole,
    Item,
    Piece,
    output_in,
    parse_cri,
    parse_json,
)
from attachd.state.ring import STDERR, STDOUT
from attachd.state.times import parse_rfc3339

TIME = "2024-05-01T12:00:00.000000000Z"
PREFIX = f"{TIME} stdout F ".encode()

with_lines = pytest.mark.parametrize("form", ["cri", "json-file", "shimmy"])
every_form = pytest.mark.parametrize("form", list(GRAMMARS))


def flat(items: list[Item]) -> list[object]:
    """Return every byte of output by itself, and all else as it is."""
    out: list[object] = []
    for item in items:
        is_piece = isinstance(item, Piece)
        out += [(*item[:2], byte) for byte in item.data] if is_piece else [item]
    return out


def parse(form: str, text: bytes) -> list[Item]:
    """Return all items; adjacent pieces must differ, and none may be empty."""
    items = list(GRAMMARS[form].parse(text))
    for one, other in pairwise(items):
        if isinstance(one, Piece) and isinstance(other, Piece):
            assert one[:2] != other[:2]
    assert all(item.data for item in items if isinstance(item, Piece))
    return items


# What the contract says


@given(reads=READS, longest=st.integers(1, 12))
def test_the_reference_itself_loses_nothing(reads, longest) -> None:
    """Records are the output in the order in which it was read."""
    records = records_of(reads, longest)

    assert b"".join(r.data for r in records) == b"".join(r.data for r in reads)


@every_form
@given(records=RECORDS, data=st.data())
def test_what_is_written_is_read_back(form, records, data) -> None:
    """Every byte with its stream and time, wherever the text is cut between lines."""
    lines = [write(form, record) for record in records]
    cut = data.draw(st.integers(0, len(lines)))
    items = parse(form, b"".join(lines[:cut])) + parse(form, b"".join(lines[cut:]))

    assert flat(items) == truth_of(form, records)


@with_lines
@given(records=RECORDS, start=st.integers(0, 1 << 62), size=st.integers(0, (1 << 62) - 1))
def test_a_gap_stands_where_it_was(form, records, start, size) -> None:
    """It has no output, and parts pieces of one time."""
    text = b"".join(write(form, record) for record in records)
    items = parse(form, text + write_gap(form, start, start + size) + text)
    truth = truth_of(form, records)

    assert flat(items) == [*truth, Hole(start, start + size), *truth]


@with_lines
@given(records=RECORDS.filter(bool), data=st.data())
def test_a_last_line_without_its_end_is_left_out(form, records, data) -> None:
    """The reader holds it back, or it was cut off: nobody can know what it would have said."""
    lines = [write(form, record) for record in records]
    lost = data.draw(st.integers(1, len(lines[-1])))

    assert flat(parse(form, b"".join(lines)[:-lost])) == truth_of(form, records[:-1])


@with_lines
def test_lines_of_one_read_are_one_piece(form) -> None:
    """Also when one of them was too long for one record."""
    reads = [Read(STDOUT, NOW, b"a\nb\n" + b"x" * 40_000 + b"\n\nc")]
    text = b"".join(write(form, record) for record in records_of(reads))

    assert parse(form, text) == [Piece(*reads[0][:3])]


@with_lines
def test_nothing_says_nothing(form) -> None:
    """No text is no piece, and a piece without text is none."""
    nothing = write(form, Record(STDOUT, NOW, b""))

    assert parse(form, b"") == parse(form, nothing) == parse(form, nothing * 3) == []


@given(text=st.binary())
def test_raw_is_what_it_is(text) -> None:
    """All of it is stdout's, without a time, newline or not."""
    assert parse("raw", text) == ([Piece(STDOUT, 0, text)] if text else [])


def test_only_raw_may_be_cut_anywhere() -> None:
    """A reader asks the grammar and not for the name."""
    assert {name: grammar.has_lines for name, grammar in GRAMMARS.items()} == {
        "cri": True,
        "json-file": True,
        "raw": False,
        "shimmy": True,
    }


# What others write


def cri_model(text: bytes) -> list[object]:
    """Read lines one at a time, by a pattern."""
    out: list[object] = []
    for line in text.split(b"\n")[:-1]:
        found = re.fullmatch(
            rb"([^ ]*) (stdout|stderr) ([FP])((?::[^ ]*)?) (.*)", line, re.DOTALL
        )
        gap = re.fullmatch(rb":gap:([0-9]{1,18}):([0-9]{1,18})", found[4]) if found else None
        try:
            time = parse_rfc3339(found[1].decode() if found else "")
            is_gap = found[3] == b"F" and re.match(b":gap(:|$)", found[4])
            if is_gap and not (gap and int(gap[1]) <= int(gap[2])):
                raise ValueError
        except ValueError:
            out.append(Corrupt(max(0, len(line) + 1 - len(PREFIX))))
            continue
        if is_gap:
            out.append(Hole(int(gap[1]), int(gap[2])))
        else:
            data = found[5] + b"\n" * (found[3] == b"F")
            out += [(STDOUT if found[2] == b"stdout" else STDERR, time, b) for b in data]
    return out


def almost(*choices: str) -> st.SearchStrategy[str]:
    """Mostly the first choice."""
    return st.sampled_from([choices[0]] * 6 + list(choices))


CRI_LINES = st.builds(
    "{}{}{}{}{}{}{}{}{}".format,
    almost("2024-05-01T12:00:00", "2024-99-01T12:00:00", "2024.05-01T12:00:00", "", "\xff"),
    almost(".", "", ".5."),
    almost("000000000", "000000001", "00000000x", "0_0000000", "123", ""),
    almost("Z", "+02:00", "", "z"),
    almost(" ", "  ", "\n", "\t"),
    almost("stdout", "stderr", "stdlog", ""),
    almost(" ", ""),
    almost(
        "F ", "P ", "F", "X ", "F:x ", "P:x:y ", "F:gap:3:5 ", "F:gap:5:3 ", "F:gap ", "FF "
    ),
    almost("text\n", "\n", " \n", f"{TIME} stdout F x\n", "a\r\0b\n"),
).map(lambda line: line.encode("latin-1"))


@given(lines=st.lists(CRI_LINES, max_size=12))
def test_any_cri_text_is_read_as_line_by_line(lines) -> None:
    """Whatever is quick for lines that begin alike is right for those that nearly do."""
    text = b"".join(lines)

    assert flat(parse("cri", text)) == cri_model(text)


@given(text=st.binary())
def test_any_bytes_are_read_as_something(text) -> None:
    """No text is an error: what is no record is a corrupt line, one for each."""
    items = parse("json-file", text)

    assert flat(parse("cri", text)) == cri_model(text)
    assert len(items) == text.count(b"\n")


@pytest.mark.parametrize(
    ("line", "stream", "time", "data"),
    [
        (b"2024-05-01T14:00:00+02:00 stdout F text\n", STDOUT, NOW, b"text\n"),
        (b"2024-05-01T12:00:00.5Z stderr P text\n", STDERR, NOW + 500_000_000, b"text"),
        (b"2024-05-01T12:00:00Z stdout P:x:1 a b\n", STDOUT, NOW, b"a b"),
        (PREFIX[:-1] + b":later text\n", STDOUT, NOW, b"text\n"),
        (PREFIX[:-2] + b"P:gap:1:2 text\n", STDOUT, NOW, b"text"),
    ],
)
def test_other_programs_write_other_times_and_tags(line, stream, time, data) -> None:
    """Any offset from UTC, any number of digits; tags that come to be later are passed over."""
    assert parse("cri", line) == [Piece(stream, time, data)]


@pytest.mark.parametrize("gap", ["", ":1", ":2:1", ":-1:2", ":1:2:3", ":a:b", f":1:{1 << 63}"])
def test_a_gap_that_is_none_is_a_corrupt_line(gap) -> None:
    """Its text is attachd's and never output; it stood for about as much as it is long."""
    line = f"{TIME} stderr F:gap{gap} 12345".encode()

    assert parse("cri", line + b"\n") == [Corrupt(len(line) + 1 - len(PREFIX))]


def json_line(**fields: object) -> bytes:
    """Return a record with some fields changed; None leaves one out."""
    record = {"log": "x\n", "stream": "stdout", "time": TIME} | fields
    return json.dumps({k: v for k, v in record.items() if v is not None}).encode()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"null",
        b"[" * 100_000,
        b'"\xff"',
        b"9" * 5000,
        b"{" + b"\0" * 40,
        b'"{}"',
        b"[1]",
        *(json_line(**{key: None}) for key in ("log", "stream", "time")),
        json_line(log=5),
        json_line(log="\ud800"),
        json_line(stream="stdlog"),
        json_line(stream=["stdout"]),
        json_line(time="noon"),
        json_line(time=5),
        json_line(raw="!"),
        json_line(raw=5),
        json_line(gap=[1]),
        json_line(gap=[2, 1]),
        json_line(gap=[True, 2]),
        json_line(gap=[1, 2.0]),
        json_line(gap=[1, 1 << 63]),
        json_line(gap="ab"),
        json_line(gap={}),
    ],
    ids=lambda line: line[-60:].decode(errors="replace") or "empty",
)
def test_json_that_is_no_record_is_a_corrupt_line(line) -> None:
    """And what stands around it is read."""
    good = json_line() + b"\n"
    around = len(json_line().replace(b": ", b":").replace(b", ", b",")) - len("x\\n")
    corrupt = Corrupt(max(0, len(line) - around - 1))
    piece = Piece(STDOUT, NOW, b"x\n")

    assert list(parse_json(good + line + b"\n" + good)) == [piece, corrupt, piece]


def test_the_estimate_is_exact_for_a_plain_line() -> None:
    """A record that lost a letter of its stream stood for what its text is."""
    for line, parser in (
        (PREFIX.replace(b"stdout", b"stdouX") + b"text\n", parse_cri),
        (b'{"log":"text\\n","stream":"stdouX","time":"%s"}\n' % TIME.encode(), parse_json),
    ):
        assert list(parser(line)) == [Corrupt(5)]


def test_docker_writes_with_other_keys_and_no_raw() -> None:
    """attrs are its labels; U+FFFD stays what it is."""
    line = json_line(attrs={"tag": "x"}, log="\ufffd\n")

    assert parse("json-file", line + b"\n") == [Piece(STDOUT, NOW, "\ufffd\n".encode())]


@pytest.mark.parametrize("form", [*GRAMMARS, "asciicast"])
def test_how_much_output_a_text_stands_for(form) -> None:
    """Gaps stand for none; of a recording it is known where nothing had to be replaced."""
    lines = CastLines() if form == "asciicast" else FORMATS[form]()
    text = lines.feed(STDOUT, 0, NOW, b"one\rtwo") + lines.feed(STDERR, 7, NOW, b"three")
    text += lines.flush() + (lines.gap(12, 99, NOW, "no room") or b"")

    assert output_in(form, text) == 12
    assert output_in(form, b"") == 0
