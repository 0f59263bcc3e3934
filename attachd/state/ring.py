"""The ring's arithmetic: absolute offsets, records, and cursors. It never sees a byte of output.

The bytes lie in a file whose *own kernel position* is the absolute offset of the stream: the
pump splices at that position, and what is too old is given back to the kernel by punching a
hole behind (``oldest``). So the offset never wraps and nothing has to be noted "after" a read.

What the file cannot tell, the index does: which bytes are stdout's, which stderr's, and when
they were read. Before each splice the pump *marks* ``(position, stream, time)`` in the slot
after the last committed record; afterwards ``advance`` commits it. A pump that died between the
two left a mark and a position beyond it, and ``recover`` commits on its behalf: so neither the
stream nor the time of any byte is ever in doubt.

The index holds a fixed number of records; when it is full the oldest ones are forgotten, and
output before them counts as gone even while its bytes are still there.
"""

from typing import NamedTuple

from attachd.state.header import INDEX_WORDS, Header

STDOUT = 1
STDERR = 2
STREAMS = (STDOUT, STDERR)
STREAM_NAMES = {STDOUT: "stdout", STDERR: "stderr"}

#: One record for each 64 bytes of ring: a program that writes a short line at a time fills
#: index and ring at about the same pace. 32 bytes each, allocated only when used.
BYTES_PER_RECORD = 64
MIN_RECORDS = 1024

_OFFSET, _TIME, _STREAM, _STDOUT_BEFORE = range(INDEX_WORDS)


