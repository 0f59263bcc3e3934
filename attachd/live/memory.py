"""What the ring does not have any more: output from the log files, read in threads.

Everything before the ring's oldest byte has been written to the log, or is told there as a
gap; so history and ring meet without a seam, however fast the container writes meanwhile.
"""

import logging
from collections.abc import Callable, Generator

import trio

from attachd.errors import AttachdError
from attachd.history.reading import Chunk, History
from attachd.live.feed import Feed
from attachd.live.logfile import LogFile
from attachd.state import asciicast
from attachd.state.ring import Missed

#: Read at once: so much is in a client's hands before its next turn.
TAKE_BYTES = 512 * 1024

Reading = Generator[Chunk | Missed, None, None]

_log = logging.getLogger(__name__)


class Memory:
    """Finds places in all output there ever was, and opens readers."""

    def __init__(self, feed: Feed, logs: list[LogFile]) -> None:
        self._feed = feed
        # A raw log has neither streams nor times, a recording has not the bytes.
        kept = [log for log in logs if log.form != asciicast.FORMAT]
        self._log = min(kept, key=lambda log: log.form == "raw", default=None)

    def open(self) -> "Recall | None":
        """Return a reader for one client; None when there is no log."""
        return Recall(self._feed, self._history) if self._log is not None else None

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
        return await trio.to_thread.run_sync(question, self._history())


class Recall:
    """One client's reader of history. It goes on where it was, if that is what is asked for."""

    def __init__(self, feed: Feed, history: Callable[[], History]) -> None:
        self._feed = feed
        self._make_history = history
        self._reading: Reading | None = None
        self._at = -1

    async def take(self, offset: int) -> list[Chunk | Missed]:
        """Return what follows ``offset``, which the ring does not have; at least something.

        On cancel: returns when the read that is under way has ended.
        """
        oldest = self._feed.index.oldest
        if self._at != offset:
            self.close()
        found: list[Chunk | Missed] = []
        while not found:
            fresh = self._reading is None
            self._reading = self._reading or self._make_history().read(offset)
            try:
                found = await trio.to_thread.run_sync(_take, self._reading)
            except (AttachdError, OSError) as error:
                _log.error("history from %d: %s", offset, error)
            if not found:
                self.close()
                found = [Missed(offset, oldest)] if fresh else []
        self._at = found[-1].end
        return found

    def close(self) -> None:
        """Let go of the files."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.close()


def _take(reading: Reading) -> list[Chunk | Missed]:
    found: list[Chunk | Missed] = []
    size = 0
    for item in reading:
        found.append(item)
        size += len(item.data) if isinstance(item, Chunk) else 0
        if size >= TAKE_BYTES:
            break
    return found
