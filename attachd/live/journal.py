"""A log that is systemd's journal: one datagram a line, and a note in the header after each.

A server that died between the two left an entry that its successor sends again: that one alone
can be there twice. A journal that does not take entries, or is not there, is waited for while
the ring has room for what it lacks; then that is given up, counted, and told in the journal as
soon as it can be. With ``block`` the container waits instead.
"""

import errno
import fcntl
import logging
import os
import socket
from collections import deque

import trio

from attachd.history.segments import Segment
from attachd.live.feed import Bell, Feed
from attachd.live.log import Care
from attachd.state import journal
from attachd.state.header import JournalWords, Pair
from attachd.state.journal import Entries, Joiner, Piece, unfinished_after
from attachd.state.ring import STDOUT, Chunk, Cursor

#: So much output is taken from the ring at once: some 1 ms of work.
BATCH_BYTES = 16 * 1024

#: A journal that is not there is looked for again after so long, and ever more rarely, in
#: seconds: a restart of journald is over in less than one.
RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 5.0

#: A journal that is only slow slows the container down, as a slow disk does; one that has taken
#: nothing for so long is not waited for, unless with ``block``.
STALL_SECONDS = 1.0

#: An entry that is larger than the socket's buffer goes by a file (unix(7), EMSGSIZE).
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

_log = logging.getLogger(__name__)


