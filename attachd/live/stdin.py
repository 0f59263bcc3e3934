"""stdin: accepted into a file, delivered by sendfile, acknowledged when the container has it.

The mirror image of the pump: the file's size is what was accepted, its kernel position what was
delivered; `state.intake` says whose bytes they are. A container that does not read makes the
file fill up to a limit, then the queue before it; nobody but the writers ever waits.
"""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import trio

from attachd.errors import Refused, RemoteProtocolError
from attachd.keeper.descriptors import Libc
from attachd.live.feed import Bell
from attachd.state.eofpolicy import ANY, ONCE, STATES
from attachd.state.header import Header
from attachd.state.intake import Intake

#: How much may wait in the file, accepted and not delivered.
FILE_BYTES = 1 << 20

#: How far one writer may be ahead of its acknowledgement; what does not fit in the file waits
#: in the queue. 512 KiB keep a pipe busy however slow the acknowledgements travel.
WINDOW = 512 * 1024

#: A limit on the queue as a whole, against writers that come, send and go.
QUEUE_BYTES = 16 << 20

#: Small messages of one writer are kept as one, up to here.
ENTRY_BYTES = 64 * 1024

PUNCH_GRAIN = 64 * 1024

#: Who has sent stdin is back so soon after the server was killed, or has left, too.
RETURN_SECONDS = 5.0

#: Called with (own offset delivered, eof) for each acknowledgement of one writer.
Listener = Callable[[int, bool], None]


class _Queued(NamedTuple):
    key: bytes
    data: bytearray  #: empty: the end of stdin


class _Accepted(NamedTuple):
    key: bytes
    own_end: int
    file_end: int


