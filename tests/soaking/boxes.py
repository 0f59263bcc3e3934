"""The containers of a soak: their kinds, and each one with what must be true of it."""

import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio
from attachd_clients import attach
from attachd_clients.aio import Client
from attachd_clients.places import Place
from harness import Shop

from attachd.errors import Refused
from attachd.wire import messages as say
from soaking.saying import LINE, Manner, Said, Wrong

#: What a container that says numbers ends with, when it is told to.
CODE = 7

#: Generous: a deadline here only turns a hang into a failure.
PATIENCE = 60.0

_OUT, _ERR, _TYPED = Manner(b"o"), Manner(b"e"), Manner(b"t", b"\r\n")

_TICK = (
    "i=0; trap 'echo >/signalled' USR1; while [ ! -e /stop ]; do n=$((i + {lines}));"
    " {say}; i=$n; usleep {pause}; done; exit {code}"
)

#: Each line of stderr after its twin of stdout; or all of one, and then of the other.
_IN_TURN = (
    "while [ $i -lt $n ]; do printf '{out}' $i; printf '{err}' $i >&2; i=$((i + 1)); done"
)
_IN_BLOCKS = (
    "for k in $(seq $i $((n - 1))); do printf '{out}' $k; done;"
    " for k in $(seq $i $((n - 1))); do printf '{err}' $k >&2; done"
)

T = TypeVar("T")


class Kind(NamedTuple):
    """What a container is, and what it may do."""

    name: str
    script: str
    options: tuple[object, ...]
    manners: dict[str, Manner]
    prologue: int = 0  #: bytes that it says before it says what it is fed
    fed: bool = False  #: it says what it is fed, and nothing else
    terminal: bool = False
    logs: bool = True
    keeps_all: bool = True  #: its logs have all of its output


def _tick(how: str, lines: int, pause: int) -> str:
    """Return a script that says so many lines on each stream every ``pause`` microseconds."""
    words = how.format(out=_OUT.format, err=_ERR.format)
    return _TICK.format(lines=lines, pause=pause, say=words, code=CODE)


KINDS = (
    Kind("ticker", _tick(_IN_TURN, 2, 100_000), ("--ring-size", 64 << 10),
        {"stdout": _OUT, "stderr": _ERR}),
    Kind("echo", "exec cat", ("-i", "--ring-size", 64 << 10, "--stdin-eof", "any"),
        {"stdout": _OUT}, fed=True),
    Kind("terminal", f"stty raw -echo; printf '{_TYPED.format}' 0; exec cat",
        ("-i", "-t", "--ring-size", 64 << 10), {"stdout": _TYPED},
        prologue=LINE, fed=True, terminal=True),
    Kind("rotating", _tick(_IN_BLOCKS, 12, 50_000),
        ("--ring-size", 64 << 10, "--log-max-size", "64k", "--log-max-files", 6,
            "--log-compress", "gzip"),
        {"stdout": _OUT, "stderr": _ERR}, keeps_all=False),
    Kind("forgetful", _tick(_IN_BLOCKS, 100, 50_000),
        ("--ring-size", 256 << 10, "--log", "none", "--allow-block", 100),
        {"stdout": _OUT, "stderr": _ERR}, logs=False, keeps_all=False),
)  # fmt: skip


class Role(NamedTuple):
    """What one container is there for."""

    kind: Kind
    spared: bool  #: nobody kills its server or its keeper


def roles(count: int) -> list[Role]:
    """Return the roles of so many containers: all kinds in turn, every other one is spared."""
    return [Role(KINDS[box % len(KINDS)], box % 2 == 0) for box in range(count)]


