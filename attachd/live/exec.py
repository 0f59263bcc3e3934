"""One exec: another program in the container, with stdio, clients and an end of its own.

What it is made of outlives the server: descriptors at the keeper, ``exec.json`` beside them.
The keeper calls the runtime and notes both ends; see `keeper.execs`.
"""

import contextlib
import fcntl
import math
import os
import signal

import attrs
import trio

from attachd.errors import AttachdError, LifecycleError, Refused, RuntimeFailed
from attachd.keeper import files
from attachd.keeper.descriptors import map_header
from attachd.keeper.execs import ENDS, KILLED, parcel
from attachd.keeper.parcels import Post
from attachd.keeper.runtime import LAST_READS, Words, failure
from attachd.live import pidfd
from attachd.live.cgroup import oom_kills
from attachd.live.container import watch_keeper
from attachd.live.ending import write_record
from attachd.live.feed import Feed
from attachd.live.guardian import Guardian
from attachd.live.news import News
from attachd.live.program import Ends, Program, waiting_in
from attachd.live.settings import Manners
from attachd.live.spare import NO_SPARE, Spare
from attachd.live.stdin import RETURN_SECONDS
from attachd.state.lifecycle import Phase, phase_of

#: What the keeper holds for the server; ``terminal`` comes when the runtime has made it.
PARTS = ("header", "ring", "intake", "stdin", "stdout", "stderr", "inner", "terminal", "pidfd")

#: A runtime that was killed is reaped at once.
REAP_SECONDS = 1.0

#: A runtime that fills its pipe is looked at so often.
FLOOD_SECONDS = 0.5


@attrs.frozen(kw_only=True)
class Birth:
    """What was noted of an exec when it was made: the content of ``exec.json``."""

    manners: Manners
    creator: bytes  #: the key of the client that has asked for it
    argv: list[str]
    user: str
    cwd: str
    made_at: int  #: ns
    oom_before: int  #: OOM kills in the container's cgroup until then


@attrs.frozen(kw_only=True)
class Home:
    """What all execs of a container share."""

    directory: str  #: the container's state directory
    id: str
    cgroups: list[str]
    bundle: str
    pid: int  #: the container's init
    guardian: Guardian
    create_timeout: float
    drain_timeout: float
    size_policy: str
    news: News
    post: Post
    spare: Spare = NO_SPARE


