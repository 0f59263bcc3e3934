"""What the ring does not have any more: output from the log files, read in threads.

Everything before the ring's oldest byte has been written to the log, or is told there as a
gap; so history and ring meet without a seam, however fast the container writes meanwhile.

Clients that read the same history at about the same time share what was read: a thousand of
them cost little more than one.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Generator

import trio

from attachd.errors import AttachdError
from attachd.history.reading import Chunk, History
from attachd.live.accepting import NO_ROOM
from attachd.live.feed import Feed
from attachd.live.log import Log
from attachd.live.threads import in_thread
from attachd.state.logparse import GRAMMARS
from attachd.state.ring import Missed

#: So many log files may stand open where somebody may go on; of more clients some open theirs
#: again for each piece, so that clients cannot take all our descriptors.
MAX_OPEN = 256

#: So much memory is kept of what was read last, for who comes next. Beside its bytes a run of
#: output takes about so much as an object.
RECENT_BYTES = 4 << 20
CHUNK_BYTES = 256

#: So many clients' questions are answered at once; other threads are for writing the log.
THREADS = 16

#: A file for which there is no descriptor now is there all the same: it is tried again so often.
RETRY_SECONDS = 0.2

Reading = Generator[Chunk | Missed, None, None]
Piece = list[Chunk | Missed]

_log = logging.getLogger(__name__)


class Memory:
    """Finds places in all output there ever was, and opens readers."""

    def __init__(self, feed: Feed, logs: list[Log]) -> None:
        self._feed = feed
        # A raw log has neither streams nor times; recordings and journals give no bytes back.
        kept = [log for log in logs if log.form in GRAMMARS]
        self._log = min(kept, key=lambda log: log.form == "raw", default=None)
        self._threads = trio.CapacityLimiter(THREADS)
        self._recent = Recent()
        self._standing: OrderedDict[int, Reading] = OrderedDict()  #: by where each goes on
        self._busy: dict[int, trio.Event] = {}  #: somebody reads on from this offset
        self._readers: set[Recall] = set()  #: who has not come to the ring yet

    def open(self) -> "Recall | None":
        """Return a reader for one client; None when there is no log."""
        return Recall(self) if self._log is not None else None

    async def take(self, reader: "Recall", offset: int, most: int) -> Piece:
        """Return what follows ``offset``, which the ring does not have: some ``most`` bytes.

        On cancel: returns when the read that is under way has ended.
        """
        self._readers.add(reader)
        piece = await self._share(offset, most)
        if piece[-1].end >= self._feed.index.oldest:
            self.leave(reader, piece[-1].end)  # the ring has what comes next
        return piece

    def leave(self, reader: "Recall", at: int) -> None:
        """A reader wants no more from ``at`` on: with the last one all is let go of."""
        self._readers.discard(reader)
        self._let_go(at)
        if not self._readers:
            self._recent.clear()
            while self._standing:
                self._let_go(next(iter(self._standing)))

    async def _share(self, offset: int, most: int) -> Piece:
        """Return the piece at ``offset`` that somebody has read, or read it for others, too."""
        while (busy := self._busy.get(offset)) is not None:
            await busy.wait()
        piece = self._recent.get(offset)
        if piece:
            return piece
        self._busy[offset] = trio.Event()
        try:
            return await self._read_on(offset, most)
        finally:
            self._busy.pop(offset).set()

    async def find_tail(self, lines: int) -> int:
        """Return the offset where the last ``lines`` lines begin, over both streams.

        A line without its end counts; fewer lines give the oldest offset there is.
        """
        feed, index = self._feed, self._feed.index
        newest, oldest = index.newest, index.oldest
        if lines == 0:
            return newest
        whole = newest > oldest and feed.read(newest - 1, newest) == b"\n"
        offset, wanting = feed.find_newline(lines + whole)
        if wanting and offset > 0 and self._log is not None:
            return await self._ask(lambda history: history.newline_before(offset, wanting))
        return offset

    async def find_time(self, time: int) -> int:
        """Return the offset of the first output that was read at ``time`` (ns) or later."""
        index = self._feed.index
        oldest = index.oldest
        later = index.newest == oldest or index.find(oldest).time >= time
        if oldest == 0 or not later or self._log is None:
            return index.find_time(time)
        found = await self._ask(lambda history: history.at_time(time))
        return min(found, index.newest)

    async def _read_on(self, offset: int, most: int) -> Piece:
        """Read from the log: in a file that stands open there, or in one that is opened."""
        oldest = self._feed.index.oldest
        while True:
            reading = self._standing.pop(offset, None)
            fresh = reading is None
            reading = reading or self._history().read(offset)
            piece = await self._read_once(reading, offset, most)
            if piece:
                self._stand(piece[-1].end, reading)
                self._recent.add(offset, piece)
                return piece
            reading.close()
            if piece is None:
                await trio.sleep(RETRY_SECONDS)
            elif fresh:
                return [Missed(offset, oldest)]

    async def _read_once(self, reading: Reading, offset: int, most: int) -> Piece | None:
        """Return what comes next; nothing at the end, None when it cannot be had just now."""
        try:
            return await in_thread(_take, reading, most, limiter=self._threads)
        except (AttachdError, OSError) as error:
            if _is_over_soon(error):
                return None
            _log.error("history from %d: %s", offset, error)
            return []

    def _stand(self, at: int, reading: Reading) -> None:
        """Leave a file open where the next one may go on."""
        self._let_go(at)
        self._standing[at] = reading
        while len(self._standing) > MAX_OPEN:
            self._let_go(next(iter(self._standing)))

    def _let_go(self, at: int) -> None:
        reading = self._standing.pop(at, None)
        if reading is not None:
            reading.close()

    def _history(self) -> History:
        assert self._log is not None
        return History(self._log.segments, self._log.form)

    async def _ask(self, question: Callable[[History], int]) -> int:
        return await in_thread(question, self._history(), limiter=self._threads)


class Recall:
    """One client's way through history."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._at = -1

    async def take(self, offset: int, most: int) -> Piece:
        """Return what follows ``offset``, which the ring does not have: some ``most`` bytes.

        It is shared with others, and not to be changed. On cancel: returns when the read that is
        under way has ended.
        """
        piece = await self._memory.take(self, offset, most)
        self._at = piece[-1].end
        return piece

    def close(self) -> None:
        """Let go of the file that may stand open for us."""
        self._memory.leave(self, self._at)


