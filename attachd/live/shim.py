"""The shim: what one container's server is made of, who runs when, and when it may go."""

import contextlib
import os
import socket

import trio

from attachd import __version__
from attachd.keeper import files
from attachd.keeper.descriptors import Table
from attachd.keeper.parcels import Post
from attachd.keeper.server import HEALTHY_AFTER
from attachd.live.accepting import accept_clients
from attachd.live.cgroup import oom_kills
from attachd.live.connection import Connection
from attachd.live.container import Container
from attachd.live.door import Door, room_for_clients
from attachd.live.ending import Copy, clean_up, write_record
from attachd.live.entrance import Entrance
from attachd.live.exec import Home
from attachd.live.execs import Execs
from attachd.live.feed import Bell, Feed
from attachd.live.guardian import Guardian
from attachd.live.journal import JournalLog
from attachd.live.leaving import is_out_of_the_way, leave_nothing, make_way
from attachd.live.log import Care, Log
from attachd.live.logfile import LogFile
from attachd.live.news import News
from attachd.live.program import Ends, Program
from attachd.live.settings import Settings
from attachd.live.shelf import Shelf, number_of
from attachd.live.spare import Spare
from attachd.live.squeeze import squeeze
from attachd.state import journal
from attachd.state.asciicast import end_text
from attachd.state.header import Header
from attachd.state.journal import Entries
from attachd.state.retention import Limits
from attachd.wire import messages as say

#: Clients that still read old output when the container has ended get this long for the rest.
LAST_CALL_SECONDS = 30.0

#: A goodbye is small: a client that does not take it in this time is cut off.
GOODBYE_SECONDS = 1.0


