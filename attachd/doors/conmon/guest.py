"""A guest: one client of the attach socket, as conmon has them (`protocol` in docs/podman.md).

To it go packets of a stream's number and at most 8192 bytes; from it come packets of bare stdin.
There is no history and no exit code; the end is the end of the connection.
"""

import contextlib
import math
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from attachd.doors.conmon.places import Place
from attachd.errors import Refused
from attachd.history.reading import Chunk
from attachd.live.brake import Brake
from attachd.live.feed import Bell
from attachd.live.program import Program
from attachd.live.stdin import WINDOW
from attachd.state.ring import STDERR, STDOUT, Cursor, Missed
from attachd.state.sizes import NO_SIZE
from attachd.wire import messages as say

#: What conmon calls the streams (conmon's utils.h: stdin 1, stdout 2, stderr 3).
NUMBERS = {STDOUT: b"\2", STDERR: b"\3"}

#: Podman reads a packet into 8193 bytes, and what does not fit is lost to it.
PACKET_BYTES = 8192

#: A guest's packet; conmon cuts longer ones.
INPUT_BYTES = 32768

#: So many packets are read from the ring at once, and given before others have a turn.
BATCH_BYTES = 16 * PACKET_BYTES

#: How often somebody looks again who may not write, or whose stdin does not fit anywhere.
PAUSE_SECONDS = 0.05


class Guest:
    """Construct with its socket and its place, then ``run`` to its end."""

    robbed = False
    role = "full"
    name = "a client of the attach socket"

    def __init__(
        self,
        peer: socket.socket,
        place: Place,
        program: Program,
        ended: Callable[["Guest"], Awaitable[None]],
        *,
        holds_up: bool,
    ) -> None:
        """``ended`` hears that its input has ended.

        One that ``holds_up`` the program loses nothing however slow it is: there is no log that
        has what the ring does not.
        """
        self.place = place
        self.key = place.key
        self.listens = True  #: its input has not ended
        self._peer = peer
        self._program = program
        self._ended = ended
        self._cursor = Cursor(place.offset)
        self._recall = program.memory.open()
        self._brake = Brake(program.feed, math.inf) if holds_up else None
        self._pieces: deque[tuple[int, bytes]] = deque()  #: offset after it, packet
        self._bell = program.feed.subscribe()
        self._acknowledged = Bell()
        self._delivered = 0
        self._closed = False  #: stdin takes no more
        self._over = False  #: nothing more will come

    @property
    def behind(self) -> bool:
        """True while it has not been given all output."""
        return self.place.offset < self._program.feed.index.newest

    async def wait_gone(self) -> None:
        """Return when the other side has closed the connection, both ways.

        An epoll that asks for nothing hears a hang-up all the same (epoll_ctl(2), EPOLLHUP).
        """
        with select.epoll() as hangup:
            hangup.register(self._peer, 0)
            await trio.lowlevel.wait_readable(hangup.fileno())

    def tell(self, message: say.Message) -> None:
        """Nothing but output can be told to a guest."""

    def finish(self) -> None:
        """Let it go as soon as it has everything; what was sent can still be read."""
        self._over = True
        self._bell.ring()

    async def run(self) -> None:
        """Serve it until one of the two leaves. Never raises for what it does."""
        program = self._program
        program.stdin.subscribe(self.key, self._acknowledge)
        program.writers.enter(self, NO_SIZE)
        if self._brake is not None:
            self._brake.move(self.place.offset)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                await self._speak()
                nursery.cancel_scope.cancel()
        except* OSError:  # it has gone, which is no error
            if self.listens:
                self.listens = False
                await self._ended(self)
        finally:
            self._leave()

    def _leave(self) -> None:
        program = self._program
        program.feed.unsubscribe(self._bell)
        program.stdin.unsubscribe(self.key, self._acknowledge)
        program.writers.leave(self)
        if self._recall is not None:
            self._recall.close()
        if self._brake is not None:
            self._brake.release()
        self._peer.close()

    # Output

    async def _speak(self) -> None:
        """Give it output as it comes. Raises OSError when it has gone."""
        while True:
            while self._pieces:
                end, packet = self._pieces[0]
                await self._send(packet)
                self.place.offset = end
                self._pieces.popleft()
            if self._brake is not None:
                self._brake.move(self.place.offset)
            if self._overtaken():
                assert self._recall is not None
                for step in await self._recall.take(self._cursor.offset, BATCH_BYTES):
                    self._cut(step)
                    self._cursor.offset = step.end
            elif self._read():
                await trio.lowlevel.checkpoint()
            elif self._over:
                return
            else:
                await self._bell.wait()

    async def _send(self, packet: bytes) -> None:
        while True:
            try:
                self._peer.send(packet)
                return
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._peer)

    def _overtaken(self) -> bool:
        """True when only a log has what is to be given next."""
        return (
            self._recall is not None and self._cursor.offset < self._program.feed.index.oldest
        )

    def _read(self) -> bool:
        """Take what comes next from the ring; return False when there is nothing new."""
        feed = self._program.feed
        step = self._cursor.step(feed.index, BATCH_BYTES)
        if step is None:
            return False
        if isinstance(step, Missed):
            self._cut(step)
        else:
            data = feed.read(step.start, step.end)
            self._cut(Chunk(step.start, step.stream, step.time, data))
        return True

    def _cut(self, step: Chunk | Missed) -> None:
        """Make packets; a hole is told on stderr, since the protocol has no other words."""
        if isinstance(step, Missed):
            size = step.end - step.start
            self._program.feed.count_gap(size)
            words = f"\nattachd: {size} bytes of output are missing here\n".encode()
            self._pieces.append((step.end, NUMBERS[STDERR] + words))
            return
        for at in range(0, len(step.data), PACKET_BYTES):
            part = step.data[at : at + PACKET_BYTES]
            self._pieces.append((step.start + at + len(part), NUMBERS[step.stream] + part))

    # Input

    async def _hear(self) -> None:
        """Take its input to the end of it. Raises OSError when it has gone."""
        while True:
            await trio.lowlevel.wait_readable(self._peer)
            data = self._peer.recv(INPUT_BYTES)
            if not data:
                break
            await self._type(data)
        self.listens = False
        await self._ended(self)
        await self.wait_gone()
        raise BrokenPipeError

    async def _type(self, data: bytes) -> None:
        """Give it to the program; wait while that has enough, or somebody else alone may type.

        What comes when stdin is closed is thrown away, as conmon does.
        """
        stdin, writers = self._program.stdin, self._program.writers
        while stdin.state != "closed":
            ahead = stdin.accepted(self.key) - self._delivered
            if not writers.allows(self):
                await trio.sleep(PAUSE_SECONDS)
            elif ahead + len(data) > WINDOW:
                await self._acknowledged.wait()
            else:
                with contextlib.suppress(Refused):
                    stdin.offer(self.key, stdin.accepted(self.key), data)
                    writers.typed(self)
                    return
                await trio.sleep(PAUSE_SECONDS)

    def _acknowledge(self, offset: int, closed: bool) -> None:
        self._delivered = offset
        self._acknowledged.ring()
