"""Output under fire: a container pours, clients follow, and its server is killed all the time.

Each line that the container reads has it say one part of what is in its files, so that whoever
knows the lines knows every byte. Lines come through the library, so stdin is in the storm, too.
A ``Nest`` sees from outside, in the kernel, how much has come, and kills while it comes.
"""

import bisect
import contextlib
import hashlib
import json
import os
import random
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import trio
from attachd_clients import attach
from attachd_clients.aio import Client
from harness import PATIENCE, Shop, wait_for

from attachd.keeper.descriptors import map_header
from attachd.wire import messages as say

STREAMS = ("stdout", "stderr")

#: What the container says before it reads: a terminal shows no line of ours from then on.
READY = "ready"

CODE = 7  #: the container's exit code

#: More than a client is let behind, and little enough that visitors want what only logs have.
RING_BYTES = 16 << 20
BEHIND_BYTES = 8 << 20

POOL_BYTES = 16 << 20

#: What dd reads and writes at once.
BLOCKS = (512, 4096, 65536)

#: One kill in so many comes while the server starts; its keeper waits longer after each.
START_IN = 8
START_SECONDS = 0.3

#: One in so many comes when the server has been at work for a while, whatever it does then.
WORK_IN = 4
WORK_SECONDS = 0.05

#: A visitor stays up to so long.
STAY_SECONDS = 3.0


# What the container says


class Part(NamedTuple):
    """What one line has the container say."""

    line: bytes
    stdout: bytes
    stderr: bytes = b""


