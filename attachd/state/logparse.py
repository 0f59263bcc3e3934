"""Log text, read back: the text of a log file in, pieces of output and what is missing out.

The other direction of ``loglines``; docs/logs.md is the contract of both. A parser takes text
that ends at the end of a line (``raw``: any bytes) and keeps nothing from one call to the next.
It does not know offsets: whoever calls it counts.
"""

import base64
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

from attachd.state.asciicast import outputs
from attachd.state.ring import STDERR, STDOUT
from attachd.state.times import parse_rfc3339

#: Gaps are told in offsets of 64 bits; what is greater is a line that somebody has damaged.
_MAX_OFFSET = (1 << 63) - 1


class Piece(NamedTuple):
    """Output of one stream, read at one time; never empty."""

    stream: int  #: STDOUT or STDERR
    time: int  #: nanoseconds since the Unix epoch; 0 in a raw log, which has no times
    data: bytes


class Hole(NamedTuple):
    """A gap record: output from offset ``start`` up to ``end`` is not in the log."""

    start: int
    end: int


class Corrupt(NamedTuple):
    """A line that is not a record; ``size`` is about how many bytes of output it stood for."""

    size: int


Item = Piece | Hole | Corrupt


class Grammar(NamedTuple):
    """How a format is read."""

    parse: Callable[[bytes], Iterator[Item]]
    has_lines: bool  #: text must be cut at the ends of lines; otherwise anywhere


def _merged(items: Iterator[Item]) -> Iterator[Item]:
    """Join adjacent pieces of one stream and time; leave out empty ones."""
    stream, time, parts = 0, 0, list[bytes]()
    for item in items:
        if type(item) is Piece and item.stream == stream and item.time == time:
            parts.append(item.data)
            continue
        if data := b"".join(parts):
            yield Piece(stream, time, data)
        if type(item) is Piece:
            stream, time, parts = item.stream, item.time, [item.data]
        else:
            stream, parts = 0, []
            yield item
    if data := b"".join(parts):
        yield Piece(stream, time, data)


def _hole(start: int, end: int) -> Hole:
    if not 0 <= start <= end <= _MAX_OFFSET:
        raise ValueError(f"no gap is from {start} to {end}")
    return Hole(start, end)


# cri: a prefix as the shim writes it is "2024-05-01T12:00:00.", nine digits, a key of _KINDS.

_SECOND, _DIGITS, _PREFIX = 20, 29, 40

_KINDS = {
    b"Z stdout F ": (STDOUT, b"\n"),
    b"Z stderr F ": (STDERR, b"\n"),
    b"Z stdout P ": (STDOUT, b""),
    b"Z stderr P ": (STDERR, b""),
}
_STREAMS = {b"stdout": STDOUT, b"stderr": STDERR}
_ENDS = {b"F": b"\n", b"P": b""}


def parse_cri(text: bytes) -> Iterator[Item]:
    """Yield what whole lines of ``text`` say; adjacent ones of one stream and time are one piece.

    What follows its last newline is left out.
    """
    return _merged(_cri_items(text))


