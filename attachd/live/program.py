"""A program whose stdio we hold, the container's own or an exec's: all that clients attach to."""

import contextlib
import fcntl
import os
import struct
import termios
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from attachd.errors import LifecycleError, Refused
from attachd.live.ending import drain
from attachd.live.feed import Bell, Feed
from attachd.live.keyboard import Keyboard
from attachd.live.log import Log
from attachd.live.memory import Memory
from attachd.live.past import Past
from attachd.live.pump import pump
from attachd.live.report import report_on_clients
from attachd.live.screen import Screen
from attachd.live.settings import Manners
from attachd.live.stdin import Stdin
from attachd.live.terminal import Terminal
from attachd.live.writers import Writers
from attachd.state.header import Header
from attachd.state.lifecycle import Phase
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES, STREAMS
from attachd.wire import messages as say

if TYPE_CHECKING:
    from attachd.live.connection import Connection


#: A log that can be written is written in much less than this.
SETTLE_SECONDS = 1.0
SETTLE_PAUSE = 0.005


def waiting_in(fd: int) -> int:
    """Return how many bytes lie in a pipe or a terminal (FIONREAD); 0 for what is none."""
    with contextlib.suppress(OSError, ValueError):
        return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
    return 0


class Ends(NamedTuple):
    """Our descriptors of one program's stdio; -1 for what it does not have."""

    ring: int
    intake: int
    stdout: int
    stderr: int = -1
    stdin: int = -1
    inner: int = -1
    terminal: int = -1


class Process(Protocol):
    """What is asked of the process itself."""

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""

    async def start(self) -> None:
        """Have it begin. Raises LifecycleError or RuntimeFailed."""

    def signal(self, number: int) -> None:
        """Send it a signal. Raises LifecycleError or Refused."""

    async def wait_exit(self) -> None:
        """Return when its end is in the header."""


