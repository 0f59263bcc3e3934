"""What docs/logs.md says, written down a second time: slowly, byte by byte; and logs to read."""

import base64
import contextlib
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import strategies as st

from attachd.history.reading import Chunk, History, Missed
from attachd.history.segments import Segment, rotated_name
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES
from attachd.state.times import rfc3339

SECOND = 1_000_000_000
NOW = 1_714_564_800 * SECOND


class Read(NamedTuple):
    """Output that was read at once."""

    stream: int
    time: int
    data: bytes
    is_left: bool = False  #: nothing came for 150 ms after it


class Record(NamedTuple):
    """A line of a log, or a piece of one."""

    stream: int
    time: int
    data: bytes


#: (stream, time, byte) of each byte of output.
Truth = list[tuple[int, int, int]]


def records_of(reads: list[Read], longest: int = 16 * 1024) -> list[Record]:
    """Cut output into records."""
    records: list[Record] = []
    text, stream, begun = b"", 0, 0

    def close() -> None:
        nonlocal text
        if text:
            records.append(Record(stream, begun, text))
        text = b""

    for read in reads:
        if read.stream != stream:
            close()
        for byte in read.data:
            if len(text) == longest and byte != ord("\n"):
                close()
            if not text:
                stream, begun = read.stream, read.time
            text += bytes([byte])
            if byte == ord("\n"):
                close()
        if read.is_left:
            close()
    close()
    return records


def write(form: str, record: Record) -> bytes:
    """Return a record as text."""
    ended = record.data.endswith(b"\n")
    if form == "raw":
        return record.data
    if form == "cri":
        prefix = f"{rfc3339(record.time)} {STREAM_NAMES[record.stream]} {'PF'[ended]} "
        return prefix.encode() + record.data + b"\n" * (not ended)
    if form == "shimmy":
        time = rfc3339(record.time).replace("Z", "+00:00" if ended else "Z")
        prefix = f"{time} {STREAM_NAMES[record.stream]} "
        return prefix.encode() + record.data + b"\n" * (not ended)
    value: dict[str, object] = {
        "log": record.data.decode(errors="replace"),
        "stream": STREAM_NAMES[record.stream],
        "time": rfc3339(record.time),
    }
    if value["log"].encode() != record.data:
        value["raw"] = base64.b64encode(record.data).decode()
    return json.dumps(value).encode() + b"\n"


def write_gap(form: str, start: int, end: int) -> bytes:
    """Return the record of a gap."""
    text = f"attachd: {end - start} bytes of output are missing here: No space left on device"
    if form == "cri":
        return f"{rfc3339(NOW)} stderr F:gap:{start}:{end} {text}\n".encode()
    if form == "shimmy":
        time = rfc3339(NOW).replace("Z", "-00:00")
        return f"{time} stderr {start}:{end} {text}\n".encode()
    value = {
        "log": text + "\n",
        "stream": "stderr",
        "time": rfc3339(NOW),
        "gap": [start, end],
    }
    return json.dumps(value).encode() + b"\n"


def truth_of(form: str, records: list[Record]) -> Truth:
    """Return every byte by itself, as a log of this format can tell it."""
    if form == "raw":
        return [(STDOUT, 0, byte) for record in records for byte in record.data]
    return [(r.stream, r.time, byte) for r in records for byte in r.data]


#: Output that could be taken for what the log has around it, and what is not UTF-8.
TRICKS = [
    b"2024-05-01T12:00:00.000000000Z stdout F ",
    b"\n2024-05-01T12:00:00.000000000Z stderr P x",
    b"\n2024-05-01T12:00:00.000000000-00:00 stderr 1:2 x",
    b'{"log":"x\\n","stream":"stdout","time":"2024-05-01T12:00:00.000000000Z"}\n',
    b'","raw":"AAAA',
    b"\r\n",
    b"\0",
    b"\xff\xfe",
    "\u2028\ud7ff\U0001f600".encode(),
    b"\n",
    b"\n\n",
    b" ",
]
DATA = st.lists(st.sampled_from(TRICKS) | st.binary(max_size=6), max_size=4).map(b"".join)
#: Few times, so that what stands side by side often has the same.
TIMES = st.sampled_from([0, 1, SECOND - 1, SECOND]).map(lambda more: NOW + more)
READS = st.lists(
    st.builds(Read, st.sampled_from([STDOUT, STDERR]), TIMES, DATA, st.booleans()), max_size=6
)
RECORDS = READS.map(lambda reads: records_of(reads, longest=30))


PACKINGS = ["", "", "gz", "zst"] if shutil.which("zstd") else ["", "gz"]