class Box:
    """One container of a soak. ``follow`` it from its beginning to its end."""

    def __init__(self, shop: Shop, role: Role) -> None:
        self.shop = shop
        self.kind, self.spared = kind, _ = role
        self.id = shop.name()
        self.root = str(shop.root)
        self.said = Said(kind.manners)
        self.typed = 0  #: bytes of stdin that it has been given
        self.killed = 0  #: servers
        self.keepers = 0  #: that were killed
        self.life = trio.Lock()  #: whoever kills
        self.pen = trio.Lock()  #: whoever writes, or decides who may
        self.shelf = trio.Lock()  #: whoever renames its logs
        self.size = trio.Lock()  #: whoever changes its terminal's size
        self.bell = trio.Lock()  #: whoever sends signals and waits for them
        self.record: say.Record | None = None
        self.stream_id = ""
        self._moved = trio.lowlevel.ParkingLot()

    def __str__(self) -> str:
        return f"{self.kind.name} {self.id}{'' if self.spared else ' (mortal)'}"

    @property
    def path(self) -> Path:
        """The state directory."""
        return self.shop.path(self.id)

    @property
    def rootfs(self) -> Path:
        """The container's own root."""
        return Path(self.shop.state(self.id)["bundle"]) / "rootfs"

    def make(self) -> None:
        """Create and start it."""
        options = ("create", *self.kind.options, self.id, "--", "sh", "-c", self.kind.script)
        self.shop.call("attachd", *options)
        self.shop.call("attachd", "start", self.id)

    def attach(self, **options: object):
        """Attach to it, as ``attachd_clients.attach`` does."""
        return attach(self.id, **({"root": self.root, "name": "soak"} | options))

    async def connect(self) -> trio.SocketStream:
        """Return a connection of our own, which can be ``cut``; waits while too many wait."""
        while True:
            try:
                peer = Place.find(self.id, self.root).connect(blocking=False)
            except BlockingIOError:
                await trio.sleep(0.05)
            else:
                return trio.SocketStream(trio.socket.from_stdlib_socket(peer))

    # The follower

    async def follow(self, task_status: trio.TaskStatus[None]) -> None:
        """Hear everything, from the first byte to the exit record. Raises Wrong."""
        # Where nothing is kept, the container waits for who must hear everything.
        how = {} if self.kind.logs else {"role": "full", "flow": "block"}
        options = {"since": "start", "role": "viewer", "name": "follower"} | how
        async with self.attach(**options) as client:
            self.stream_id = client.welcome.stream_id
            task_status.started()
            async for event in client:
                if isinstance(event, say.Gap):
                    raise Wrong(f"{self}: the follower missed {event}")
                if isinstance(event, say.Output):
                    self.said.add(event)
                elif isinstance(event, say.Exit):
                    self.record = event.record
                self._moved.unpark_all()

    async def wait_said(self, end: int) -> None:
        """Return when the follower has heard everything before ``end``. Raises TooSlowError."""
        with trio.fail_after(PATIENCE):
            while self.said.end < end:
                await self._moved.park()

    async def wait_ended(self) -> say.Record:
        """Return its exit record. Raises TooSlowError."""
        with trio.fail_after(PATIENCE):
            while self.record is None:
                await self._moved.park()
        return self.record

    # Asking

    async def report(self) -> say.Record:
        """Return what ``status`` tells, from whichever server is there."""

        async def ask(client: Client) -> say.Record:
            return await client.status()

        return await self.ask(ask)

    async def until(self, what: Callable[[say.Record], object]) -> say.Record:
        """Return the first report of which ``what`` is true. Raises TooSlowError."""
        with trio.fail_after(PATIENCE):
            while not what(report := await self.report()):  # noqa: ASYNC110  # nobody tells
                await trio.sleep(0.02)
        return report

    async def ask(self, what: Callable[[Client], Awaitable[T]], **options: object) -> T:
        """Ask a server, and again the next one when it was killed before it has answered."""
        with trio.fail_after(PATIENCE):
            while True:
                async with self.attach(**({"since": "none"} | options)) as client:
                    try:
                        return await what(client)
                    except Refused as refused:
                        if refused.code != "lost":
                            raise

    def data(self, size: int) -> bytes:
        """Return what is to be typed next. For whoever has the ``pen``."""
        start = self.kind.prologue + self.typed
        return self.kind.manners["stdout"].said(start, start + size)

    # The end

    async def stop(self) -> None:
        """Have it end by itself."""
        if self.kind.terminal:
            await self.ask(lambda client: client.signal(9))
        elif self.kind.fed:
            async with self.attach(since="none") as client:
                await client.send_eof()
        else:
            (self.rootfs / "stop").touch()

    def check_end(self) -> None:
        """Judge its record, its files, and its log. Raises Wrong."""
        record, kind = self.record, self.kind
        code, number = (None, 9) if kind.terminal else (0 if kind.fed else CODE, None)
        wanted = {
            "id": self.id,
            "reason": "signaled" if kind.terminal else "exited",
            "exit_code": code,
            "signal": number,
            "bytes": {"stdout": 0, "stderr": 0} | self.said.sizes,
            "offset": self.said.end,
            "drained": True,
            "restarts": self.killed,
            "stream_id": self.stream_id,
        }
        told = {key: record.get(key) for key in wanted}
        if told != wanted:
            raise Wrong(f"{self}: the record is {told}, and not {wanted}")
        if json.loads((self.path / "exit.json").read_text()) != record:
            raise Wrong(f"{self}: exit.json is not the record that was told")
        if kind.keeps_all:
            done = self.shop.call("attachctl", "logs", self.id)
            for stream, data in (("stdout", done.stdout), ("stderr", done.stderr)):
                manner, size = kind.manners.get(stream), self.said.sizes.get(stream, 0)
                if data != (manner.said(0, size) if manner else b""):
                    raise Wrong(f"{self}: the log of {stream} is not exact")


@asynccontextmanager
async def cast(shop: Shop, parts: list[Role]) -> AsyncIterator[list[Box]]:
    """Make a container for each role, and follow them all; they are left as they are."""
    made = [Box(shop, role) for role in parts]
    async with trio.open_nursery() as nursery:
        for box in made:
            await trio.to_thread.run_sync(box.make)
            await nursery.start(box.follow)
        yield made
        nursery.cancel_scope.cancel()


def cut(stream: trio.SocketStream) -> None:
    """Cut a client's connection, unless a killed server has."""
    try:
        stream.socket.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def traces(path: Path) -> list[str]:
    """Return what is left of a container: its directory, and processes that name it or hold it."""
    found = [str(path)] if path.exists() else []
    inside = f"{path}/".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            words = (process / "cmdline").read_bytes() + b"/"
            links = [os.readlink(fd).encode() + b"/" for fd in (process / "fd").iterdir()]
        except OSError:
            continue
        if inside in words or any(inside in link for link in links):
            found.append(f"{process.name} {words!r}")
    return found


async def wait_until(what: Callable[[], object], why: str) -> None:
    """Return when ``what`` has come true. Raises Wrong with ``why`` when it does not."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > deadline:
            raise Wrong(why)
        await trio.sleep(0.02)