class JournalSocket:
    """Our end of a datagram socket, connected to whoever has bound ``path`` by now."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._connected = False

    def send(self, entry: bytes) -> None:
        """Hand over one entry; raises OSError: BlockingIOError when there is no room now."""
        try:
            if self._connected:
                self._send(entry)
                return
        except BlockingIOError:
            raise
        except OSError:
            self._connected = False  # it has gone, and may be there again
        self._connect()
        self._send(entry)

    async def wait_room(self) -> None:
        """Return when there may be room for another entry."""
        await trio.lowlevel.wait_writable(self._socket)

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def _connect(self) -> None:
        """Connect through the directory: a path may be longer than sockaddr_un (unix(7))."""
        directory = os.open(os.path.dirname(self._path), os.O_PATH | os.O_CLOEXEC)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{os.path.basename(self._path)}")
        finally:
            os.close(directory)
        self._connected = True

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        """Send a sealed file with the entry: journald maps it only when nobody can change it."""
        fd = os.memfd_create("attachd-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(entry)
            while rest:
                rest = rest[os.write(fd, rest) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [fd])
        finally:
            os.close(fd)


class JournalLog:
    """Sends what the feed brings; the pump waits for it when the ring is full of the unsent."""

    form = journal.FORMAT

    def __init__(
        self, number: int, feed: Feed, pair: Pair, path: str, entries: Entries, care: Care
    ) -> None:
        self._number = number
        self._feed = feed
        self._pair = pair
        self._socket = JournalSocket(path)
        self._entries = entries
        self._care = care
        self._bell = feed.subscribe()
        self._full = Bell()  #: rung when the socket has no room
        self._error = ""  #: why the last entry has not gone out; empty when it has
        self._since = 0.0  #: since when none has
        self._told = ""  #: what of that was told
        self._gone = False  #: it was not because nobody listens
        self._pause = RETRY_SECONDS
        self._retry_at = -float("inf")
        self._words = JournalWords.read(pair)
        self._joiner = Joiner(self._words.unfinished)
        self._cursor = Cursor(self._words.opened)
        self._queue: deque[Piece] = deque()  #: complete, and not sent yet
        self._settle()

    @property
    def offset(self) -> int:
        """The offset up to which output was taken, or given up."""
        return self._cursor.offset

    @property
    def written(self) -> int:
        """The offset up to which output was sent, or given up: what needs no ring."""
        return self._words.opened

    @property
    def dropped(self) -> int:
        """How many bytes of output were never sent."""
        return self._words.dropped

    @property
    def counters(self) -> dict[str, object]:
        """Where the log is, in bytes, and what is wrong with it."""
        words = self._words
        return {
            "offset": self.offset,
            "written": words.opened,
            "dropped": words.dropped,
            "error": self._error or None,
        }

    def segments(self) -> list[Segment]:
        """Return nothing: the journal is not read."""
        return []

    async def rotate(self) -> None:
        """Do nothing: journald rotates its files itself."""
        await trio.lowlevel.checkpoint()

    async def reopen(self) -> None:
        """Do nothing: a journal that is another one is found by itself."""
        await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Send until the feed has ended and all is sent or given up; then return."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            patience = float("inf")
            while True:
                if self._feed.ended:
                    patience = min(patience, trio.current_time() + self._care.patience)
                now = trio.current_time()
                late = now >= patience and bool(self._error) and self._has_stalled
                if self._step(give_up=late):
                    await trio.lowlevel.checkpoint()
                elif self._feed.ended and self._is_done(late=late):
                    break
                else:
                    until = patience if now < patience else float("inf")
                    with trio.move_on_at(min(self._wake_time(), until)):
                        await self._bell.wait()
            nursery.cancel_scope.cancel()
        self._feed.unsubscribe(self._bell)
        self._socket.close()

    async def _watch(self) -> None:
        """Wake ``run`` when a socket that was full has room."""
        while True:
            await self._full.wait()
            await self._socket.wait_room()
            self._retry_at = -float("inf")
            self._bell.ring()

    # What is to be sent

    def _step(self, *, give_up: bool) -> bool:
        """Send the next pieces; return False when nothing moved."""
        if not give_up and self._error and trio.current_time() < self._retry_at:
            return self._drop() if self._must_drop() else False
        if not self._queue:
            self._take()
        if not self._queue and not self._words.owed:
            return False
        try:
            self._tell_gap()
            while self._queue:
                self._send(self._queue[0])
                self._queue.popleft()
        except OSError as error:
            return self._fail(error, give_up)
        self._told = ""
        self._settle()
        return True

    def _take(self) -> None:
        """Fill the queue from the ring; a line without its end waits for that."""
        index, joiner = self._feed.index, self._joiner
        end = min(index.newest, self.offset + BATCH_BYTES)
        while self.offset < end:
            chunk = self._cursor.step(index, end - self.offset)
            if not isinstance(chunk, Chunk):
                raise AssertionError("the low water was not kept")
            start = max(chunk.start, self._words.sent(chunk.stream))
            if start < chunk.end:
                data = self._feed.read(start, chunk.end)
                self._queue += joiner.feed(chunk.stream, start, data)
        if self._is_due():
            self._queue += joiner.flush()
        if not self._queue:
            self._settle()

    def _is_due(self) -> bool:
        """True when what is held is the end, or keeps half the ring in use."""
        start, index = self._joiner.start, self._feed.index
        if start is None:
            return False
        return start < index.middle or (self._feed.ended and self.offset == index.newest)

    def _settle(self) -> None:
        """Note what the ring needs not keep: nothing is queued."""
        start = self._joiner.start
        opened = self.offset if start is None else start
        self._words = self._words._replace(opened=opened)
        self._commit()
        self._feed.low_waters[self._number] = opened
        self._feed.room_bell.ring()

    def _commit(self) -> None:
        self._pair.store(*self._words)

    def _is_done(self, *, late: bool) -> bool:
        """True when nothing is to be sent, or nobody is there who would take it."""
        all_sent = self._words.opened == self._feed.index.newest
        return all_sent and (not self._words.owed or late or self._gives_up_at_once)

    def _wake_time(self) -> float:
        """Return when there is something to do though nothing happens."""
        return self._retry_at if self._error and self._lacks else float("inf")

    @property
    def _lacks(self) -> bool:
        return bool(self._queue or self._words.owed or self.offset < self._feed.index.newest)

    # Sending

    def _send(self, piece: Piece) -> None:
        """Send a piece, and note that."""
        self._socket.send(self._entries.of_piece(piece))
        self._error, self._pause = "", RETRY_SECONDS
        words = self._words
        words = words._replace(unfinished=unfinished_after(piece, words.unfinished))
        if piece.stream == STDOUT:
            words = words._replace(stdout=piece.end)
        else:
            words = words._replace(stderr=piece.end)
        self._words = words
        self._commit()

    def _tell_gap(self) -> None:
        owed = self._words.owed
        if owed:
            reason = self._error or "they could not be sent"
            self._socket.send(self._entries.of_gap(owed, reason))
            self._error, self._pause = "", RETRY_SECONDS
            self._words = self._words._replace(owed=0)
            self._commit()

    def _fail(self, error: OSError, give_up: bool) -> bool:
        """Try again later, or give up what could not be sent."""
        now = trio.current_time()
        self._since = self._since if self._error else now
        self._error = error.strerror or str(error)
        self._gone = not isinstance(error, BlockingIOError)
        self._retry_at = now + self._pause
        if self._told != self._error and self._has_stalled:
            self._told = self._error
            _log.error("log %d: the journal takes nothing: %s", self._number, self._error)
        if self._gone:
            self._pause = min(2 * self._pause, LONGEST_RETRY_SECONDS)
        else:
            self._full.ring()
        ended = self._feed.ended and self._gives_up_at_once
        return self._drop() if give_up or ended or self._must_drop() else False

    @property
    def _gives_up_at_once(self) -> bool:
        """True when an ended container does not wait for a journal that there may never be."""
        return self._gone and bool(self._error) and not self._care.blocks

    def _must_drop(self) -> bool:
        """True when half the ring waits for the journal, and the container must not."""
        waits = self._words.opened < self._feed.index.middle
        return waits and self._has_stalled and not self._care.blocks

    @property
    def _has_stalled(self) -> bool:
        """True when entries are not taken, for longer than a busy journal needs."""
        return self._gone or trio.current_time() >= self._since + STALL_SECONDS

    def _drop(self) -> bool:
        """Give up all that waits; return False where that is nothing."""
        newest = self._feed.index.newest
        size = sum(len(piece.data) for piece in self._queue) + self._joiner.size
        size += self._unsent_after(self.offset)
        self._queue.clear()
        self._joiner = Joiner()
        self._cursor.offset = newest
        words = self._words
        self._words = words._replace(
            stdout=newest,
            stderr=newest,
            unfinished=0,
            owed=words.owed + size,
            dropped=words.dropped + size,
        )
        self._settle()
        return size > 0

    def _unsent_after(self, offset: int) -> int:
        """Return how many bytes were not sent of what a predecessor may have sent in part."""
        index, cursor, size = self._feed.index, Cursor(offset), 0
        while isinstance(chunk := cursor.step(index, index.newest - cursor.offset), Chunk):
            size += max(0, chunk.end - max(chunk.start, self._words.sent(chunk.stream)))
        return size