def index_capacity(ring_size: int) -> int:
    """Return how many records an index should have beside a ring of ``ring_size`` bytes."""
    return max(MIN_RECORDS, ring_size // BYTES_PER_RECORD)


class Record(NamedTuple):
    """A run of bytes that were read at once: [start, end) of one stream at one time."""

    number: int
    start: int
    end: int
    stream: int
    time: int


class Index:
    """Which bytes are whose, over the words of a header.

    ``position`` is the kernel's position of the ring file: every byte before it has arrived.
    """

    def __init__(self, header: Header, position: int) -> None:
        self._header = header
        self._words = header.index
        self._slots = header.index_capacity
        self._recover(position)
        self.newest = position
        self._stdout = self._count_stdout()

    @property
    def capacity(self) -> int:
        """How many bytes are kept, at least while the index has records enough."""
        return self._header.ring_size

    @property
    def oldest(self) -> int:
        """The first offset that can still be read."""
        first = self._first
        if first == 0:
            return self._header.oldest
        if first == self._header.records:
            return self.newest
        return max(self._header.oldest, self._word(first, _OFFSET))

    @property
    def held(self) -> int:
        """The first offset whose byte is in the file, though its record may be forgotten."""
        return self._header.oldest

    @property
    def middle(self) -> int:
        """Output before this offset is in the older half, of the ring or of the index."""
        byte = max(0, self.newest - self._header.ring_size // 2)
        record = self._header.records - self._slots // 2
        return max(byte, self._word(record, _OFFSET) if record >= 0 else 0)

    def bytes_of(self, stream: int) -> int:
        """Return how many bytes of one stream have arrived since this ring was made."""
        both = self.newest - self._header.base
        return self._stdout if stream == STDOUT else both - self._stdout

    def mark(self, stream: int, time: int) -> None:
        """Say whose the next bytes are. To be called before each splice; repeatable."""
        at = (self._header.records % self._slots) * INDEX_WORDS
        # The offset last: a slot whose offset is not newer than the last record's is stale.
        self._words[at + _TIME] = time
        self._words[at + _STREAM] = stream
        self._words[at + _STDOUT_BEFORE] = self._stdout
        self._words[at + _OFFSET] = self.newest

    def advance(self, count: int) -> None:
        """Commit the mark: ``count`` bytes have arrived since. With 0 the mark stays open."""
        if not count:
            return
        at = (self._header.records % self._slots) * INDEX_WORDS
        if self._words[at + _STREAM] == STDOUT:
            self._stdout += count
        self.newest += count
        self._header.records += 1

    def room(self, low_water: int) -> int:
        """Return how many bytes may arrive now without touching what is still needed.

        ``low_water`` is the offset from which the slowest log still has to write.
        """
        oldest_slot = self._header.records - self._slots + 1
        if oldest_slot >= 0 and self.record(oldest_slot).end > low_water:
            return 0
        return max(0, low_water + self._header.ring_size - self.newest)

    def stale(self, low_water: int, grain: int) -> tuple[int, int] | None:
        """Return the range of the file that is to be punched now, if it is worth it.

        The range is cut to multiples of ``grain`` and never reaches beyond ``low_water``.
        """
        before = self._header.oldest
        keep = min(low_water, self.newest - self._header.ring_size)
        if keep - before < grain:
            return None
        return before, keep - keep % grain

    def forget(self, end: int) -> None:
        """Note that output before ``end`` is gone: before it is punched, so that nobody reads
        a hole as output."""
        self._header.oldest = end

    def record(self, number: int) -> Record:
        """Return committed record ``number``; it must still be in the index."""
        at = (number % self._slots) * INDEX_WORDS
        following = number + 1
        known = following < self._header.records
        return Record(
            number,
            self._words[at + _OFFSET],
            self._word(following, _OFFSET) if known else self.newest,
            self._words[at + _STREAM],
            self._words[at + _TIME],
        )

    def find(self, offset: int, hint: int = 0) -> Record:
        """Return the record that holds ``offset``; oldest <= offset < newest must hold.

        ``hint`` is a record number to try first, as a cursor that moves on has one.
        """
        low, high = self._first, self._header.records
        if low <= hint < high:
            record = self.record(hint)
            if record.start <= offset < record.end:
                return record
            if record.end == offset:
                return self.record(hint + 1)
        while high - low > 1:
            middle = (low + high) // 2
            if self._word(middle, _OFFSET) <= offset:
                low = middle
            else:
                high = middle
        return self.record(low)

    def find_time(self, time: int) -> int:
        """Return where output begins that was read at ``time`` (ns) or later; ``newest`` if none.

        Where the clock was set back, the place is one such, but perhaps not the first.
        """
        low, high = self._first, self._header.records
        while low < high:
            middle = (low + high) // 2
            if self._word(middle, _TIME) >= time:
                high = middle
            else:
                low = middle + 1
        if low == self._header.records:
            return self.newest
        return max(self.oldest, self._word(low, _OFFSET))

    @property
    def _first(self) -> int:
        # One slot is the open mark's, so one record less than the capacity can be trusted.
        return max(0, self._header.records - self._slots + 1)

    def _count_stdout(self) -> int:
        if self._header.records == 0:
            return 0
        last = self.record(self._header.records - 1)
        before = self._word(last.number, _STDOUT_BEFORE)
        return before + (last.end - last.start if last.stream == STDOUT else 0)

    def _word(self, number: int, field: int) -> int:
        return self._words[(number % self._slots) * INDEX_WORDS + field]

    def _recover(self, position: int) -> None:
        """Commit the mark of a pump that died after the kernel had moved its bytes."""
        number = self._header.records
        start = self._word(number, _OFFSET)
        fresh = number == 0 or start > self._word(number - 1, _OFFSET)
        if fresh and position > start:
            self._header.records = number + 1


class Chunk(NamedTuple):
    """Bytes [start, end) of one stream, read at one time."""

    start: int
    end: int
    stream: int
    time: int


class Missed(NamedTuple):
    """Bytes [start, end) that were overwritten before this cursor came to them."""

    start: int
    end: int


class Cursor:
    """One consumer's place in the output: an offset, and where the index was last met."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._hint = 0

    def step(self, index: Index, limit: int) -> Chunk | Missed | None:
        """Move on by at most ``limit`` bytes of one record; None when there is nothing new."""
        if self.offset >= index.newest:
            return None
        start, oldest = self.offset, index.oldest
        if start < oldest:
            self.offset = oldest
            return Missed(start, oldest)
        record = index.find(start, self._hint)
        self._hint = record.number
        self.offset = min(record.end, start + limit)
        return Chunk(start, self.offset, record.stream, record.time)
