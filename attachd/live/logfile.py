"""One log: a cursor of its own, a format, and a commit after each write.

Cursor, file and size are committed together, after the text was written. A server that died in
between left text beyond the committed size: its successor cuts the file back and writes it
again from the ring. Output that cannot be written is given up and told in the log as soon as it
can be (``drop``), or waited for (``block``).
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable

import trio

from attachd.history.segments import Segment
from attachd.live.feed import Bell, Feed
from attachd.live.log import Care
from attachd.live.shelf import Shelf
from attachd.live.threads import in_thread
from attachd.state import asciicast
from attachd.state.header import LogWords, Pair
from attachd.state.loglines import FORMATS, Format
from attachd.state.logparse import output_in
from attachd.state.retention import cost, fitting
from attachd.state.ring import Chunk, Cursor, Missed
from attachd.state.timeline import Timeline

#: How much output is formatted at once: 10 ms of a slow machine's time, and 4 pump steps.
BATCH_BYTES = 1 << 20

#: A line without its end is written as a piece after this many seconds: a prompt is to be
#: in the log within 200 ms.
OPEN_LINE_SECONDS = 0.15

#: A write that failed is tried again after so long, also when no output comes.
RETRY_SECONDS = 0.2

#: Files are looked after when the first of them becomes too old; not more often than this, in
#: seconds, and at least so often, because clocks are set and others rotate files, too.
CHORE_SECONDS = 30.0
LONGEST_CHORE_SECONDS = 3600.0

#: What is told of a log that is not to have more, ever.
FULL = "it has all the text that --log-max-ever allows: what comes now is not logged"

_log = logging.getLogger(__name__)


class LogFile:
    """Writes what the feed brings; the pump waits for it when the ring is full of the unwritten."""

    def __init__(
        self, number: int, feed: Feed, shelf: Shelf, form: str, pair: Pair, care: Care
    ) -> None:
        self._number = number
        self._feed = feed
        self._shelf = shelf
        self._form = form
        self._pair = pair
        self._care = care
        self._timeline: Timeline | None = None  #: the sizes of the container's terminal
        self._end: Callable[[], Awaitable[tuple[int, str]]] | None = None
        self._bell = feed.subscribe()
        self._open_since: tuple[int, float] | None = (
            None  #: where an open line began, and when
        )
        self._wishes: list[tuple[str, trio.Event]] = []
        self._error = ""  #: why the last write has failed; empty when it has not
        self._stuck = ""  #: why the last rotation has failed; empty when it has not
        self._over = False
        self._retry_at = -float("inf")
        self._tidied = -float("inf")  #: when files were looked after last
        self._expiry = -float("inf")  #: when a rotated one becomes too old, by the clock
        self.rotated = Bell()  #: rings when there is a rotated file more
        words = LogWords(*pair.read())
        shelf.adopt(words.inode, words.size)
        self._words = words._replace(
            inode=shelf.inode,
            size=words.size if words.inode else os.fstat(shelf.fd).st_size,
            start=words.start if words.inode else os.fstat(shelf.fd).st_size,
        )
        self._resume()
        self._commit()
        if words.inode:
            self.tidy()  # a server before us may have died before it did

    @property
    def offset(self) -> int:
        """The offset up to which output is in the file, in an open line, or given up."""
        return self._cursor.offset

    @property
    def written(self) -> int:
        """The offset up to which output is in the file, or given up: what needs no ring."""
        return self._words.opened

    @property
    def dropped(self) -> int:
        """How many bytes of output were not written."""
        return self._words.dropped

    @property
    def form(self) -> str:
        """The format's name."""
        return self._form

    @property
    def counters(self) -> dict[str, object]:
        """Where the log is, in bytes, and what is wrong with it."""
        words = self._words
        return {
            "offset": self.offset,
            "written": words.opened,
            "size": words.size,
            "first": words.first,
            "files": len(self._shelf.entries),
            "dropped": words.dropped,
            "error": self._error or (FULL if self._is_full else None),
        }

    def segments(self) -> list[Segment]:
        """Return all files with what is committed of them, the oldest first. For any thread."""
        words, found = self._words, self._shelf.segments()
        if found and found[-1].first == words.first:
            found[-1] = found[-1]._replace(size=words.size, end=words.lost)
        return found

    def tidy(self) -> None:
        """Remove files that are over the limits."""
        self._expiry = self._shelf.tidy(self._care.limits)

    async def rotate(self) -> None:
        """Begin a new file now, unless the current one is empty. Raises nothing."""
        await self._wish("rotate")

    async def reopen(self) -> None:
        """Go on in the file that has the log's name now. Raises nothing."""
        await self._wish("reopen")

    async def run(self) -> None:
        """Write until the feed has ended and all is on the disk; then return."""
        patience = float("inf")
        while True:
            self._grant_wishes()
            if self._feed.ended:
                patience = min(patience, trio.current_time() + self._care.patience)
            moved = await self._step(give_up=trio.current_time() >= patience)
            if moved:
                await trio.lowlevel.checkpoint()
            elif self._feed.ended and self._is_done():
                break
            else:
                with trio.move_on_at(min(self._wake_time(), patience)):
                    await self._bell.wait()
            self._do_chores()
        self._feed.unsubscribe(self._bell)
        self._deny_wishes()
        text = self._lines.closing(*await self._end()) if self._end is not None else b""
        if text:
            await self._write(text, give_up=True)
        await in_thread(self._shelf.sync)

    def know_end(self, end: Callable[[], Awaitable[tuple[int, str]]]) -> None:
        """``end`` waits until the container has ended, and returns when (ns) and how.

        A program can close its output long before.
        """
        self._end = end

    def know_sizes(self, timeline: Timeline) -> None:
        """The container has a terminal, which had these sizes. To be called before ``run``."""
        self._timeline = timeline
        self._resume()

    # Going on

    def _resume(self) -> None:
        """Begin where the committed words say, with the open line put together from the ring."""
        words, feed = self._words, self._feed
        self._lines = self._make_lines(words.unfinished, words.opened)
        self._cursor = Cursor(words.opened)
        while self._cursor.offset < words.cursor:
            chunk = self._cursor.step(feed.index, words.cursor - self._cursor.offset)
            if not isinstance(chunk, Chunk):
                raise AssertionError("the low water was not kept")
            data = feed.read(chunk.start, chunk.end)
            self._lines.feed(chunk.stream, chunk.start, chunk.time, data)

    def _make_lines(self, unfinished: int, offset: int) -> Format:
        """Return the format, as it is after all output before ``offset``."""
        if self._form != asciicast.FORMAT:
            return FORMATS[self._form](unfinished)
        base = None if self._words.size == self._words.start else self._read_base()
        return asciicast.CastLines(self._timeline, base, offset, unfinished)

    def _read_base(self) -> int:
        """Return the beginning of the recording that the file is; of a pipe, about that."""
        found = None
        with contextlib.suppress(OSError):
            first = os.pread(self._shelf.fd, asciicast.MAX_HEADER, self._words.start)
            found = asciicast.base_of(first.partition(b"\n")[0])
        return self._shelf.since if found is None else found

    def _commit(self) -> None:
        """Note what is true now, for a successor and for the pump."""
        self._pair.store(*self._words)
        self._shelf.settle()
        self._feed.low_waters[self._number] = self._words.opened
        self._feed.room_bell.ring()

    # Writing

    async def _step(self, *, give_up: bool) -> bool:
        """Write the next batch, or what is due of an open line; return False if nothing moved."""
        if (
            self._error
            and trio.current_time() < self._retry_at
            and not self._may_drop(give_up)
        ):
            return False
        self._heed()
        if self._is_full:
            return self._pass_over()
        before = self.offset
        text = self._next_text()
        if self.offset == before and not text and not self._owes_gap():
            return False
        return await self._write(text, give_up=give_up)

    def _may_drop(self, give_up: bool) -> bool:
        return give_up or not self._care.blocks

    def _owes_gap(self) -> bool:
        """True when a gap is to be told, and it is time to try."""
        late = trio.current_time() >= self._retry_at or self._feed.ended
        return self._owes() and late

    def _is_done(self) -> bool:
        words = self._words
        return words.opened == self._feed.index.newest

    def _next_text(self) -> bytes:
        """Format the next batch; at its end, an open line that is due."""
        index = self._feed.index
        parts: list[bytes] = []
        end = min(index.newest, self.offset + BATCH_BYTES)
        room = self._room()
        while self.offset < end:
            chunk = self._cursor.step(index, end - self.offset)
            if chunk is None or isinstance(chunk, Missed):
                raise AssertionError("the low water was not kept")
            data = self._feed.read(chunk.start, chunk.end)
            fits = self._fitting(data, room, first=not parts)
            if fits < len(data):
                end = self._cursor.offset = chunk.start + fits
                data = data[:fits]
            if not data and not parts:
                parts.append(self._lines.flush())
            if data:
                parts.append(self._lines.feed(chunk.stream, chunk.start, chunk.time, data))
                room -= len(parts[-1]) if room < sys.maxsize else 0
        if self._is_due():
            parts.append(self._lines.flush())
        return b"".join(parts)

    def _room(self) -> int:
        """Return how many bytes of text the file may still take; rotate it when it is full."""
        limit, words = self._care.limits.max_size, self._words
        if not limit or not self._shelf.regular:
            return sys.maxsize
        if words.size >= limit and self._written < self._feed.index.newest:
            self._rotate()  # for something: a full file stays until there is more
        return max(0, limit - self._words.size)

    def _fitting(self, data: bytes, room: int, *, first: bool) -> int:
        """Return how much of ``data`` goes into this file now; nothing if that must be another.

        If it is ``first``, that is at least a line, unless what is held is to go out before.
        """
        if room == sys.maxsize:
            return len(data)
        held, overhead = self.offset - len(data) - self._written, self._lines.overhead
        if held > 0:  # it is a record of its own when the other stream speaks
            room -= held + overhead + 1
        if cost(data, overhead) <= room:
            return len(data)
        fits = fitting(data, room, overhead)
        if fits or not first:
            return fits
        # What is held may go out before, as a piece; otherwise a line is never too long.
        least = 0 if held > 0 and self._care.cuts else _line(data)
        if self._rotate():
            return self._fitting(data, self._care.limits.max_size, first=False) or least
        return least

    def _is_due(self) -> bool:
        """True when the open line has been open for too long, or keeps half the ring in use."""
        start = self._lines.open_start
        if start is None:
            self._open_since = None
            return False
        now, feed = trio.current_time(), self._feed
        if self._open_since is None or self._open_since[0] != start:
            self._open_since = (start, now)
        late = now >= self._open_until() or feed.ended
        idle = self.offset == feed.index.newest
        return (idle and late) or start < self.offset - feed.index.capacity // 2

    def _open_until(self) -> float:
        """Return when the open line, if there is one, is to be written as it is."""
        if self._open_since is None or self._lines.is_patient:
            return float("inf")
        return self._open_since[1] + OPEN_LINE_SECONDS

    async def _write(self, text: bytes, *, give_up: bool) -> bool:
        """Append ``text`` with what must be told before it, and commit."""
        try:
            text = self._tell_gap() + text
            if text and self._words.size == self._words.start:
                text = self._lines.opening(time.time_ns()) + text
            text, rest = self._parted(text)
            self._shelf.append(text, self._words.size)
        except OSError as error:
            return self._fail(error, give_up)
        if self._care.syncs:
            await in_thread(self._shelf.sync)
        written = self._written
        unlogged = min(output_in(self._form, rest), written - self._words.opened)
        self._words = self._words._replace(
            cursor=self.offset,
            opened=written,
            lost=written - unlogged,
            size=self._words.size + len(text),
            unfinished=self._lines.unfinished,
            dropped=self._words.dropped + unlogged,
            ever=self._words.ever + len(text),
        )
        if rest:
            _log.error("log %d: %s", self._number, FULL)
        self._error = ""
        self._commit()
        return True

    @property
    def _is_full(self) -> bool:
        return 0 < self._care.max_ever <= self._words.ever

    def _parted(self, text: bytes) -> tuple[bytes, bytes]:
        """Part the text behind the line with which the log is full, if there is one."""
        room = self._care.max_ever - self._words.ever
        if not self._care.max_ever or len(text) <= room:
            return text, b""
        end = text.find(b"\n", room - 1) + 1 or len(text) if room > 0 else 0
        return text[:end], text[end:]

    def _pass_over(self) -> bool:
        """Count what the log does not get any more."""
        self._cursor.offset = self._feed.index.newest
        return self._give_up()

    @property
    def _written(self) -> int:
        start = self._lines.open_start
        return self.offset if start is None else start

    def _tell_gap(self) -> bytes:
        """Return the record of what was given up; a raw log has a new file for it."""
        lost, end = self._words.lost, self._words.opened
        if not self._owes():
            return b""
        reason = self._error or "it could not be written"
        text = self._lines.gap(lost, end, time.time_ns(), reason)
        if text is None and self._shelf.regular:
            self._begin_file(end)
        return text or b""

    def _fail(self, error: OSError, give_up: bool) -> bool:
        """Give up what could not be written, or try it again later."""
        reason = error.strerror or str(error)
        if reason != self._error:
            _log.error("log %d: %s", self._number, reason)
        self._error = reason
        self._retry_at = trio.current_time() + RETRY_SECONDS
        if not self._may_drop(give_up):
            self._resume()
            return False
        return self._give_up()

    def _give_up(self) -> bool:
        """Leave out all that was taken and is not written; return False where that is nothing."""
        self._lines = self._make_lines(self._lines.unfinished, self.offset)
        moved = self.offset > self._words.opened
        self._words = self._words._replace(
            cursor=self.offset,
            opened=self.offset,
            dropped=self._words.dropped + self.offset - self._words.opened,
        )
        self._commit()
        return moved

    # Files

    def _rotate(self, *, now: bool = False) -> bool:
        """Begin a new file where that cuts no line, or cuts one that fills files by itself."""
        words, limit = self._words, self._care.limits.max_size
        endless = bool(limit) and words.size > 2 * limit
        whole = not words.unfinished or endless or now or self._care.cuts
        if not whole or not self._may_grow_old() or (self._owes() and not now):
            return False
        try:
            self._begin_file(words.lost)
        except OSError as error:
            self._tell_rotation(error.strerror or str(error))
            return False
        self._tell_rotation("")
        self.tidy()
        self.rotated.ring()
        return True

    def _tell_rotation(self, trouble: str) -> None:
        """Say once that the file stays because no new one can be made, and why."""
        if trouble and trouble != self._stuck:
            _log.error("log %d: cannot rotate: %s", self._number, trouble)
        self._stuck = trouble

    def _may_grow_old(self) -> bool:
        """True when there is something to rotate."""
        return self._shelf.regular and self._words.size > 0

    def _owes(self) -> bool:
        """True when the log is to tell a gap; one that is full tells nothing."""
        return self._words.lost < self._words.opened and not self._is_full

    def _begin_file(self, first: int) -> None:
        """Rotate, and commit; raises OSError. A gap before ``first`` is told by its name."""
        self._shelf.rotate(first)
        self._note_file(first, 0)

    def _note_file(self, first: int, start: int) -> None:
        self._words = self._words._replace(
            first=first, start=start, size=start, inode=self._shelf.inode, lost=first
        )
        self._lines.begin_file()
        self._commit()

    def _heed(self) -> None:
        """Honour what somebody else has done to the file; a gap is told in the new one."""
        first = self._words.lost
        start = self._shelf.heed(self._words.size, first)
        if start is not None:
            self._note_file(first, start)

    # Requests and chores

    async def _wish(self, what: str) -> None:
        if self._over:
            return
        done = trio.Event()
        self._wishes.append((what, done))
        self._bell.ring()
        await done.wait()

    def _grant_wishes(self) -> None:
        wishes, self._wishes = self._wishes, []
        for what, done in wishes:
            self._heed()
            if what == "rotate":
                self._rotate(now=True)
            else:
                self._shelf.show()
            done.set()

    def _deny_wishes(self) -> None:
        """Nobody is to wait for a log that has ended."""
        self._over = True
        for _, done in self._wishes:
            done.set()

    def _wake_time(self) -> float:
        """Return when there is something to do though nothing happens."""
        times = [self._open_until()]
        if self._error or self._owes():
            times.append(max(self._retry_at, trio.current_time() + 0.01))
        if self._care.limits.max_age:
            times.append(self._chore_time())
        return min(times)

    def _chore_time(self) -> float:
        """Return when a file will be too old, or it is time to look whether one is."""
        age = self._care.limits.max_age
        left = age - self._shelf.age if self._may_grow_old() else float("inf")
        due = trio.current_time() + min(left, self._expiry - time.time())
        shortest = self._tidied + min(CHORE_SECONDS, max(0.1, age / 4))
        return min(max(due, shortest), self._tidied + LONGEST_CHORE_SECONDS)

    def _do_chores(self) -> None:
        """Rotate a file that is too old, and remove those that are."""
        limits = self._care.limits
        if not limits.max_age or trio.current_time() < self._chore_time():
            return
        self._tidied = trio.current_time()
        if self._shelf.age > limits.max_age:
            self._rotate()
        self.tidy()


def _line(data: bytes) -> int:
    """Return the length of the first line of ``data``, or of all of it."""
    return data.find(b"\n") + 1 or len(data)
