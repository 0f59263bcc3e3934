"""The shim: what one container's server is made of, who runs when, and when it may go."""

import contextlib
import os
import socket

import trio

from attachd.errors import LifecycleError
from attachd.keeper import files
from attachd.keeper.descriptors import Table
from attachd.keeper.parcels import Post
from attachd.live.connection import Connection
from attachd.live.container import Container
from attachd.live.ending import clean_up, drain, write_record
from attachd.live.feed import Bell, Feed
from attachd.live.keyboard import Keyboard
from attachd.live.logfile import Care, LogFile
from attachd.live.memory import Memory
from attachd.live.past import Past
from attachd.live.pump import pump
from attachd.live.screen import Screen
from attachd.live.settings import Settings
from attachd.live.shelf import Shelf, number_of
from attachd.live.squeeze import squeeze
from attachd.live.stdin import Stdin
from attachd.live.terminal import Terminal
from attachd.live.writers import Writers
from attachd.state.header import Header
from attachd.state.retention import Limits
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES, STREAMS
from attachd.wire import messages as say

#: Clients that still read old output when the container has ended get this long for the rest.
LAST_CALL_SECONDS = 30.0

#: A goodbye is small: a client that does not take it in this time is cut off.
GOODBYE_SECONDS = 1.0


class Shim:
    """The conductor: owns the nursery and everything in it. Clients ask it for what they want."""

    def __init__(self, table: Table, header: Header, settings: Settings) -> None:
        self.settings = settings
        self.feed = Feed(table.ring, header)
        self._table = table
        self._header = header
        self._directory = os.readlink(f"/proc/self/fd/{table.directory}")
        self._screen: Screen | None = None
        if settings.terminal:
            terminal = Terminal(self.feed, table.terminal, table.stdout, table.inner)
            past = Past(self.feed, self._directory, settings.size)
            self._screen = Screen(self.feed, terminal, past)
        self.stdin = self._make_stdin()
        self.writers = Writers(
            header.lease,
            header.latest,
            self._screen,
            settings.size_policy,
            again=header.restarts > 0,
        )
        self.container = Container(header, self._directory, settings, table.news)
        self._shelves = [self._make_shelf(number) for number in range(len(settings.logs))]
        self._logs = [self._make_log(shelf) for shelf in self._shelves]
        self.memory = Memory(self.feed, self._logs)
        self._connections: set[Connection] = set()
        self._released = Bell()
        self._gone = Bell()

    async def run(self) -> None:
        """Serve until the container has ended and its clients know; then remove the socket."""
        settings = self.settings
        async with trio.open_nursery() as nursery:
            await self.container.find_start()
            nursery.start_soon(self._accept_clients, nursery)
            nursery.start_soon(self.stdin.run)
            nursery.start_soon(self.stdin.miss_writers)
            nursery.start_soon(self.container.hear_news)
            nursery.start_soon(self.container.watch_keeper)
            nursery.start_soon(self.container.enforce_timeout)
            nursery.start_soon(self.writers.gather)
            if settings.log_care.compress:
                for log, shelf in zip(self._logs, self._shelves, strict=True):
                    nursery.start_soon(squeeze, log, shelf, settings.log_care.compress)
            if self._screen is not None:
                nursery.start_soon(self._screen.run)
            await self._follow()
            await self._linger()
            nursery.cancel_scope.cancel()
        with contextlib.suppress(OSError):
            os.unlink(files.SOCKET, dir_fd=self._table.directory)

    async def _follow(self) -> None:
        """Pump and log until the container has ended; write down how, and tell everybody."""
        settings = self.settings
        async with trio.open_nursery() as logs:
            for log in self._logs:
                logs.start_soon(log.run)
            async with trio.open_nursery() as pumps:
                self._start_pumps(pumps)
                await self.container.wait_exit()
                self.stdin.end()
                limit = settings.drain_timeout
                drained = await drain(self.feed, pumps.cancel_scope, limit)
        record = write_record(
            self._header, self.feed, self._logs, settings, self._directory, drained
        )
        self.container.write_phase()
        self.feed.finish(record)
        await clean_up(self._header, self.container, settings)

    def _start_pumps(self, pumps: trio.Nursery) -> None:
        if self._screen is not None:
            pumps.start_soon(self._screen.past.run)
            self.feed.end_stream(STDERR)  # a terminal has one stream
            pumps.start_soon(self._screen.terminal.pump, self.container.wait_exit)
        else:
            pumps.start_soon(pump, self.feed, self._table.stdout, STDOUT)
            pumps.start_soon(pump, self.feed, self._table.stderr, STDERR)

    def _make_stdin(self) -> Stdin:
        header, table, settings = self._header, self._table, self.settings
        if self._screen is not None and settings.stdin:
            terminal = self._screen.terminal
            ours = (table.intake, table.orders, self._tell_writer, settings.stdin_eof)
            return Keyboard(header, terminal, *ours)
        return Stdin(header, table.stdin, table.intake, table.orders, settings.stdin_eof)

    def _tell_writer(self, key: bytes, text: str) -> None:
        for connection in self._connections:
            if connection.key == key:
                connection.tell(say.Notice(code="line_too_long", text=text))

    def _make_shelf(self, number: int) -> Shelf:
        held = {name: fd for name, fd in self._table.logs.items() if number_of(name) == number}
        post = Post(self._table.parcels)
        return Shelf(number, self.settings.logs[number], held, self._directory, post)

    def _make_log(self, shelf: Shelf) -> LogFile:
        care, number = self.settings.log_care, shelf.number
        limits = Limits(care.max_size, care.max_files, care.max_age, care.max_total)
        ours = Care(limits, care.on_error == "block", care.sync, self.settings.drain_timeout)
        form = self.settings.logs[number].format
        return LogFile(number, self.feed, shelf, form, self._header.log(number), ours)

    # What clients ask for

    async def rotate_logs(self) -> None:
        """Begin a new file of each log."""
        for log in self._logs:
            await log.rotate()

    async def reopen_logs(self) -> None:
        """Go on in the files that have the logs' names now."""
        for log in self._logs:
            await log.reopen()

    @property
    def past(self) -> Past | None:
        """The terminal's past, if there is a terminal."""
        return self._screen.past if self._screen else None

    def release(self) -> None:
        """Let the shim of an ended container go at once. Raises LifecycleError."""
        if self.feed.record is None:
            phase = self.container.phase.value
            raise LifecycleError(f"cannot release a container that is {phase}")
        self._released.ring()

    def count_client(self) -> int:
        """Count one more; return how many have come since the container was made."""
        self._header.served += 1
        return self._header.served

    def report(self) -> dict[str, object]:
        """Return the shim's counters, and each client's."""
        index, header = self.feed.index, self._header
        logs = zip(self.settings.logs, self._logs, strict=True)
        return {
            "id": self.settings.id,
            "phase": self.container.phase.value,
            "pid": header.pid,
            "keeper_pid": os.getppid(),
            "server_pid": os.getpid(),
            "restarts": header.restarts,
            "oldest": index.oldest,
            "newest": index.newest,
            "ring_size": header.ring_size,
            "bytes": {STREAM_NAMES[stream]: index.bytes_of(stream) for stream in STREAMS},
            "logs": [
                {"format": spec.format, "path": say.plain(spec.path)} | log.counters
                for spec, log in logs
            ],
            "stdin": self.stdin.counters,
            "terminal": self._screen.counters | {"policy": self.settings.size_policy}
            if self._screen
            else None,
            "writer": self.writers.holder,
            "served": header.served,
            "gaps": header.gaps,
            "missed": header.missed,
            "clients": [connection.counters for connection in self._connections],
        }

    # Connections

    async def _accept_clients(self, nursery: trio.Nursery) -> None:
        """Serve whoever connects. Ends when cancelled."""
        accepted = trio.socket.fromfd(self._table.listener, socket.AF_UNIX, socket.SOCK_STREAM)
        listener = trio.SocketListener(accepted)
        await trio.serve_listeners(self._serve, [listener], handler_nursery=nursery)

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream, self)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._gone.ring()

    async def _linger(self) -> None:
        """Return when the end was told: after the linger time, and after the last reader."""
        with trio.move_on_after(self.settings.linger):
            await self._released.wait()
        with trio.move_on_after(LAST_CALL_SECONDS):
            while any(connection.behind for connection in self._connections):
                await self._wait_moved()
        for connection in self._connections:
            connection.say_goodbye("ended", "the container has ended and its shim goes")
        with trio.move_on_after(GOODBYE_SECONDS):
            while self._connections:
                await self._gone.wait()

    async def _wait_moved(self) -> None:
        """Return when a connection has ended or a moment has passed."""
        with trio.move_on_after(0.05):
            await self._gone.wait()