class Log:
    """A log in a directory, and what was its output; None for a byte that is lost."""

    def __init__(self, directory: str, form: str) -> None:
        self.directory, self.form = directory, form
        self.base = os.path.join(directory, "c.log")
        self.segments: list[Segment] = []
        self.truth: list[tuple[int, int, int] | None] = []
        self.listed = 0

    def add(self, records: list[Record], before: bytes = b"", packing: str = "") -> str:
        """Add a file; return its path."""
        texts = [write(self.form, record) for record in records]
        return self.add_text(texts, truth_of(self.form, records), before, packing)

    def add_text(
        self,
        texts: list[bytes],
        truth: list[tuple[int, int, int] | None] | Truth,
        before: bytes = b"",
        packing: str = "",
    ) -> str:
        """Add a file of this text, which stands for this output."""
        text, first = before + b"".join(texts), len(self.truth)
        path = rotated_name(self.base, first, len(self.segments))
        path += f".{packing}" if packing else ""
        Path(path).write_bytes(pack(text, packing))
        inode = os.stat(path).st_ino
        self.truth += truth
        end = len(self.truth)
        segment = Segment(path, first, len(before), len(text), end, inode, packing)
        self.segments.append(segment)
        return path

    def change(self, number: int, **fields: object) -> None:
        """Change what is told of a file."""
        self.segments[number] = self.segments[number]._replace(**fields)

    def lose(self, start: int, end: int) -> None:
        """Let bytes be lost."""
        self.truth[start:end] = [None] * (end - start)

    def history(self) -> History:
        """Return a new reader."""
        return History(self.listing, self.form)

    def listing(self) -> list[Segment]:
        """List the files, and count how often."""
        self.listed += 1
        return list(self.segments)

    def expected(self, offset: int) -> list[object]:
        """Return what is to be read from ``offset`` on."""
        return [(at, self.truth[at]) for at in range(offset, len(self.truth))]

    def newline_before(self, end: int, count: int) -> int:
        """Return what History.newline_before is to."""
        for at in reversed(range(end)):
            if count == 0:
                break
            if self.truth[at] and self.truth[at][2] == ord("\n"):
                count -= 1
                if count == 0:
                    return at + 1
        held = [at for at, byte in enumerate(self.truth) if byte]
        return min(end, held[0] if held else len(self.truth)) if count else end


def pack(text: bytes, packing: str) -> bytes:
    """Return packed text."""
    if packing == "zst":
        return subprocess.run(["zstd", "-qc"], input=text, stdout=-1, check=True).stdout
    return gzip.compress(text) if packing == "gz" else text


def flat(items: list[Chunk | Missed], offset: int) -> list[object]:
    """Return every byte by itself; fail when an item is empty, or not where the last one ended."""
    out: list[object] = []
    at = offset
    for item in items:
        assert item.start == at < item.end
        at = item.end
        if isinstance(item, Chunk):
            rest = [(item.stream, item.time, byte) for byte in item.data]
        else:
            rest = [None] * (item.end - item.start)
        out += enumerate(rest, item.start)
    return out


def letters(text: str, stream: int = STDOUT, time: int = NOW) -> list[Record]:
    """Return a line for each letter."""
    return [Record(stream, time, f"{letter}\n".encode()) for letter in text]


@contextlib.contextmanager
def any_log(form: str, data: st.DataObject) -> Iterator[Log]:
    """Yield a log of some files, with gaps, files that are gone and foreign text before."""
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        for _ in range(data.draw(st.integers(0, 3), "files")):
            packing = data.draw(st.sampled_from(PACKINGS), "packing")
            before = data.draw(st.sampled_from([b"", b"earlier\n", b"half a li"]), "before")
            parts = data.draw(st.lists(RECORDS, min_size=1, max_size=2), "records")
            texts, truth = [], []
            for number, records in enumerate(parts):
                if number and form != "raw":
                    start = len(log.truth) + len(truth)
                    gap = data.draw(st.integers(0, 9), "gap")
                    texts.append(write_gap(form, start, start + gap))
                    truth += [None] * gap
                texts += [write(form, record) for record in records]
                truth += truth_of(form, records)
            path = log.add_text(texts, truth, before, packing)
            if data.draw(st.integers(0, 5), "is gone") == 5:
                log.lose(log.segments[-1].first, len(log.truth))
                os.unlink(path)
        yield log


def offset_in(log: Log, data: st.DataObject) -> int:
    """Draw an offset, near the end as often as elsewhere."""
    size = len(log.truth)
    return data.draw(st.integers(0, size) | st.integers(max(0, size - 9), size + 2), "offset")
