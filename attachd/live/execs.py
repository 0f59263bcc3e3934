"""All execs of a container: how they are made, found, listed, and forgotten.

What runs is kept. What has ended is kept until somebody who may type was told how; of those
that nobody has asked for, the newest few. Their records stay on the disk for a while longer.
"""

import contextlib
import gc
import os
import secrets
import shutil
import signal
from collections import deque
from collections.abc import Mapping

import trio

from attachd.errors import AttachdError, Denied, LifecycleError, Refused
from attachd.keeper import files
from attachd.keeper.claim import ID
from attachd.live import execbirth
from attachd.live.container import Container
from attachd.live.exec import Exec, Home
from attachd.live.program import Program
from attachd.live.stdin import RETURN_SECONDS
from attachd.state.execspec import MAX_NAME, parse_spec
from attachd.state.lifecycle import Phase
from attachd.state.times import rfc3339
from attachd.wire import messages as say

#: Each takes some eight descriptors here and at the keeper.
MAX_EXECS = 1000

#: So many runtimes at once: each is a program of many threads that starts another.
STARTS_AT_ONCE = 8

#: Of execs that have ended unseen so many keep their output, and of all so many their record.
KEPT, RECORDS = 16, 64

#: What was killed is reaped, drained and noted in much less, also without a drain timeout.
FINISH_SECONDS = 1.0

#: So many characters of a command line, and of a user, are told in a report.
SHOWN = 120