class Exec:
    """A process of the container besides its own. ``run`` it, and attach to ``program``."""

    def __init__(self, home: Home, birth: Birth, held: dict[str, int], *, again: bool) -> None:
        self.birth = birth
        self.name = birth.manners.name
        self.program: Program | None = None
        self.failure: AttachdError | None = None  #: why it never ran
        self.again = again  #: a server before us has made it
        self.finished = trio.Event()  #: there is a record, or a failure
        self._home = home
        self._held = held
        self._header = map_header(held["header"])
        self._header.created = 1
        self._header.restarts += again
        self._pidfd = held.pop("pidfd", -1)
        #: nobody is on the way who must see the next byte
        self._flows = again and not birth.manners.allow_block
        self._changed = trio.lowlevel.ParkingLot()
        self._words = Words(held.get("stderr", -1))

    # What Program asks of a process

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        header = self._header
        return phase_of(header.created, header.started, header.exit_code)

    async def start(self) -> None:
        """Refuse: it was started when it was made."""
        raise LifecycleError(f"cannot start an exec that is {self.phase.value}")

    def signal(self, number: int) -> None:
        """Send a signal to the program. Raises LifecycleError or Refused."""
        if self._pidfd < 0 or self.phase is Phase.STOPPED:
            raise LifecycleError("cannot signal an exec that is stopped")
        pidfd.send(self._pidfd, number)

    async def wait_exit(self) -> None:
        """Return when its end is in the header."""
        while not self._header.exit_code:
            await self._home.news.wait()

    # Its life

    @property
    def path(self) -> str:
        """Its directory."""
        return os.path.join(self._home.directory, files.EXECS, self.name)

    async def wait_started(self) -> Program:
        """Return the program as soon as it runs. Raises what it has failed of."""
        while self.program is None:
            if self.failure is not None:
                raise self.failure
            if self.finished.is_set():
                raise Refused("no_exec", f"exec {self.name} has ended, and was forgotten")
            await self._changed.park()
        return self.program

    def let_flow(self) -> None:
        """Whoever made it is attached, or gone: output may move on."""
        self._flows = True
        self._changed.unpark_all()

    @property
    def is_watched(self) -> bool:
        """True while a client is attached."""
        program = self.program
        return program is not None and bool(program.clients or program.expected)

    @property
    def is_seen(self) -> bool:
        """True when somebody who may type was told how it ended, or why it never began."""
        return self.program is None or self.program.seen

    @property
    def ended_at(self) -> int:
        """When its program ended, ns; 0 before."""
        return self._header.exit_time

    def let_go(self) -> None:
        """Nobody wants an ended one any more: ``run`` returns."""
        if self.program is not None:
            self.program.released.ring()

    async def run(self, starts: trio.CapacityLimiter) -> None:
        """Live to the end; return when ``let_go`` says that nobody wants it any more.

        On cancel: the program goes on; a later server takes it up.
        """
        try:
            async with starts:
                await self._begin()
        except AttachdError as error:
            self.failure = error
            self.finished.set()
            self._changed.unpark_all()
            return
        program = self.program = self._make_program()
        self._changed.unpark_all()
        await self._live(program)

    async def _live(self, program: Program) -> None:
        """Play it to its end, tell that, and go on until nobody wants it any more."""
        async with trio.open_nursery() as nursery:
            program.tend(nursery)
            if self._pidfd >= 0:
                home = self._home
                nursery.start_soon(
                    watch_keeper, self._pidfd, self._header, home.news, home.guardian
                )
            with trio.move_on_after(RETURN_SECONDS if self.again else math.inf):
                while not self._flows:
                    await self._changed.park()
            drained = await program.play()
            program.feed.finish(self._write_record(program, drained))
            self.finished.set()
            await program.released.wait()
            while self.is_watched:
                await program.left.wait()
            nursery.cancel_scope.cancel()

    def close(self) -> None:
        """Close all descriptors, here and at the keeper; ``run`` must have ended."""
        fds = dict(self._held)
        if self.program is not None:
            self.program.close()
            self.program = None  # a cycle would keep the header's mapping for long
            fds = {"header": fds["header"]}
        for fd in fds.values():
            os.close(fd)
        if self._pidfd >= 0:
            os.close(self._pidfd)
        for part in (*PARTS, *ENDS):  # without the first one it is nobody's
            self._home.post.drop(parcel(self.name, part))

    # Inside

    async def _begin(self) -> None:
        """Have the keeper call the runtime, and wait for what comes of it."""
        header = self._header
        limit = self._home.create_timeout
        with trio.move_on_after(limit):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hear_flood)
                await self._wait_begun()
                nursery.cancel_scope.cancel()
        if not (header.started or header.failed):
            await self._stop_runtime()
            said = self._last_words()
            raise RuntimeFailed("exec", 137, f"not done after {limit:g} seconds", said)
        if header.failed == KILLED:
            # No words: the program ran already and they are its own, or they tell of the kill.
            told = "whoever made the program was killed meanwhile (137): try again"
            raise RuntimeFailed("exec", KILLED, told, "")
        if header.failed:
            log = os.path.join(self.path, files.RUNTIME_LOG)
            raise failure("exec", header.failed, self._last_words(), log)
        await self._take_terminal()
        if self._pidfd < 0 and (fd := pidfd.open_child(header)) >= 0:
            self._pidfd = fd
            self._home.post.keep(parcel(self.name, "pidfd"), fd)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.path, files.PROCESS))  # variables may be secrets

    async def _wait_begun(self) -> None:
        """Order it from the keeper, and from each heir; return when that is done."""
        header, guardian, ordered = self._header, self._home.guardian, 0
        while not (header.started or header.failed):
            if guardian.pid != ordered and not header.runtime_pid:
                self._home.post.send("begin", self.name)
            ordered = guardian.pid
            await self._home.news.wait()

    async def _stop_runtime(self) -> None:
        with contextlib.suppress(OSError):
            if self._header.runtime_pid:
                os.kill(self._header.runtime_pid, signal.SIGKILL)
        with trio.move_on_after(REAP_SECONDS):
            await self._wait_begun()

    async def _take_terminal(self) -> None:
        if not self.birth.manners.terminal or "terminal" in self._held:
            return
        name = parcel(self.name, "terminal")
        self._held["terminal"] = await self._home.news.fetch(name)

    async def _hear_flood(self) -> None:
        """Have a runtime that talks without end not wait for ever. Ends when cancelled.

        What it says goes where the program's stderr will, and nobody reads that before there is a
        program. When there is none, and the pipe has been full of the same for a while, it is the
        runtime's own words that fill it.
        """
        stderr, before = self._held.get("stderr", -1), 0
        while stderr >= 0:
            await trio.sleep(FLOOD_SECONDS)
            waiting = waiting_in(stderr)
            full = waiting > fcntl.fcntl(stderr, fcntl.F_GETPIPE_SZ) // 2
            if full and waiting == before and not self._has_pid():
                while self._words.listen():
                    await trio.lowlevel.checkpoint()
            before = waiting

    def _last_words(self) -> str:
        """Return what the runtime said where the program's stderr would have been."""
        left = LAST_READS if self._words.fd >= 0 else 0
        while left and self._words.listen():
            left -= 1
        return self._words.text

    def _has_pid(self) -> bool:
        """True as soon as the runtime has made the program."""
        return os.path.exists(os.path.join(self.path, files.PID))

    def _make_program(self) -> Program:
        held, header = self._held, self._header
        ends = Ends(**{name: fd for name, fd in held.items() if name != "header"})
        feed = Feed(held["ring"], header)
        program = Program(
            self,
            self.birth.manners,
            ends,
            header,
            feed,
            self.path,
            close_stdin=self._close_stdin,
            when_attached=self.let_flow,
        )
        program.stdin.owner = self.birth.creator
        return program

    def _close_stdin(self) -> None:
        self._home.post.drop(parcel(self.name, "stdin"))

    def _write_record(self, program: Program, drained: bool) -> dict[str, object]:
        home = self._home
        with home.spare.lent():
            kills = oom_kills(home.cgroups)
        return write_record(
            self._header,
            program.feed,
            container=home.id,
            execution=self.name,
            stream_id=self.birth.manners.stream_id,
            path=os.path.join(self.path, files.EXIT),
            oom_kills=max(0, kills - self.birth.oom_before),
            drained=drained,
            spare=home.spare,
        )