class Stdin:
    """A program's stdin, or its absence (``fd`` -1); ``policy`` is of `state.eofpolicy`.

    ``close_elsewhere`` has the keeper close its copy of ``fd``.
    """

    def __init__(
        self,
        header: Header,
        fd: int,
        intake: int,
        close_elsewhere: Callable[[], None],
        policy: str = ANY,
    ) -> None:
        self.policy = policy
        self._header = header
        self._fd = fd
        self._intake_fd = intake
        self._close_elsewhere = close_elsewhere
        self.owner = (
            b""  #: with the policy ``once`` its leaving counts even if it sent nothing
        )
        self.watchers: set[Callable[[bytes], None]] = set()  #: told what was delivered
        self._append_fd = os.open(f"/proc/self/fd/{intake}", os.O_WRONLY | os.O_APPEND)
        self._size = os.fstat(intake).st_size
        self._delivered = os.lseek(intake, 0, os.SEEK_CUR)
        self._intake = Intake(header, self._size)
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._queued_of: dict[bytes, int] = {}
        self._unacked: deque[_Accepted] = deque()
        self._listeners: dict[bytes, Listener] = {}
        self._bell = Bell()
        self._libc = Libc()

    @property
    def state(self) -> str:
        """``closed``, or what its policy is called while it is open."""
        if self._fd < 0 or self._header.stdin_eof or self._header.stdin_closed:
            return "closed"
        return STATES[self.policy]

    @property
    def counters(self) -> dict[str, object]:
        """Bytes accepted, delivered and queued, and the state."""
        return {
            "state": self.state,
            "accepted": self._size,
            "delivered": self._delivered,
            "queued": self._queued_bytes,
        }

    def accepted(self, key: bytes) -> int:
        """Return how many of this writer's own bytes need not be sent again."""
        writer = self._intake.find(key)
        return (writer.own if writer else 0) + self._queued_of.get(key, 0)

    def subscribe(self, key: bytes, listener: Listener) -> None:
        """Have a writer's acknowledgements told to ``listener``; tell what is known at once.

        After a restart of the server the bytes accepted before count as delivered as soon as
        the container has all of them.
        """
        self._listeners[key] = listener
        self._intake.hold(key)
        writer = self._intake.find(key)
        if writer is None:
            return
        if writer.end <= self._delivered:
            listener(writer.own, self.state == "closed")
        elif not any(entry.key == key for entry in self._unacked):
            self._unacked.append(_Accepted(key, writer.own, writer.end))

    def unsubscribe(self, key: bytes, listener: Listener) -> None:
        """Stop telling; what was offered is still delivered.

        A writer that has come back on another connection keeps its new listener.
        """
        if self._listeners.get(key) == listener:
            del self._listeners[key]
            self._intake.release(key)

    def leave(self, key: bytes) -> None:
        """A client has gone: with the policy ``once`` a writer's leaving is the end of stdin."""
        counts = key == self.owner or self.accepted(key) > 0
        if self.policy == ONCE and key not in self._listeners and counts:
            self.offer_eof(key)

    async def miss_writers(self) -> None:
        """At our start: those who have written before and do not come back have left.

        So has an owner who never came. Returns after RETURN_SECONDS; at once when there is none.
        """
        before = {*self._intake.keys(), self.owner} - {b""}
        if not before:
            return
        await trio.sleep(RETURN_SECONDS)
        for key in before:
            self.leave(key)

    def offer(self, key: bytes, offset: int, data: bytes) -> None:
        """Take a writer's bytes; what was offered before is skipped.

        Raises Refused when stdin is closed, or when too much of all writers waits
        (``stdin_full``); RemoteProtocolError for a hole before ``offset``, or when this writer
        is too far ahead.
        """
        if self.state == "closed" and offset + len(data) > self.accepted(key):
            # First of all: what was queued was forgotten, so that there seems to be a hole.
            raise Refused("stdin_closed", "the container's stdin is closed")
        fresh = self._fresh(key, offset, data)
        if not fresh:
            return
        if self._queued_of.get(key, 0) + len(fresh) > WINDOW:
            raise RemoteProtocolError(f"stdin is more than {WINDOW} bytes ahead")
        if self._queued_bytes + len(fresh) > QUEUE_BYTES:
            raise Refused("stdin_full", "the container does not read, and too much waits")
        self._enqueue(_Queued(key, bytearray(fresh)))

    def offer_eof(self, key: bytes, offset: int | None = None) -> None:
        """Close stdin after everything that was offered so far, whoever offered it.

        Raises RemoteProtocolError when the writer's own bytes before ``offset`` did not come.
        """
        if offset is not None and offset > self.accepted(key):
            raise RemoteProtocolError(f"the end of stdin at {offset}, with a hole before it")
        if self.state != "closed":
            self._enqueue(_Queued(key, bytearray()))

    def end(self) -> None:
        """The container has ended: a pipe tells so by itself."""

    async def run(self) -> None:
        """Deliver until stdin is closed, here or by the container; then return.

        On cancel: what was delivered is noted by the kernel, the rest stays in the file.
        """
        if self._fd < 0:
            return
        try:
            while not self._at_end():
                if self._delivered < self._size:
                    await trio.lowlevel.wait_writable(self._fd)
                    self._deliver()
                else:
                    await self._bell.wait()
        except BrokenPipeError:
            pass  # the container has closed its stdin, or is gone
        self._close()

    def close(self) -> None:
        """Close our descriptors; ``run`` must have ended."""
        os.close(self._append_fd)
        if self._fd >= 0:
            os.close(self._fd)

    def _fresh(self, key: bytes, offset: int, data: bytes) -> bytes:
        known = self.accepted(key)
        if offset > known:
            raise RemoteProtocolError(f"stdin at {offset}, but only {known} bytes came before")
        return data[known - offset :]

    def _enqueue(self, entry: _Queued) -> None:
        self._count(entry)
        if self._continues_the_last(entry):
            self._queue[-1].data.extend(entry.data)
            return  # it waits behind what waits already
        self._queue.append(entry)
        self._accept()
        self._deliver_at_once()

    def _continues_the_last(self, entry: _Queued) -> bool:
        """Return whether two small messages of one writer may become one entry."""
        if not self._queue or not entry.data or not self._queue[-1].data:
            return False
        last = self._queue[-1]
        return last.key == entry.key and len(last.data) + len(entry.data) <= ENTRY_BYTES

    def _deliver_at_once(self) -> None:
        """Save a key stroke the way through another task; ``run`` does what is left."""
        with contextlib.suppress(BrokenPipeError):  # it will see that, too
            if self._delivered < self._size:
                self._deliver()
        if self._delivered < self._size or self._header.stdin_eof:
            self._bell.ring()

    def _accept(self) -> None:
        """Move from the queue into the file while it has room; an entry is never split."""
        while self._queue and self._size - self._delivered < FILE_BYTES:
            entry = self._queue.popleft()
            self._count(entry, -1)
            if entry.data:
                self._append(entry)
            else:
                self._header.stdin_eof = 1
                self._tell_eof()

    def _count(self, entry: _Queued, sign: int = 1) -> None:
        size = sign * len(entry.data)
        self._queued_bytes += size
        self._queued_of[entry.key] = self._queued_of.get(entry.key, 0) + size
        if not self._queued_of[entry.key]:
            del self._queued_of[entry.key]

    def _forget_queue(self) -> None:
        self._queue.clear()
        self._queued_of.clear()
        self._queued_bytes = 0

    def _append(self, entry: _Queued) -> None:
        self._intake.mark(entry.key, self._size)
        rest = memoryview(entry.data)
        while rest:
            rest = rest[os.write(self._append_fd, rest) :]
        self._size += len(entry.data)
        self._intake.settle(self._size)
        writer = self._intake.find(entry.key)
        assert writer is not None
        self._unacked.append(_Accepted(entry.key, writer.own, self._size))

    def _deliver(self) -> bool:
        """Move from the file to the container what it takes now; return False for nothing.

        sendfile(2) moves the file's position by exactly what was taken, also into a terminal,
        and also when we are killed meanwhile. Raises BrokenPipeError when nobody reads.
        """
        try:
            count = os.sendfile(self._fd, self._intake_fd, None, self._size - self._delivered)
        except BlockingIOError:
            return False
        self._delivered += count
        self._note_delivery(self._delivered - count, self._delivered)
        if self.watchers:
            data = os.pread(self._intake_fd, count, self._delivered - count)
            for watcher in self.watchers:
                watcher(data)
        self._acknowledge()
        self._punch()
        self._accept()
        return count > 0

    def _note_delivery(self, start: int, end: int) -> None:
        """For those who want to know what was delivered: bytes [start, end) of the file."""

    def _punch(self) -> None:
        start = self._header.stdin_punched
        end = self._delivered - self._delivered % PUNCH_GRAIN
        if end > start:
            self._libc.punch(self._intake_fd, start, end)
            self._header.stdin_punched = end

    def _acknowledge(self) -> None:
        while self._unacked and self._unacked[0].file_end <= self._delivered:
            entry = self._unacked.popleft()
            listener = self._listeners.get(entry.key)
            if listener:
                listener(entry.own_end, self.state == "closed")

    def _tell_eof(self) -> None:
        """Tell every writer that stdin takes no more, and how much of its own was delivered."""
        for key, listener in list(self._listeners.items()):
            writer = self._intake.find(key)
            pending = max(0, writer.end - self._delivered) if writer else 0
            listener(max(0, writer.own - pending) if writer else 0, True)

    def _at_end(self) -> bool:
        if self._header.stdin_closed:
            return True
        return bool(self._header.stdin_eof) and self._delivered >= self._size

    def _close(self) -> None:
        """Close our end, and have the keeper close its own: then the container reads EOF."""
        os.close(self._fd)
        self._fd = -1
        self._forget_queue()
        self._header.stdin_closed = 1
        self._close_elsewhere()
        self._tell_eof()
