"""One log file: a cursor of its own, a format, and a commit after each write.

Cursor, file size and the starts of open lines are committed together, after the text was
written. A server that died in between left text beyond the committed size: its successor cuts
the file back and writes the same text again, since records keep their times in the header.
"""

import logging
import os

import trio

from attachd.live.feed import Feed
from attachd.state.header import Pair
from attachd.state.loglines import FORMATS
from attachd.state.ring import STREAM_NAMES, STREAMS, Chunk, Cursor, Missed

#: How much output is formatted at once: 10 ms of a slow machine's time, and 4 pump steps.
BATCH_BYTES = 1 << 20

#: A line without its end is written as a P piece after this many seconds: a prompt is to be
#: in the log within 200 ms.
OPEN_LINE_SECONDS = 0.15

_log = logging.getLogger(__name__)


class LogFile:
    """Writes what the feed brings; the pump waits for it when the ring is full of the unwritten."""

    def __init__(
        self, number: int, feed: Feed, fd: int, form: str, start: int, pair: Pair
    ) -> None:
        self._number = number
        self._feed = feed
        self._fd = fd
        self._pair = pair
        self._lines = FORMATS[form]()
        self._bell = feed.subscribe()
        self._opened: dict[int, tuple[int, float]] = {}
        self.dropped = 0  #: bytes of output that could not be written
        self._adopt(start)

    @property
    def offset(self) -> int:
        """The offset up to which output is in the file or in an open line."""
        return self._cursor.offset

    @property
    def counters(self) -> dict[str, object]:
        """Where the log is: the text in ``size`` bytes of file has, of each stream, all before
        its ``starts``; what is behind that and before ``offset`` is an open line."""
        starts = {STREAM_NAMES[s]: self._lines.open_start(s) for s in STREAMS}
        return {
            "offset": self.offset,
            "size": self._size,
            "starts": {k: self.offset if v is None else v for k, v in starts.items()},
            "dropped": self.dropped,
        }

    async def run(self) -> None:
        """Write until the feed has ended and all is on the disk; then return."""
        while True:
            moved = self._step()
            if moved:
                await trio.lowlevel.checkpoint()
            elif self._feed.ended:
                break
            else:
                with trio.move_on_at(self._flush_time()):
                    await self._bell.wait()
            self._flush(trio.current_time())
        self._write(b"".join(map(self._lines.flush, STREAMS)))
        self._feed.unsubscribe(self._bell)
        await trio.to_thread.run_sync(self._sync)

    def _adopt(self, start: int) -> None:
        """Go on where the committed state says; a fresh header says nothing but zeros."""
        cursor, size, *opened = self._pair.read()
        self._size = size or start
        if os.fstat(self._fd).st_size > self._size:
            os.ftruncate(self._fd, self._size)
        self._cursor = Cursor(cursor)
        for stream, begun in zip(STREAMS, opened, strict=True):
            self._reopen(stream, begun, cursor)
        self._commit()

    def _reopen(self, stream: int, begun: int, end: int) -> None:
        """Put the open line of ``stream`` together again from the ring."""
        cursor = Cursor(begun)
        while cursor.offset < end:
            chunk = cursor.step(self._feed.index, end - cursor.offset)
            if isinstance(chunk, Chunk) and chunk.stream == stream:
                data = self._feed.read(chunk.start, chunk.end)
                self._lines.feed(stream, chunk.start, chunk.time, data)

    def _step(self) -> bool:
        """Format and write the next batch; return False when there was nothing."""
        index, begun = self._feed.index, self._cursor.offset
        end = min(index.newest, begun + BATCH_BYTES)
        if begun == end:
            return False
        text: list[bytes] = []
        while self._cursor.offset < end:
            chunk = self._cursor.step(index, end - self._cursor.offset)
            if chunk is None or isinstance(chunk, Missed):
                raise AssertionError("the low water was not kept")
            data = self._feed.read(chunk.start, chunk.end)
            text.append(self._lines.feed(chunk.stream, chunk.start, chunk.time, data))
        self._write(b"".join(text))
        return True

    def _flush_time(self) -> float:
        """Return when the oldest open line is due; forget lines that are no longer open."""
        now = trio.current_time()
        due: dict[int, tuple[int, float]] = {}
        for stream in STREAMS:
            start = self._lines.open_start(stream)
            if start is not None:
                before = self._opened.get(stream)
                same = before is not None and before[0] == start
                due[stream] = before if same and before else (start, now + OPEN_LINE_SECONDS)
        self._opened = due
        return min((when for _, when in due.values()), default=float("inf"))

    def _flush(self, now: float) -> None:
        """Write open lines that are due, or that keep half of the ring from being reused."""
        self._flush_time()
        limit = self.offset - self._feed.index.capacity // 2
        late = [s for s, (start, due) in self._opened.items() if due <= now or start < limit]
        if late:
            self._write(b"".join(map(self._lines.flush, late)))

    def _write(self, text: bytes) -> None:
        """Append ``text`` and commit. What cannot be written is dropped, and counted."""
        try:
            rest = memoryview(text)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            self._size += len(text)
        except OSError as error:
            self._drop(error)
        self._commit()

    def _drop(self, error: OSError) -> None:
        lost = self.offset - self._pair.read()[0]
        if self.dropped == 0:
            _log.error("log %d: %s; output is dropped from here on", self._number, error)
        self.dropped += lost
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            pass

    def _commit(self) -> None:
        offset = self.offset
        starts = [self._lines.open_start(stream) for stream in STREAMS]
        opened = [offset if start is None else start for start in starts]
        self._pair.store(offset, self._size, *opened)
        self._feed.low_waters[self._number] = min(offset, *opened)
        self._feed.room_bell.ring()

    def _sync(self) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            pass  # a pipe or a device: there is nothing to wait for