def _runs(text: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
    """Yield the lines that begin alike, together: as those do that come from one read."""
    prefix, run = b"", list[bytes]()
    for line in text.split(b"\n")[:-1]:
        if line[:_PREFIX] == prefix:
            run.append(line)
            continue
        if run:
            yield prefix, run
        prefix, run = line[:_PREFIX], [line]
    if run:
        yield prefix, run


def _cri_items(text: bytes) -> Iterator[Item]:
    known, second = b"", 0
    for prefix, run in _runs(text):
        kind = _KINDS.get(prefix[_DIGITS:])
        digits = prefix[_SECOND:_DIGITS]
        if kind is None or not digits.isdigit():
            yield from map(_cri_item, run)
            continue
        if prefix[:_SECOND] != known:
            try:
                second = _second(prefix[:_SECOND])
            except ValueError:
                yield from map(_cri_item, run)
                continue
            known = prefix[:_SECOND]
        stream, end = kind
        data = end.join([line[_PREFIX:] for line in run]) + end
        yield Piece(stream, second + int(digits), data)


def _second(text: bytes) -> int:
    """Return the time of ``2024-05-01T12:00:00.``; raise ValueError for anything else."""
    if text.find(b".") != _SECOND - 1:
        raise ValueError(f"{text!r} is not a second")
    return parse_rfc3339(text.decode() + "0Z")


def _cri_item(line: bytes) -> Item:
    """Return what any one line says: other programs write times and tags of their own."""
    try:
        time, stream, tags, text = line.split(b" ", 3)
        tag, *more = tags.split(b":")
        piece = Piece(_STREAMS[stream], parse_rfc3339(time.decode()), text + _ENDS[tag])
        return _told_hole(more[1:]) if tag == b"F" and more[:1] == [b"gap"] else piece
    except (ValueError, KeyError, OverflowError):
        return Corrupt(max(0, len(line) + 1 - _PREFIX))


def _told_hole(bounds: list[bytes]) -> Hole:
    start, end = bounds
    if not (start.isdigit() and end.isdigit()):
        raise ValueError(f"{bounds!r:.80} is not a gap")
    return _hole(int(start), int(end))


# shimmy: a line's time ends in +00:00, a piece's in Z, a gap's in -00:00.

_SHIMMY_AROUND = len("2024-05-01T12:00:00.000000001+00:00 stdout ")

_SHIMMY_ENDS = {b"Z": b"", b"+00:00": b"\n"}


def parse_shimmy(text: bytes) -> Iterator[Item]:
    """Yield what whole lines of ``text`` say, as ``parse_cri`` does."""
    return _merged(map(_shimmy_item, text.split(b"\n")[:-1]))


def _shimmy_item(line: bytes) -> Item:
    try:
        time, stream, text = line.split(b" ", 2)
        if time.endswith(b"-00:00"):
            return _told_hole(text.split(b" ", 1)[0].split(b":"))
        end = _SHIMMY_ENDS[b"Z" if time.endswith(b"Z") else time[-6:]]
        return Piece(_STREAMS[stream], parse_rfc3339(time.decode()), text + end)
    except (ValueError, KeyError, OverflowError):
        return Corrupt(max(0, len(line) + 1 - _SHIMMY_AROUND))


# json-file

_NAMES = {"stdout": STDOUT, "stderr": STDERR}

#: What stands around a text; of a record that stands for a line and needs no escapes.
_JSON_AROUND = (
    len(r'{"log":"n","stream":"stdout","time":"2024-05-01T12:00:00.000000001Z"}') + 1
)


def parse_json(text: bytes) -> Iterator[Item]:
    """Yield what whole lines of ``text`` say, as ``parse_cri`` does."""
    return _merged(map(_json_item, text.split(b"\n")[:-1]))


def _json_item(line: bytes) -> Item:
    try:
        record: object = json.loads(line.decode())
        if not isinstance(record, dict):
            raise TypeError(f"{record!r:.80} is not an object")
        return _from_json(record)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Corrupt(max(0, len(line) + 1 - _JSON_AROUND))


def _from_json(record: dict[str, object]) -> Item:
    """Raise ValueError, KeyError or TypeError for what is not a record."""
    stream, time = _NAMES[_text(record["stream"])], parse_rfc3339(_text(record["time"]))
    log = _text(record["log"])
    if "gap" in record:
        return _json_hole(record["gap"])
    if "raw" in record:
        return Piece(stream, time, base64.b64decode(_text(record["raw"]), validate=True))
    return Piece(stream, time, log.encode())


def _json_hole(gap: object) -> Hole:
    if not isinstance(gap, list) or [type(bound) for bound in gap] != [int, int]:
        raise TypeError(f"{gap!r:.80} is not a gap")
    return _hole(*gap)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


# raw


def parse_raw(text: bytes) -> Iterator[Item]:
    """Yield ``text`` as it is: it does not tell streams apart, so all of it is stdout's."""
    if text:
        yield Piece(STDOUT, 0, text)


GRAMMARS = {
    "cri": Grammar(parse_cri, has_lines=True),
    "json-file": Grammar(parse_json, has_lines=True),
    "raw": Grammar(parse_raw, has_lines=False),
    "shimmy": Grammar(parse_shimmy, has_lines=True),
}


def output_in(form: str, text: bytes) -> int:
    """Return how many bytes of output whole lines of ``text`` stand for; of a recording, about."""
    if form in GRAMMARS:
        return sum(
            len(item.data) for item in GRAMMARS[form].parse(text) if type(item) is Piece
        )
    return sum(len(data.encode()) for data in outputs(text))
