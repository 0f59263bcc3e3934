"""What the ring does not have any more: output from the log files, read in threads.

Everything before the ring's oldest byte has been written to the log, or is told there as a
gap; so history and ring meet without a seam, however fast the container writes meanwhile.
"""

import logging
from collections.abc import Callable, Generator

import trio

from attachd.errors import AttachdError
from attachd.history.reading import Chunk, History
from attachd.live.accepting import NO_ROOM
from attachd.live.feed import Feed
from attachd.live.logfile import LogFile
from attachd.live.threads import in_thread
from attachd.state import asciicast
from attachd.state.ring import Missed

#: So many clients may have a log file open; of more each opens it again for each piece, so that
#: clients cannot take all our descriptors.
MAX_OPEN = 256

#: So many clients' questions are answered at once; other threads are for writing the log.
THREADS = 16

#: A file for which there is no descriptor now is there all the same: it is tried again so often.
RETRY_SECONDS = 0.2

Reading = Generator[Chunk | Missed, None, None]

_log = logging.getLogger(__name__)


class Memory:
    """Finds places in all output there ever was, and opens readers."""

    def __init__(self, feed: Feed, logs: list[LogFile]) -> None:
        self._feed = feed
        # A raw log has neither streams nor times, a recording has not the bytes.
        kept = [log for log in logs if log.form != asciicast.FORMAT]
        self._log = min(kept, key=lambda log: log.form == "raw", default=None)
        self._threads = trio.CapacityLimiter(THREADS)
        self._open: set[Recall] = set()

    def open(self) -> "Recall | None":
        """Return a reader for one client; None when there is no log."""
        if self._log is None:
            return None
        return Recall(self._feed, self._history, self._open, self._threads)

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

    def _history(self) -> History:
        assert self._log is not None
        return History(self._log.segments, self._log.form)

    async def _ask(self, question: Callable[[History], int]) -> int:
        return await in_thread(question, self._history(), limiter=self._threads)


class Recall:
    """One client's reader of history. It goes on where it was, if that is what is asked for."""

    def __init__(
        self,
        feed: Feed,
        history: Callable[[], History],
        others: "set[Recall]",
        threads: trio.CapacityLimiter,
    ) -> None:
        self._feed = feed
        self._make_history = history
        self._open = others  #: who has a file open
        self._threads = threads
        self._reading: Reading | None = None
        self._at = -1

    async def take(self, offset: int, most: int) -> list[Chunk | Missed]:
        """Return what follows ``offset``, which the ring does not have: some ``most`` bytes.

        On cancel: returns when the read that is under way has ended.
        """
        oldest = self._feed.index.oldest
        if self._at != offset:
            self.close()
        found: list[Chunk | Missed] = []
        while not found:
            fresh = self._reading is None
            self._reading = self._reading or self._make_history().read(offset)
            self._open.add(self)
            try:
                found = await in_thread(_take, self._reading, most, limiter=self._threads)
            except (AttachdError, OSError) as error:
                if _is_over_soon(error):
                    self.close()
                    await trio.sleep(RETRY_SECONDS)
                    continue
                _log.error("history from %d: %s", offset, error)
            if not found:
                self.close()
                found = [Missed(offset, oldest)] if fresh else []
        self._at = found[-1].end
        if len(self._open) > MAX_OPEN:
            self.close()
        return found

    def close(self) -> None:
        """Let go of the files."""
        reading, self._reading = self._reading, None
        self._open.discard(self)
        if reading is not None:
            reading.close()


def _is_over_soon(error: BaseException) -> bool:
    """True when descriptors or memory are wanting, by which an error of ours may have come."""
    cause = error if isinstance(error, OSError) else error.__context__
    return isinstance(cause, OSError) and cause.errno in NO_ROOM


def _take(reading: Reading, most: int) -> list[Chunk | Missed]:
    found: list[Chunk | Missed] = []
    size = 0
    for item in reading:
        found.append(item)
        size += len(item.data) if isinstance(item, Chunk) else 0
        if size >= most:
            break
    return found
