"""One client of the attach socket: conman, which knows pieces of output by how it reads them.

A piece is one byte that says whose it is (1 stdout, 2 stderr) and up to 32767 bytes of output.
There is no length: the client takes what one read(2) brings for one piece, though the socket is
a stream, in which the kernel may join two. So each piece is sent with a descriptor beside it, of
/dev/null: data that comes with one is never joined with what follows (unix(7), "Ancillary
messages"), and a reader that asks for no descriptors gets none.

What the client sends is stdin, byte for byte.
"""

import array
import contextlib
import errno
import secrets
import select
import socket
from collections import deque

import trio

from attachd.errors import Refused
from attachd.history.reading import Chunk
from attachd.live.feed import Bell
from attachd.live.program import Program
from attachd.live.stdin import WINDOW
from attachd.state.eofpolicy import ONCE
from attachd.state.intake import KEY_BYTES
from attachd.state.ring import STDERR, Cursor, Missed
from attachd.state.sizes import NO_SIZE
from attachd.wire import messages as say

#: shimmy's buffer, of which the first byte says whose the others are; conman reads with as much.
PIECE_BYTES = 32 * 1024
OUTPUT_BYTES = PIECE_BYTES - 1

#: So much of the log is read at once for who is behind.
RECALL_BYTES = 256 * 1024

#: More descriptors are on their way than we may have (unix(7), ETOOMANYREFS), or stdin is full:
#: it is tried again after so long. There is no event for either.
PAUSE_SECONDS = 0.05

#: How often it is looked whether a client that has ended its input has gone as well.
LOOK_SECONDS = 1.0

READ_BYTES = 64 * 1024


class Visitor:
    """Construct with its connection, its first offset, and a descriptor of /dev/null; ``run``.

    To the other clients it is one that may write: `live.writers` asks it for ``key``, ``robbed``,
    ``name`` and ``role``.
    """

    name = "a client at the attach file"
    role = "full"

    def __init__(
        self, stream: trio.SocketStream, program: Program, offset: int, null: int
    ) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self.robbed = False
        self._stream = stream
        self._program = program
        beside = array.array("i", [null])  #: a descriptor of /dev/null
        self._beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, beside)]
        self._cursor = Cursor(offset)
        self._recalled: deque[Chunk | Missed] = deque()  #: from the log, not yet sent
        self._acked = self._offered = 0  #: bytes of its stdin
        self._moved = Bell()  #: rung when it may be that more can be offered
        self._scope = trio.CancelScope()

    async def run(self) -> None:
        """Serve this client until it leaves, or has been given everything after the end."""
        program = self._program
        program.stdin.subscribe(self.key, self._acknowledge)
        program.writers.enter(self, NO_SIZE)
        program.feed.readers += 1
        try:
            await self._serve()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
            pass  # it has gone
        finally:
            program.feed.readers -= 1
            program.stdin.unsubscribe(self.key, self._acknowledge)
            program.writers.leave(self)
            program.stdin.leave(self.key)

    def turn_away(self) -> None:
        """Let go of it."""
        self._scope.cancel()

    def cut_off(self) -> None:
        """Let go of it."""
        self._scope.cancel()

    def tell(self, message: say.Message) -> None:
        """Something is told to everybody who writes: perhaps whose turn it is. It looks again."""
        self._moved.ring()

    async def _serve(self) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, nursery.cancel_scope)
                await self._speak()
                nursery.cancel_scope.cancel()

    # Output

    async def _speak(self) -> None:
        """Send all output from the cursor on; return when the end of the container is noted."""
        feed = self._program.feed
        bell = feed.subscribe()
        recall = self._program.memory.open()
        try:
            while True:
                if self._cursor.offset < feed.index.oldest and not self._recalled and recall:
                    self._recalled += await recall.take(self._cursor.offset, RECALL_BYTES)
                piece = self._next_piece()
                if piece is not None:
                    await self._send(*piece)
                elif feed.record is not None:
                    return
                else:
                    await bell.wait()
        finally:
            feed.unsubscribe(bell)
            if recall is not None:
                recall.close()

    def _next_piece(self) -> tuple[int, bytes] | None:
        """Return a stream and some output of it, and move on behind it; None when there is none."""
        found: Chunk | Missed | None
        if self._recalled:
            found = self._recalled.popleft()
            if isinstance(found, Chunk) and len(found.data) > OUTPUT_BYTES:
                middle = found.start + OUTPUT_BYTES
                self._recalled.appendleft(found.cut(middle, found.end))
                found = found.cut(found.start, middle)
            self._cursor.offset = found.end
        else:
            found = self._step()
        if isinstance(found, Missed):
            self._program.feed.count_gap(found.end - found.start)
            return STDERR, _missing(found)
        return None if found is None else (found.stream, found.data)

    def _step(self) -> Chunk | Missed | None:
        feed = self._program.feed
        found = self._cursor.step(feed.index, OUTPUT_BYTES)
        if found is None or isinstance(found, Missed):
            return found
        return Chunk(found.start, found.stream, found.time, feed.read(found.start, found.end))

    async def _send(self, stream: int, data: bytes) -> None:
        """Send one piece; what the kernel does not take of it follows as another one."""
        rest = memoryview(data)
        while rest:
            piece: list[bytes | memoryview] = [bytes([stream]), rest]
            try:
                sent = await self._stream.socket.sendmsg(piece, self._beside)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                await trio.sleep(PAUSE_SECONDS)
                continue
            rest = rest[sent - 1 :]

    # Input

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Take stdin, while this client may write; cancel ``scope`` when it has gone."""
        while True:
            room = await self._wait_room()
            data = await self._stream.receive_some(min(READ_BYTES, room))
            if not data:
                break
            await self._offer(bytes(data))
        if not self._has_gone() and self._program.stdin.policy == ONCE:
            self._end_stdin()
        while not self._has_gone():  # noqa: ASYNC110  # the end of input hides the event
            await trio.sleep(LOOK_SECONDS)
        scope.cancel()

    async def _wait_room(self) -> int:
        """Return how many bytes may be offered, as soon as some may."""
        while (room := WINDOW - (self._offered - self._acked)) <= 0:
            if self._program.stdin.state == "closed":
                return READ_BYTES  # whatever comes is thrown away
            await self._moved.wait()
        return room

    async def _offer(self, data: bytes) -> None:
        """Hand stdin over when it is our turn: another client may hold the lease.

        Of a stdin that is closed, or never was, what comes is thrown away.
        """
        stdin, writers = self._program.stdin, self._program.writers
        while stdin.state != "closed":
            if not writers.allows(self):
                await self._moved.wait()
                continue
            try:
                stdin.offer(self.key, self._offered, data)
            except Refused as error:
                if error.code != "stdin_full":
                    return
                await trio.sleep(PAUSE_SECONDS)
                continue
            self._offered += len(data)
            writers.typed(self)
            return

    def _end_stdin(self) -> None:
        with contextlib.suppress(Refused):
            self._program.stdin.offer_eof(self.key, self._offered)

    def _acknowledge(self, offset: int, eof: bool) -> None:
        self._acked = offset
        self._moved.ring()

    def _has_gone(self) -> bool:
        """True when it has closed its end, and not only ended its input (poll(2), POLLHUP)."""
        poller = select.poll()
        poller.register(self._stream.socket.fileno(), 0)
        return bool(poller.poll(0))


def _missing(gap: Missed) -> bytes:
    """Return words for what can be had no more: this socket has nothing else to say it with."""
    return f"attachd: {gap.end - gap.start} bytes of output are missing here\n".encode()
