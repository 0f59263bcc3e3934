"""What somebody has heard in a storm, and whether it is what was said.

Each stream is compared by itself, at the end of each of its parts: which of two pipes is read
first is nobody's promise.
"""

import bisect
import hashlib
from collections import deque
from pathlib import Path
from typing import NamedTuple

from saying import STREAMS, Part

from attachd.wire import messages as say

#: So much of the end of each stream is kept, to be compared with a ring's.
TAIL_BYTES = 16 << 20


class Wrong(Exception):
    """Something was heard that was not said, or not in that place."""


class Sum(NamedTuple):
    """A beginning of one stream: its size and SHA-256."""

    size: int
    digest: str


class Heard:
    """What somebody has heard of one stream, or was said in it."""

    def __init__(self) -> None:
        self.size = 0
        self._sum = hashlib.sha256()

    def add(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        self.size += len(data)

    def copy(self) -> "Heard":
        other = Heard()
        other.size, other._sum = self.size, self._sum.copy()
        return other

    @property
    def sum(self) -> Sum:
        return Sum(self.size, self._sum.hexdigest())


class Track:
    """What was said in one stream; its sum is known behind each part."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.sums: list[Sum] = []
        self._said = Heard()
        self._tail = deque[bytes]()
        self._kept = 0

    @property
    def sum(self) -> Sum:
        return self._said.sum

    @property
    def tail(self) -> bytes:
        """The end, as much of it as a ring can hold."""
        return b"".join(self._tail)

    def add(self, data: bytes) -> None:
        self._said.add(data)
        self.ends.append(self._said.size)
        self.sums.append(self._said.sum)
        self._tail.append(data)
        self._kept += len(data)
        while self._kept - len(self._tail[0]) > TAIL_BYTES:
            self._kept -= len(self._tail.popleft())


class Ledger:
    """What the container was told to say so far."""

    def __init__(self, ready: bytes) -> None:
        self.tracks = {stream: Track() for stream in STREAMS}
        self.total = 0
        self.add(Part(b"", ready))

    def add(self, part: Part) -> None:
        for stream, data in zip(STREAMS, (part.stdout, part.stderr), strict=True):
            if data:
                self.tracks[stream].add(data)
                self.total += len(data)

    @property
    def sums(self) -> dict[str, Sum]:
        return {stream: track.sum for stream, track in self.tracks.items()}


class Mark(NamedTuple):
    """Where one may begin: an offset, and what was heard before it."""

    offset: int
    heard: dict[str, Heard]

    def copy(self) -> "Mark":
        return Mark(
            self.offset, {stream: heard.copy() for stream, heard in self.heard.items()}
        )


class Listener:
    """Hears output, and compares each stream at the end of each part."""

    def __init__(self, ledger: Ledger, begin: Mark | None = None) -> None:
        self.compared = 0  #: how many ends were seen
        self._ledger = ledger
        self._mark = begin.copy() if begin else Mark(0, {name: Heard() for name in STREAMS})

    @property
    def offset(self) -> int:
        return self._mark.offset

    @property
    def mark(self) -> Mark:
        return self._mark.copy()

    @property
    def sums(self) -> dict[str, Sum]:
        return {stream: heard.sum for stream, heard in self._mark.heard.items()}

    def hear(self, event: object) -> None:
        """Take an event of a client; raise Wrong for a gap, or a byte in the wrong place."""
        if isinstance(event, say.Gap):
            raise Wrong(f"a gap from {event.start} to {event.end}")
        if not isinstance(event, say.Output):
            return
        if event.offset != self.offset:
            raise Wrong(f"offset {event.offset} came instead of {self.offset}")
        self._mark = self._mark._replace(offset=event.offset + len(event.data))
        rest, heard = memoryview(event.data), self._mark.heard[event.stream]
        while rest:
            rest = self._take(event.stream, heard, rest)

    def _take(self, stream: str, heard: Heard, data: memoryview) -> memoryview:
        """Take ``data`` up to the end of its part; return what is behind."""
        track = self._ledger.tracks[stream]
        number = bisect.bisect_right(track.ends, heard.size)
        if number == len(track.ends):
            raise Wrong(f"{stream}: more than the {heard.size} bytes that were said")
        now = data[: track.ends[number] - heard.size]
        heard.add(now)
        if heard.size == track.ends[number]:
            if heard.sum != track.sums[number]:
                raise Wrong(f"{stream}, part {number}: {heard.sum}, not {track.sums[number]}")
            self.compared += 1
        return data[len(now) :]


def cri_sums(path: Path) -> dict[str, Sum]:
    """Return the sums of a log in CRI format, of any size."""
    heard = {stream: Heard() for stream in STREAMS}
    with path.open("rb", buffering=1 << 20) as file:
        for line in file:
            _, stream, tag, rest = line.split(b" ", 3)
            heard[stream.decode()].add(rest if tag == b"F" else rest[:-1])
    return {stream: found.sum for stream, found in heard.items()}


def sum_of(path: Path) -> Sum:
    """Return the sum of a file, of any size."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Sum(file.tell(), digest)