class Shim:
    """The conductor: owns the nursery and everything in it. Clients ask it for what they want."""

    def __init__(
        self, table: Table, header: Header, settings: Settings, entrance: Entrance
    ) -> None:
        self.settings = settings
        self._entrance = entrance
        self._spare = Spare()
        self._table = table
        self._header = header
        self._directory = os.readlink(f"/proc/self/fd/{table.directory}")
        self._post = Post(table.parcels, table.kept)
        self._news = News(table.news, self._post)
        self._guardian = Guardian(table, header, self._post, self._note_keeper)
        self.container = Container(
            header, self._directory, settings, self._news, self._guardian, table.init
        )
        feed = Feed(table.ring, header)
        self._files: list[tuple[LogFile, Shelf]] = []
        logs = [self._make_log(feed, number) for number in range(len(settings.logs))]
        self.program = self._make_program(feed, logs)
        for log, _ in self._files:
            log.know_end(self._end)
            if self.program.past is not None:
                log.know_sizes(self.program.past.timeline)
        self.execs = Execs(self._make_home(), self.container, table.kept)
        self.door = Door(room_for_clients())
        self._connections: set[Connection] = set()
        self._gone = Bell()

    async def run(self) -> None:
        """Serve until the container has ended and its clients know; then remove the socket."""
        async with trio.open_nursery() as nursery:
            await self.container.find_start()
            nursery.start_soon(self._news.run)
            nursery.start_soon(self._guardian.run)
            nursery.start_soon(self.execs.run)
            nursery.start_soon(self._accept_clients, nursery)
            nursery.start_soon(self.container.watch_keeper)
            nursery.start_soon(self.container.enforce_timeout)
            nursery.start_soon(self._forget_trouble)
            self.program.tend(nursery)
            self._entrance.open(self.program, self._post)
            nursery.start_soon(self._entrance.run)
            self._header.up = os.getpid()
            self._compress(nursery)
            await self._follow()
            await self._linger()
            nursery.cancel_scope.cancel()
        with contextlib.suppress(OSError):
            os.unlink(files.SOCKET, dir_fd=self._table.directory)
        if self.settings.door:
            leave_nothing(self._table.directory)

    async def _follow(self) -> None:
        """Pump and log until the container has ended; write down how, and tell everybody."""
        settings, program = self.settings, self.program
        async with trio.open_nursery() as nursery:
            for log in program.logs:
                nursery.start_soon(log.run)
            drained = await program.play()
        await self.execs.finish(settings.drain_timeout)
        with self._spare.lent():
            kills = oom_kills(settings.cgroups)
        record = write_record(
            self._header,
            program.feed,
            container=settings.id,
            stream_id=settings.stream_id,
            path=os.path.join(self._directory, files.EXIT),
            oom_kills=kills,
            drained=drained,
            recovered=settings.recovered,
            logs=program.logs,
            spare=self._spare,
        )
        copy = Copy(self._header, record, settings.exit_file)
        copy.write()
        self.container.write_phase()
        program.feed.finish(record)
        await copy.write_again()
        if settings.door:
            await self._entrance.finish(record)
            make_way(self._table.directory, settings.id, self._post.kept)
        await clean_up(self._header, self.container, settings)

    async def _end(self) -> tuple[int, str]:
        await self.container.wait_exit()
        header = self._header
        return header.exit_time, end_text(header.exit_code, header.exit_status)

    async def _forget_trouble(self) -> None:
        """Take back what the keeper tells of servers that did not stay: this one does."""
        if files.TROUBLE in os.listdir(self._directory):
            await trio.sleep(HEALTHY_AFTER)
            files.remove_file(os.path.join(self._directory, files.TROUBLE))

    # What it is made of

    def _make_program(self, feed: Feed, logs: list[Log]) -> Program:
        table = self._table
        ends = Ends(**{name: getattr(table, name) for name in Ends._fields})
        return Program(
            self.container,
            self.settings.manners,
            ends,
            self._header,
            feed,
            self._directory,
            close_stdin=self._close_stdin,
            logs=logs,
        )

    def _make_home(self) -> Home:
        settings = self.settings
        return Home(
            directory=self._directory,
            id=settings.id,
            cgroups=settings.cgroups,
            bundle=settings.bundle,
            pid=self._header.pid,
            guardian=self._guardian,
            create_timeout=settings.create_timeout,
            drain_timeout=settings.drain_timeout,
            size_policy=settings.size_policy,
            news=self._news,
            post=self._post,
            spare=self._spare,
        )

    def _note_keeper(self, pid: int) -> None:
        """There is an heir: what waits for the keeper that has died looks again."""
        if not is_out_of_the_way(self._table.directory):  # or its files are another's by now
            self.container.note_keeper(pid)
        self._news.tell()

    def _close_stdin(self) -> None:
        os.eventfd_write(self._table.orders, 1)

    def _make_shelf(self, number: int) -> Shelf:
        kept = self._table.kept
        held = {
            name: fd
            for name, fd in kept.items()
            if name.startswith("log") and number_of(name) == number
        }
        settings = self.settings
        return Shelf(
            number,
            settings.logs[number],
            held,
            self._directory,
            self._post,
            brief=bool(settings.door.exec_of),
        )

    def _make_log(self, feed: Feed, number: int) -> Log:
        spec, pair, care = self.settings.logs[number], self._header.log(number), self._care()
        if spec.format == journal.FORMAT:
            entries = Entries(self.settings.id, self.settings.journal)
            return JournalLog(number, feed, pair, spec.path, entries, care)
        shelf = self._make_shelf(number)
        log = LogFile(number, feed, shelf, spec.format, pair, care)
        self._files.append((log, shelf))
        return log

    def _care(self) -> Care:
        care = self.settings.log_care
        limits = Limits(care.max_size, care.max_files, care.max_age, care.max_total)
        return Care(
            limits,
            blocks=care.on_error == "block",
            syncs=care.sync,
            patience=self.settings.drain_timeout,
            cuts=care.cuts,
            max_ever=care.max_ever,
        )

    def _compress(self, nursery: trio.Nursery) -> None:
        how = self.settings.log_care.compress
        if how:
            for log, shelf in self._files:
                nursery.start_soon(squeeze, log, shelf, how)

    # What clients ask for

    async def find(self, hello: say.Hello, key: bytes) -> Program:
        """Return what a client wants to attach to. Raises AttachdError."""
        if hello.exec or hello.spec:
            return await self.execs.open(hello, key)
        return self.program

    def report(self, most: int) -> dict[str, object]:
        """Return the shim's counters, and those of ``most`` clients of each program."""
        logs = zip(self.settings.logs, self.program.logs, strict=True)
        return {
            "id": self.settings.id,
            "keeper_pid": self._guardian.pid,
            "server_pid": os.getpid(),
            "tasks": trio.lowlevel.current_statistics().tasks_living,
            "version": __version__,
            "upgrades": self._header.upgrades,
            **self.program.report(most),
            "logs": [
                {"format": spec.format, "path": say.plain(spec.path)} | log.counters
                for spec, log in logs
            ],
            "execs": self.execs.report(most),
            "door": self._report_door(),
        }

    def _report_door(self) -> dict[str, object] | None:
        kind = self.settings.door.kind
        return {"kind": kind, "connected": self._entrance.clients} if kind else None

    # Connections

    async def _accept_clients(self, nursery: trio.Nursery) -> None:
        """Serve whoever connects. Ends when cancelled."""
        accepted = trio.socket.fromfd(self._table.listener, socket.AF_UNIX, socket.SOCK_STREAM)
        listener = trio.SocketListener(accepted)
        await accept_clients(listener, self._serve, nursery)

    async def _serve(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream, self)
        if not self.door.enter(connection):
            connection.turn_away()  # and whoever has called us closes it
            return
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self.door.leave(connection)
            self._connections.discard(connection)
            self._gone.ring()

    async def _linger(self) -> None:
        """Return when the end was told: after the linger time, and after the last reader."""
        with trio.move_on_after(self.settings.linger):
            await self.program.released.wait()
        with trio.move_on_after(LAST_CALL_SECONDS):
            while self._entrance.behind or any(c.behind for c in self._connections):
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