class Recent:
    """The pieces of history that were read last, each by the offset where it begins."""

    def __init__(self, most: int = RECENT_BYTES) -> None:
        self._most = most
        self._pieces: OrderedDict[int, Piece] = OrderedDict()
        self._size = 0

    def get(self, offset: int) -> Piece | None:
        """Return the piece that begins there, if it is kept."""
        return self._pieces.get(offset)

    def add(self, offset: int, piece: Piece) -> None:
        """Keep one, and forget the oldest."""
        self._forget(offset)
        self._pieces[offset] = piece
        self._size += _size(piece)
        while self._size > self._most:
            self._forget(next(iter(self._pieces)))

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()
        self._size = 0

    def _forget(self, offset: int) -> None:
        piece = self._pieces.pop(offset, None)
        if piece:
            self._size -= _size(piece)


def _size(piece: Piece) -> int:
    data = sum(len(item.data) for item in piece if isinstance(item, Chunk))
    return data + CHUNK_BYTES * len(piece)


def _is_over_soon(error: BaseException) -> bool:
    """True when descriptors or memory are wanting, by which an error of ours may have come."""
    cause = error if isinstance(error, OSError) else error.__context__
    return isinstance(cause, OSError) and cause.errno in NO_ROOM


def _take(reading: Reading, most: int) -> Piece:
    found: Piece = []
    size = 0
    for item in reading:
        found.append(item)
        size += len(item.data) if isinstance(item, Chunk) else 0
        if size >= most:
            break
    return found