class Cut(NamedTuple):
    """A piece of a file, as dd(1) is told."""

    block: int
    skip: int
    count: int

    @classmethod
    def draw(cls, size: int, chance: random.Random) -> "Cut":
        """Return one of about ``size`` bytes, and of one block at least."""
        block = chance.choice(BLOCKS)
        count = min(max(1, size // block), POOL_BYTES // block)
        return cls(block, chance.randrange(POOL_BYTES // block - count + 1), count)

    def of(self, pool: bytes) -> bytes:
        return pool[self.block * self.skip : self.block * (self.skip + self.count)]

    def __str__(self) -> str:
        return f"{self.block} {self.skip} {self.count}"


class Source(Protocol):
    """A container's program, and what it says."""

    options: tuple[str, ...]
    terminal: bool
    script: str
    ready: bytes

    def fill(self, rootfs: Path) -> None:
        """Put its files there."""

    def part(self, number: int, size: int) -> Part:
        """Return a part of about ``size`` bytes."""


class Pipes:
    """Both streams at once: bytes of any value, lines, and a line that does not end."""

    options = ("-i",)
    terminal = False
    ready = f"{READY}\n".encode()
    script = f"""
        echo {READY}
        while read number a b c d e f; do
            (echo part $number; exec dd if=/stdout bs=$a skip=$b count=$c 2>/dev/null) &
            dd if=/stderr bs=$d skip=$e count=$f >&2 2>/dev/null
            wait
        done
        exit {CODE}"""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pools = {stream: self._make_pool(stream) for stream in STREAMS}

    def fill(self, rootfs: Path) -> None:
        for stream, pool in self._pools.items():
            (rootfs / stream).write_bytes(pool)

    def part(self, number: int, size: int) -> Part:
        share = self._chance.uniform(0.1, 0.9)
        cuts = [Cut.draw(int(size * part), self._chance) for part in (share, 1 - share)]
        line = f"{number} {cuts[0]} {cuts[1]}\n".encode()
        out, err = (cut.of(pool) for cut, pool in zip(cuts, self._pools.values(), strict=True))
        return Part(line, b"part %d\n" % number + out, err)

    def _make_pool(self, stream: str) -> bytes:
        half, quarter = POOL_BYTES // 2, POOL_BYTES // 4
        lines = (b"%s %d\r\n" % (stream.encode(), number) for number in range(quarter))
        text = b"".join(line for line, _ in zip(lines, range(quarter // 12), strict=False))
        return (self._chance.randbytes(half) + text + b"-" * POOL_BYTES)[:POOL_BYTES]


class Screen:
    """A terminal's one stream: text that it translates, and bytes that it does not touch."""

    options = ("-i", "-t", "-d")
    terminal = True
    ready = f"{READY}\r\n".encode()
    script = f"""
        stty -echo; echo {READY}
        while read number mode a b c; do
            stty $mode
            echo part $number; dd if=/pool bs=$a skip=$b count=$c 2>/dev/null
        done
        exit {CODE}"""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        text = b"".join(b"the quick brown fox %d\n" % n for n in range(POOL_BYTES // 40))
        self._pool = (text + chance.randbytes(POOL_BYTES))[:POOL_BYTES]

    def fill(self, rootfs: Path) -> None:
        (rootfs / "pool").write_bytes(self._pool)

    def part(self, number: int, size: int) -> Part:
        cut, cooked = Cut.draw(size, self._chance), self._chance.random() < 0.5
        line = f"{number} {'opost' if cooked else '-opost'} {cut}\n".encode()
        said = b"part %d\n" % number + cut.of(self._pool)
        return Part(line, said.replace(b"\n", b"\r\n") if cooked else said)


# What everybody must have heard


class Wrong(Exception):
    """Something was heard that was not said, or not in that place."""


class Sum(NamedTuple):
    """A beginning of one stream: its size and SHA-256."""

    size: int
    digest: str


class Heard:
    """What somebody has heard of one stream, or was said in it."""

    def __init__(self) -> None:
        self.size = 0
        self._sum = hashlib.sha256()

    def add(self, data: bytes | memoryview) -> None:
        self._sum.update(data)
        self.size += len(data)

    def copy(self) -> "Heard":
        other = Heard()
        other.size, other._sum = self.size, self._sum.copy()
        return other

    @property
    def sum(self) -> Sum:
        return Sum(self.size, self._sum.hexdigest())


class Track:
    """What was said in one stream; its sum is known behind each part."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.sums: list[Sum] = []
        self._said = Heard()
        self._tail = deque[bytes]()
        self._kept = 0

    @property
    def sum(self) -> Sum:
        return self._said.sum

    @property
    def tail(self) -> bytes:
        """The end, as much of it as a ring can hold."""
        return b"".join(self._tail)

    def add(self, data: bytes) -> None:
        self._said.add(data)
        self.ends.append(self._said.size)
        self.sums.append(self._said.sum)
        self._tail.append(data)
        self._kept += len(data)
        while self._kept - len(self._tail[0]) > RING_BYTES:
            self._kept -= len(self._tail.popleft())


class Ledger:
    """What the container was told to say so far."""

    def __init__(self, ready: bytes) -> None:
        self.tracks = {stream: Track() for stream in STREAMS}
        self.total = 0
        self.add(Part(b"", ready))

    def add(self, part: Part) -> None:
        for stream, data in zip(STREAMS, (part.stdout, part.stderr), strict=True):
            if data:
                self.tracks[stream].add(data)
                self.total += len(data)

    @property
    def sums(self) -> dict[str, Sum]:
        return {stream: track.sum for stream, track in self.tracks.items()}


class Mark(NamedTuple):
    """Where one may begin: an offset, and what was heard before it."""

    offset: int
    heard: dict[str, Heard]

    def copy(self) -> "Mark":
        return Mark(
            self.offset, {stream: heard.copy() for stream, heard in self.heard.items()}
        )


class Listener:
    """Hears output, and compares each stream at the end of each part."""

    def __init__(self, ledger: Ledger, begin: Mark | None = None) -> None:
        self.compared = 0  #: how many ends were seen
        self._ledger = ledger
        self._mark = begin.copy() if begin else Mark(0, {name: Heard() for name in STREAMS})

    @property
    def offset(self) -> int:
        return self._mark.offset

    @property
    def mark(self) -> Mark:
        return self._mark.copy()

    @property
    def sums(self) -> dict[str, Sum]:
        return {stream: heard.sum for stream, heard in self._mark.heard.items()}

    def hear(self, event: object) -> None:
        """Take an event of a client; raise Wrong for a gap, or a byte in the wrong place."""
        if isinstance(event, say.Gap):
            raise Wrong(f"a gap from {event.start} to {event.end}")
        if not isinstance(event, say.Output):
            return
        if event.offset != self.offset:
            raise Wrong(f"offset {event.offset} came instead of {self.offset}")
        self._mark = self._mark._replace(offset=event.offset + len(event.data))
        rest, heard = memoryview(event.data), self._mark.heard[event.stream]
        while rest:
            rest = self._take(event.stream, heard, rest)

    def _take(self, stream: str, heard: Heard, data: memoryview) -> memoryview:
        """Take ``data`` up to the end of its part; return what is behind."""
        track = self._ledger.tracks[stream]
        number = bisect.bisect_right(track.ends, heard.size)
        if number == len(track.ends):
            raise Wrong(f"{stream}: more than the {heard.size} bytes that were said")
        now = data[: track.ends[number] - heard.size]
        heard.add(now)
        if heard.size == track.ends[number]:
            if heard.sum != track.sums[number]:
                raise Wrong(f"{stream}, part {number}: {heard.sum}, not {track.sums[number]}")
            self.compared += 1
        return data[len(now) :]


# Who kills


class Nest:
    """The servers of one container, as they are seen from outside, and their end."""

    def __init__(self, shop: Shop, box: str) -> None:
        keeper = shop.keeper(box)
        self._children = Path(f"/proc/{keeper}/task/{keeper}/children")
        found = {os.readlink(fd): fd for fd in Path(f"/proc/{keeper}/fd").iterdir()}
        ring = next(fd for name, fd in found.items() if "memfd:attachd-ring" in name)
        self._ring = Path(f"/proc/{keeper}/fdinfo/{ring.name}")
        header = next(fd for name, fd in found.items() if "memfd:attachd-header" in name)
        fd = os.open(header, os.O_RDWR)
        self.header = map_header(fd)
        os.close(fd)
        self.working = self.starting = 0  #: kills of servers that had come up, and had not

    @property
    def kills(self) -> int:
        return self.working + self.starting

    @property
    def position(self) -> int:
        """How many bytes have come, as the kernel says."""
        return int(self._ring.read_text().split(None, 2)[1])

    @property
    def server(self) -> int:
        """The pid of the server; 0 while there is none."""
        for pid in map(int, self._children.read_text().split()):
            with contextlib.suppress(OSError):
                if b"attachd.live" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def kill(self, until: Callable[[int], object], stopped: Callable[[], None] = bool) -> None:
        """Kill the server that there is or comes, once ``until(pid)`` has returned.

        ``stopped`` is called when it does nothing more, and is not dead yet.
        """
        pid = wait_for(lambda: self.server)
        pidfd = os.pidfd_open(pid)
        until(pid)
        if stopped is not bool:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            wait_for(lambda: _state(pid) in "TZ")
            stopped()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(PATIENCE * 1000):
            raise Wrong("a server that was killed does not die")
        os.close(pidfd)
        came_up = self.header.up == pid
        self.working += came_up
        self.starting += not came_up

    def wait_up(self, pid: int) -> None:
        """Return when that server is at work."""
        wait_for(lambda: self.header.up == pid)

    def wait_position(self, wanted: int) -> None:
        """Return when so many bytes have come."""
        deadline = time.monotonic() + PATIENCE
        while self.position < wanted:
            if time.monotonic() > deadline:
                raise Wrong(f"it stays at {self.position}, and should come to {wanted}")
            time.sleep(0.0002)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


# The storm


class Outcome(NamedTuple):
    """How a storm went."""

    working: int  #: kills of servers that were at work
    starting: int  #: kills of servers that were not yet
    flowing: int  #: kills with output on its way
    size: int  #: bytes
    seconds: float
    visits: int  #: of clients that came to a known offset
    compared: int  #: how often all clients together have compared
    wrong: list[str]  #: empty when every byte was where it belongs

    def __str__(self) -> str:
        kills = f"{self.working + self.starting} kills ({self.working} up,"
        kills += f" {self.starting} during start; output on its way at {self.flowing})"
        speed = f"{self.size / self.seconds / 1e6:.2f} MB/s"
        flow = f"{self.size} bytes, {self.seconds:.0f} s, {speed}"
        seen = f"{self.visits} visits, {self.compared} comparisons"
        return f"{kills}, {flow}, {seen}: {'; '.join(self.wrong) or 'exact'}"


class Storm:
    """One container, and all that happens to it. ``run`` once."""

    def __init__(
        self, shop: Shop, source: Source, size: int, kills: int, chance: random.Random
    ) -> None:
        self._shop = shop
        self._source = source
        self._size = size
        self._kills = kills
        self._chance = chance
        self._ledger = Ledger(source.ready)
        self._listener = Listener(self._ledger)
        self._flowing = 0
        self._parts = 0
        self._marks: deque[Mark] = deque(maxlen=64)
        self._visits = 0
        self._visited = 0  #: comparisons of visitors
        self._record: say.Record = {}
        self._moved = trio.Event()
        self._uncounted = 0  #: kills after the record

    async def run(self) -> Outcome:
        """Storm, then look at everything that is left."""
        begun = time.monotonic()
        self._box = box = self._begin()
        self._nest = Nest(self._shop, box)
        wrong: list[str] = []
        try:
            with trio.fail_after(PATIENCE * 3 + 3 * self._kills):
                await self._pour()
            wrong = await trio.to_thread.run_sync(lambda: list(self._differences()))
        except (Exception, BaseExceptionGroup) as error:
            wrong = [*_leaves(error)]
        nest, compared = self._nest, self._listener.compared + self._visited
        seconds, size = time.monotonic() - begun, self._ledger.total
        return Outcome(
            nest.working, nest.starting, self._flowing, size, seconds, self._visits, compared,
            wrong,
        )  # fmt: skip

    def _begin(self) -> str:
        shop, source = self._shop, self._source
        bundle, box = shop.bundle("sh", "-c", source.script), shop.name()
        shop.patch(bundle, lambda spec: spec["process"].update(terminal=source.terminal))
        source.fill(bundle / "rootfs")
        logs = ("--log", shop.scratch / "cri.log", "--log", f"raw:{shop.scratch}/raw.log")
        keep = ("--ring-size", RING_BYTES, "--linger", 600)
        options = (*source.options, *logs, *keep, "--bundle", bundle)
        shop.call("attachd", "run", *options, box)
        return box

    async def _pour(self) -> None:
        async with attach(self._box, root=str(self._shop.root), since="start") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, client)
                visits = await nursery.start(self._keep_visiting)
                while self._nest.kills < self._kills:
                    await self._strike(client)
                while self._ledger.total < self._size:
                    await self._say_more(client)
                await self._wait_heard(self._ledger.total)
                visits.cancel()
                await self._end(client)

    # Kills

    async def _strike(self, client: Client) -> None:
        """Kill one server; have enough to be said until then."""
        here = self._nest.position
        left = max(1, (self._size - here) // (self._kills - self._nest.kills))
        wanted = here + 1 + self._chance.randrange(2 * left)
        while self._ledger.total <= wanted + left:
            await self._say_more(client)
        await self._wait_heard(here - BEHIND_BYTES)
        await trio.to_thread.run_sync(self._nest.kill, self._draw_moment(wanted))
        self._flowing += self._nest.position < self._ledger.total

    def _draw_moment(self, wanted: int) -> Callable[[int], object]:
        """Return what returns at the moment of the kill."""
        nest, chance = self._nest, self._chance
        if chance.randrange(START_IN) == 0:
            early = chance.uniform(0, START_SECONDS)
            return lambda pid: time.sleep(early)
        if chance.randrange(WORK_IN) == 0:
            later = chance.uniform(0, WORK_SECONDS)
            return lambda pid: (nest.wait_up(pid), time.sleep(later))
        return lambda pid: nest.wait_position(wanted)

    async def _end(self, client: Client) -> None:
        """Have the container end, and kill the server once more about then."""

        def look() -> None:
            self._uncounted += self._shop.path(self._box, "exit.json").exists()

        late = self._chance.uniform(0, WORK_SECONDS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_eof)
            kill = self._nest.kill
            nursery.start_soon(trio.to_thread.run_sync, kill, lambda _: time.sleep(late), look)

    # Clients

    async def _say_more(self, client: Client) -> None:
        self._parts += 1
        size = int(self._chance.uniform(0, 2) * self._size / (self._kills + 1))
        part = self._source.part(self._parts, min(size, 2 * BEHIND_BYTES))
        self._ledger.add(part)
        await client.post(part.line)

    async def _listen(self, client: Client) -> None:
        """Hear everything, from the first byte to the exit record."""
        async for event in client:
            self._listener.hear(event)
            if isinstance(event, say.Exit):
                self._record = event.record
            if isinstance(event, say.Output) and self._chance.randrange(8) == 0:
                self._marks.append(self._listener.mark)
            self._moved.set()
            self._moved = trio.Event()

    async def _wait_heard(self, offset: int) -> None:
        with trio.fail_after(PATIENCE):
            while self._listener.offset < offset:
                await self._moved.wait()

    async def _keep_visiting(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Come to places where others have been, stay for a while, and leave again."""
        chance = random.Random(self._chance.random())
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                await self._wait_heard(1)
                if self._marks:
                    mark = chance.choice(self._marks)
                    with trio.move_on_after(chance.uniform(0, STAY_SECONDS)):
                        await self._visit(Listener(self._ledger, mark))
                    self._visits += 1
                await trio.sleep(chance.uniform(0, 0.1))

    async def _visit(self, listener: Listener) -> None:
        since, seen = f"offset:{listener.offset}", 0
        async with attach(
            self._box, root=str(self._shop.root), since=since, role="viewer"
        ) as client:
            async for event in client:
                listener.hear(event)
                self._visited += listener.compared - seen
                seen = listener.compared

    # What is left

    def _differences(self) -> Iterator[str]:
        """Tell what is wrong with record, logs and ring."""
        record, expected, nest = self._shop.ended(self._box), self._ledger.sums, self._nest
        wanted = {
            "exit_code": CODE,
            "reason": "exited",
            "drained": True,
            "bytes": {stream: said.size for stream, said in expected.items()},
            "restarts": nest.kills - self._uncounted,
            "log_offset": self._ledger.total,
        }
        yield from (
            f"{name} is {record.get(name)}, not {value}"
            for name, value in wanted.items()
            if record.get(name) != value
        )
        if self._record != record:
            yield f"the client was told {self._record}, the file has {record}"
        if self._listener.sums != expected:
            yield f"the client has heard {self._listener.sums}, not {expected}"
        if (found := cri_sums(self._shop.scratch / "cri.log")) != expected:
            yield f"the log has {found}, not {expected}"
        yield from self._differences_of_ring()

    def _differences_of_ring(self) -> Iterator[str]:
        wait_for(lambda: self._nest.header.up == self._nest.server)
        told = json.loads(self._shop.ctl("stats", self._box))
        if (told["restarts"], told["newest"]) != (self._nest.kills, self._ledger.total):
            yield f"stats tells of {told['restarts']} restarts and {told['newest']} bytes"
        files = {stream: self._shop.scratch / f"tail.{stream}" for stream in STREAMS}
        words = ("attach", "--from", f"offset:{told['oldest']}", self._box)
        with files["stdout"].open("wb") as out, files["stderr"].open("wb") as err:
            code = self._shop.popen(*words, stdout=out, stderr=err).wait(PATIENCE)
        tails = {stream: path.read_bytes() for stream, path in files.items()}
        if code != CODE or sum(map(len, tails.values())) != told["newest"] - told["oldest"]:
            yield f"attach ends with {code} and has {[*map(len, tails.values())]} of the ring"
        for stream, tail in tails.items():
            if not self._ledger.tracks[stream].tail.endswith(tail):
                yield f"the ring's tail of {stream} is another one"
        raw = (self._shop.scratch / "raw.log").stat().st_size
        if raw != self._ledger.total:
            yield f"the raw log has {raw} bytes, not {self._ledger.total}"


def cri_sums(path: Path) -> dict[str, Sum]:
    """Return the sums of a log in CRI format, of any size."""
    heard = {stream: Heard() for stream in STREAMS}
    with path.open("rb", buffering=1 << 20) as file:
        for line in file:
            _, stream, tag, rest = line.split(b" ", 3)
            heard[stream.decode()].add(rest if tag == b"F" else rest[:-1])
    return {stream: found.sum for stream, found in heard.items()}


def _leaves(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield repr(error)


def storm(shop: Shop, *, terminal: bool, size: int, kills: int, seed: int) -> Outcome:
    """Have a container say ``size`` bytes while its servers are killed so often; see how it went.

    One kill more comes when the container ends.
    """
    chance = random.Random(seed)
    source = Screen(chance) if terminal else Pipes(chance)
    return trio.run(Storm(shop, source, size, kills, chance).run)
