"""A guest: one client of an attach socket that is not ours, but conmon's or shimmy's.

To it go pieces of output, each with its stream's number before it; from it comes bare stdin.
There is no history and no exit code; the end is the end of the connection.
"""

import contextlib
import errno
import math
import select
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import trio

from attachd.doors.places import Place
from attachd.errors import Refused
from attachd.history.reading import Chunk
from attachd.live.brake import Brake
from attachd.live.feed import Bell
from attachd.live.program import Program
from attachd.live.stdin import WINDOW
from attachd.state.ring import STDERR, Cursor, Missed
from attachd.state.sizes import NO_SIZE
from attachd.wire import messages as say

#: As much of its input is taken at once; conmon cuts longer packets.
INPUT_BYTES = 32768

#: So much is read from the ring at once, and given before others have a turn.
BATCH_BYTES = 128 * 1024

#: Who takes nothing for so long when the program has ended is not waited for any longer.
STUCK_SECONDS = 10.0

#: How often somebody looks again who may not write, or whose stdin does not fit anywhere.
PAUSE_SECONDS = 0.05


class Speech(NamedTuple):
    """How output is said to guests."""

    numbers: Mapping[int, bytes]  #: what each stream is called: one byte
    most: int  #: so many bytes of output fit into one piece
    #: called with socket and piece; returns the piece that is left to be said. Raises OSError.
    give: Callable[[socket.socket, bytes], bytes]


def give_packet(peer: socket.socket, piece: bytes) -> bytes:
    """Send a piece as one packet, where the kernel keeps packets apart (SOCK_SEQPACKET)."""
    peer.send(piece)
    return b""


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
        speech: Speech,
        ended: Callable[["Guest"], Awaitable[None]],
    ) -> None:
        """``ended`` hears that its input has ended.

        Without a log that has what the ring does not have any more, it holds the program up, and
        so loses nothing however slow it is.
        """
        self.place = place
        self.key = place.key
        self.listens = True  #: its input has not ended
        self._peer = peer
        self._program = program
        self._speech = speech
        self._ended = ended
        self._cursor = Cursor(place.offset)
        self._recall = program.memory.open()
        self._brake = Brake(program.feed, math.inf) if self._recall is None else None
        if self._brake is not None:
            self._brake.move(place.offset)
        self._pieces: deque[tuple[int, bytes]] = deque()  #: offset after it, packet
        self._bell = program.feed.subscribe()
        self._acknowledged = Bell()
        self._delivered = 0
        self._over = False  #: nothing more will come

    @property
    def behind(self) -> bool:
        """True while it has not been given all output."""
        return self.place.offset < self._program.feed.index.newest

    @property
    def has_gone(self) -> bool:
        """True when the other side has closed the connection, both ways (poll(2), POLLHUP)."""
        poller = select.poll()
        poller.register(self._peer, 0)
        return bool(poller.poll(0))

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
        try:
            await self._serve()
            # Not only closed: the keeper has a copy, and the end is to be seen before others are
            # told of it. What was sent can still be read.
            with contextlib.suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
        finally:
            self._leave()

    async def _serve(self) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear)
                if self._brake is not None:
                    nursery.start_soon(self._let_go_at_the_end, self._brake)
                await self._speak()
                nursery.cancel_scope.cancel()
        except* OSError:  # it has gone, which is no error
            if self.listens:
                self.listens = False
                await self._ended(self)

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
                end, piece = self._pieces[0]
                await self._send(piece)
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

    async def _send(self, piece: bytes) -> None:
        """Say one piece. Raises OSError when the guest has gone."""
        while piece:
            try:
                piece = self._speech.give(self._peer, piece)
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._peer)
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                await trio.sleep(PAUSE_SECONDS)  # descriptors on their way (unix(7))

    async def _let_go_at_the_end(self, brake: Brake) -> None:
        """Return when the program has ended and our side does not move: nobody waits for that."""
        await self._program.process.wait_exit()
        before = -1
        while not self.behind or self.place.offset != before:
            before = self.place.offset
            await trio.sleep(STUCK_SECONDS)
        brake.release()

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
        """Make pieces; a hole is told on stderr, since the protocol has no other words."""
        if isinstance(step, Missed):
            size = step.end - step.start
            self._program.feed.count_gap(size)
            words = f"\nattachd: {size} bytes of output are missing here\n".encode()
            self._pieces.append((step.end, self._speech.numbers[STDERR] + words))
            return
        number, most = self._speech.numbers[step.stream], self._speech.most
        for at in range(0, len(step.data), most):
            part = step.data[at : at + most]
            self._pieces.append((step.start + at + len(part), number + part))

    # Input

    async def _hear(self) -> None:
        """Take its input to the end of it. Raises OSError when it has gone.

        What it has sent stays in the kernel's hands until the program's stdin has it.
        """
        while data := await self._peek():
            await self._type(data)
            self._peer.recv(len(data))
        self.listens = False
        await self._ended(self)
        await self.wait_gone()
        raise BrokenPipeError

    async def _peek(self) -> bytes:
        """Return the next packet, and leave it there; nothing at the end of its input."""
        while True:
            await trio.lowlevel.wait_readable(self._peer)
            with contextlib.suppress(BlockingIOError):
                return self._peer.recv(INPUT_BYTES, socket.MSG_PEEK)

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