class Program:
    """One program's output, input, writers and clients. Construct, ``tend``, then ``play``."""

    def __init__(
        self,
        process: Process,
        manners: Manners,
        ends: Ends,
        header: Header,
        feed: Feed,
        directory: str,
        *,
        close_stdin: Callable[[], None],
        when_attached: Callable[[], None] = lambda: None,
        logs: Sequence[Log] = (),
    ) -> None:
        self.process = process
        self.manners = manners
        self.feed = feed
        self.logs = logs
        self.memory = Memory(feed, list(logs))
        self.clients: set[Connection] = set()
        self.expected: set[Connection] = set()  #: on their way to a place in the output
        self.left = Bell()  #: rung when one has gone
        self.released = Bell()
        #: called when a client has its place in the output, or will not take one
        self.when_attached = when_attached
        self.when_left: Callable[[], None] = lambda: None  #: called when one has gone
        self._ends = ends
        self._header = header
        self._screen: Screen | None = None
        if manners.terminal:
            terminal = Terminal(feed, ends.terminal, ends.stdout, ends.inner)
            # The keeper may have heeded a wish for another size before there was a server.
            first = terminal.size if terminal.size.usable else manners.size
            self._screen = Screen(feed, terminal, Past(feed, directory, first))
        self.stdin = self._make_stdin(close_stdin)
        self.writers = Writers(
            header.lease,
            header.latest,
            self._screen,
            manners.size_policy,
            again=header.servers_before > 0,
        )

    @property
    def past(self) -> Past | None:
        """The terminal's past, if there is a terminal."""
        return self._screen.past if self._screen else None

    @property
    def seen(self) -> bool:
        """True when a client that may type was given all its output and told how it ended."""
        return bool(self._header.seen)

    def leave(self, client: "Connection") -> None:
        """A client has gone."""
        self.clients.discard(client)
        self.expected.discard(client)
        if client.role == "full" and client.saw_all:
            self._header.seen = 1
        self.when_attached()
        self.left.ring()
        self.when_left()

    def tend(self, nursery: trio.Nursery) -> None:
        """Begin what goes on in the background until ``nursery`` is cancelled."""
        nursery.start_soon(self.stdin.run)
        nursery.start_soon(self.stdin.miss_writers)
        nursery.start_soon(self.writers.gather)
        if self._screen is not None:
            nursery.start_soon(self._screen.run)

    async def play(self) -> bool:
        """Pump until the program has ended; return False when not all of its output came."""
        async with trio.open_nursery() as pumps:
            self._start_pumps(pumps)
            await self.process.wait_exit()
            self.stdin.end()
            limit, owed = self.manners.drain_timeout, self.feed.index.newest + self._waiting()
            return await drain(self.feed, pumps.cancel_scope, limit, owed)
        raise AssertionError("the nursery lets the return through")

    async def settle(self) -> None:
        """Let no more output arrive; return when the logs have what there is, or do not get it.

        To be followed by the end of this process: until there is a successor, what must not be
        lost is in the logs and in the program's own pipes.
        """
        self.feed.close()
        with trio.move_on_after(SETTLE_SECONDS):
            while any(log.written < self.feed.index.newest for log in self.logs):  # noqa: ASYNC110
                await trio.sleep(SETTLE_PAUSE)

    async def rotate_logs(self) -> None:
        """Begin a new file of each log. Raises Refused where there is none."""
        self._need_logs()
        for log in self.logs:
            await log.rotate()

    async def reopen_logs(self) -> None:
        """Go on in the files that have the logs' names now. Raises Refused where there is none."""
        self._need_logs()
        for log in self.logs:
            await log.reopen()

    def _need_logs(self) -> None:
        if self.manners.name:
            raise Refused("bad_request", "an exec has no log")

    def _waiting(self) -> int:
        """Return how many bytes lie in the program's pipes, or its terminal (FIONREAD)."""
        ends = self._ends
        return sum(map(waiting_in, (ends.stdout, ends.stderr, ends.terminal)))

    def release(self) -> None:
        """Have an ended program go at once. Raises LifecycleError."""
        if self.feed.record is None:
            phase = self.process.phase.value
            raise LifecycleError(f"cannot release a container that is {phase}")
        self.released.ring()

    def hurry(self) -> None:
        """Wait for no client any more: what one misses it is told."""
        for client in self.clients:
            client.let_go()

    def report(self, most: int) -> dict[str, object]:
        """Return the program's counters, and those of ``most`` clients."""
        index, header = self.feed.index, self._header
        return {
            "phase": self.process.phase.value,
            "pid": header.pid,
            "restarts": header.restarts,
            "oldest": index.oldest,
            "newest": index.newest,
            "ring_size": header.ring_size,
            "bytes": {STREAM_NAMES[stream]: index.bytes_of(stream) for stream in STREAMS},
            "stdin": self.stdin.counters,
            "terminal": self._screen.counters | {"policy": self.manners.size_policy}
            if self._screen
            else None,
            "writer": self.writers.holder,
            "served": header.served,
            "gaps": header.gaps,
            "missed": header.missed,
            "connected": len(self.clients),
            "clients": report_on_clients(self.clients, most),
        }

    def count_client(self) -> int:
        """Count one more; return how many have come since the program was made."""
        self._header.served += 1
        return self._header.served

    def close(self) -> None:
        """Close every descriptor. Nothing of it may be in use any more."""
        self.stdin.close()
        for fd in self._ends._replace(stdin=-1):
            if fd >= 0:
                os.close(fd)

    def _start_pumps(self, pumps: trio.Nursery) -> None:
        if self._screen is not None:
            pumps.start_soon(self._screen.past.run)
            self.feed.end_stream(STDERR)  # a terminal has one stream
            pumps.start_soon(self._screen.terminal.pump, self.process.wait_exit)
        else:
            streams = {self._ends.stdout: STDOUT, self._ends.stderr: STDERR}
            pumps.start_soon(pump, self.feed, streams)

    def _make_stdin(self, close_stdin: Callable[[], None]) -> Stdin:
        manners, ends = self.manners, self._ends
        if self._screen is not None and manners.stdin:
            terminal = self._screen.terminal
            return Keyboard(
                self._header, terminal, ends.intake, self._tell_writer, manners.stdin_eof
            )
        return Stdin(self._header, ends.stdin, ends.intake, close_stdin, manners.stdin_eof)

    def _tell_writer(self, key: bytes, text: str) -> None:
        for client in self.clients:
            if client.key == key:
                client.tell(say.Notice(code="line_too_long", text=text))