class Execs:
    """The execs of one container. ``run`` it, then ``open`` what clients ask for."""

    def __init__(self, home: Home, container: Container, kept: Mapping[str, int]) -> None:
        self._home = home
        self._container = container
        self._path = os.path.join(home.directory, files.EXECS)
        self._execs: dict[str, Exec] = {}
        self._closed = trio.lowlevel.ParkingLot()
        self._starts = trio.CapacityLimiter(STARTS_AT_ONCE)
        self._nursery: trio.Nursery | None = None
        self._adopted = execbirth.adopt(home, kept)
        self._records = deque(self._find_records())
        self._last = max((int(n) for n in self._names() if n.isdigit()), default=0)

    async def run(self) -> None:
        """Have all of them live. Ends when cancelled: then they go on without us."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for made in self._adopted:
                self._begin(made)
            await trio.sleep_forever()

    async def open(self, hello: say.Hello, key: bytes) -> Program:
        """Return the exec that a client means, made first when that is what it asks for.

        Raises Denied, Refused, or RuntimeFailed when the program cannot be executed. On cancel:
        it goes on.
        """
        made = await self._find_or_make(hello, key) if hello.spec else self._find(hello.exec)
        try:
            return await made.wait_started()
        except BaseException:
            made.let_flow()  # who has asked for it is gone
            raise

    async def finish(self, limit: float) -> None:
        """The container has ended: wait for the execs to end, too; kill what does not.

        With a pid namespace of its own the kernel has killed them all (pid_namespaces(7)). Nor
        does a client that reads slowly hold up the container's own record.
        """
        limit = max(limit, FINISH_SECONDS)
        with trio.move_on_after(limit):
            await self._wait_finished()
        for made in self._execs.values():
            with contextlib.suppress(AttachdError):
                made.signal(signal.SIGKILL)
            if made.program is not None:
                made.program.hurry()
        with trio.move_on_after(limit):
            await self._wait_finished()

    def report(self, most: int) -> list[dict[str, object]]:
        """Return what ``status`` tells of each, and of ``most`` of its clients."""
        return [_summary(made, most) for made in self._execs.values()]

    # Finding and making

    def _find(self, name: str) -> Exec:
        made = self._execs.get(name)
        if made is None:
            raise Refused(
                "no_exec", f"no exec {name!r:.80} in this container: see 'attachctl inspect'"
            )
        return made

    async def _find_or_make(self, hello: say.Hello, key: bytes) -> Exec:
        """Return the one that this very client has had made before, or a new one."""
        for made in self._execs.values():
            if made.birth.creator == key and hello.exec in ("", made.name):
                return made
        if hello.role != "full":
            raise Denied("a viewer may only look")
        phase = self._container.phase
        if phase is not Phase.RUNNING:
            raise LifecycleError(
                f"cannot execute anything in a container that is {phase.value}"
            )
        while not self._home.guardian.alive:
            await self._home.news.wait()  # an heir is on its way
        if len(self._execs) >= MAX_EXECS:
            raise Refused("too_many", f"{MAX_EXECS} execs are there already")
        spec = parse_spec(dict(hello.spec))
        name = await self._free_name(hello.exec)
        made = execbirth.make(self._home, name, key or secrets.token_bytes(16), spec)
        self._begin(made)
        return made

    async def _free_name(self, wanted: str) -> str:
        """Return the name for a new one; one that has ended makes room. Raises Refused."""
        if not wanted:
            self._last += 1
            while str(self._last) in self._execs:  # somebody has asked for a number by name
                self._last += 1
            return str(self._last)
        if not ID.fullmatch(wanted) or wanted[0] in "-." or len(wanted) > MAX_NAME:
            raise Refused("bad_request", f"{wanted!r:.80} cannot be an exec's name")
        while (there := self._execs.get(wanted)) is not None:
            if not there.finished.is_set() or there.is_watched:
                raise Refused("exec_exists", f"there is an exec {wanted} already")
            there.let_go()
            await self._closed.park()
        return wanted

    # Their lives

    def _begin(self, made: Exec) -> None:
        assert self._nursery is not None, "run has begun"
        self._execs[made.name] = made
        self._nursery.start_soon(self._live, made)
        self._nursery.start_soon(self._watch_end, made)

    async def _live(self, made: Exec) -> None:
        """See one through to the moment when nobody wants it any more."""
        await made.run(self._starts)
        if made.failure is not None and made.again:
            await trio.sleep(RETURN_SECONDS)  # its creator is on its way back to us
        made.close()
        del self._execs[made.name]
        if not self._execs:
            gc.collect()  # what is left of them are cycles, each with a mapping and its descriptor
        if made.failure is not None:
            shutil.rmtree(made.path, ignore_errors=True)
        else:
            self._keep_record(made)
        self._closed.unpark_all()

    async def _watch_end(self, made: Exec) -> None:
        await made.finished.wait()
        if made.program is not None:
            made.program.when_left = self._forget_old
        self._forget_old()

    def _forget_old(self) -> None:
        """Let go of what was seen, and of all but the newest of what was not."""
        ended = [e for e in self._execs.values() if e.finished.is_set() and not e.is_watched]
        ended.sort(key=lambda made: made.ended_at)
        unseen = [made for made in ended if not made.is_seen]
        for made in ended:
            if made.is_seen or made in unseen[:-KEPT]:
                made.let_go()

    async def _wait_finished(self) -> None:
        for made in list(self._execs.values()):
            await made.finished.wait()

    # Records

    def _keep_record(self, made: Exec) -> None:
        """Leave of an ended one what is told of it, and of the oldest nothing."""
        for name in (files.PID, files.PROCESS, files.RUNTIME_LOG, files.TERMINAL):
            files.remove_file(os.path.join(made.path, name))
        if made.name in self._records:
            self._records.remove(made.name)
        self._records.append(made.name)
        while len(self._records) > RECORDS:
            old = self._records.popleft()
            if old not in self._execs:
                shutil.rmtree(os.path.join(self._path, old), ignore_errors=True)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._path)
        except OSError:
            return []

    def _find_records(self) -> list[str]:
        """Return the names of those that have ended before, the oldest first."""
        found = []
        for name in self._names():
            with contextlib.suppress(OSError):
                found.append(
                    (os.stat(os.path.join(self._path, name, files.EXIT)).st_mtime, name)
                )
        adopted = {made.name for made in self._adopted}
        return [name for _, name in sorted(found) if name not in adopted]


def _summary(made: Exec, most: int) -> dict[str, object]:
    program, birth = made.program, made.birth
    return {
        "name": made.name,
        "phase": made.phase.value,
        "argv": _shown(birth.argv),
        "user": say.plain(birth.user[:SHOWN]),
        "made_at": rfc3339(birth.made_at),
        **({} if program is None else program.report(most)),
    }


def _shown(argv: list[str]) -> list[str]:
    """Return the first words: a report of all execs must fit into one message."""
    shown: list[str] = []
    room = SHOWN
    for word in argv:
        shown.append(say.plain(word if len(word) <= room else word[:room] + "…"))
        room -= len(word)
        if room <= 0:
            break
    return shown
