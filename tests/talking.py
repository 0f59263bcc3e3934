"""Many containers that talk all the time, and one follower of all.

    python talking.py ROOT POSITIONS ID ...

Run as a program it is the follower, built on the library: it judges each line that it is given,
and says from time to time in the file POSITIONS where it is. The other follower is ``attachctl
follow-all``, whose files are judged afterwards. Used by a test in short and by ``scripts/storm
many`` at length.
"""

import contextlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import burden
import trio
from attachd_clients import Line, attach_blocking, follow
from attachd_clients.blocking import BlockingClient
from harness import Shop, wait_for

#: A second's output is said in so many parts, each a block that lies in the container.
PER_SECOND = 4

#: With its number and its newline.
LINE_BYTES = 100

#: A block's lines have numbers, and so has the line before each block: no two lines are the same
#: in what a container says. It begins when somebody opens its FIFO.
_SCRIPT = (
    "mkfifo /go; read wait </go; usleep $wait; i=0; while [ $i -lt {blocks} ]; do "
    "echo block $i; cat /block; usleep {pause}; i=$((i + 1)); done"
)

#: How often it is looked how far behind the follower is, in seconds.
_LOOK_SECONDS = 1.0

#: A follower that does not keep up has so long for the rest.
REST_SECONDS = 900.0


class Talk(NamedTuple):
    """What each container says."""

    block: bytes
    blocks: int

    @property
    def size(self) -> int:
        return sum(map(len, self.pieces()))

    def pieces(self) -> Iterator[bytes]:
        """Yield everything, block by block."""
        for number in range(self.blocks):
            yield b"block %d\n" % number + self.block


class Figures(NamedTuple):
    """How it went; seconds, bytes, and shares of one processor."""

    wrong: list[str]
    said: float  #: until the last container had ended
    followed: float  #: until the follower had everything
    bytes: int
    lag_median: int  #: of the worst of all containers, each time it was looked
    lag_max: int  #: of one container
    lag_all: int  #: of all together, at most
    lag_end: int  #: of all together, when the last container had ended
    shims: float  #: while the containers talked
    follower: float
    shims_all: float  #: seconds of a processor until the follower had everything
    follower_all: float


def talk_of(rate: int, seconds: float) -> Talk:
    """Return what is said in so many seconds with ``rate`` bytes in each."""
    count = max(1, rate // PER_SECOND // LINE_BYTES)
    pad = b" the quick brown fox jumps over the lazy dog" * 2
    lines = (b"%09d%s" % (number, pad) for number in range(count))
    block = b"".join(line.ljust(LINE_BYTES - 1, b".") + b"\n" for line in lines)
    return Talk(block, max(1, round(seconds * PER_SECOND)))


def storm(shop: Shop, count: int, talk: Talk, way: str, seed: int = 0) -> Figures:
    """Have ``count`` containers talk, and follow them all; ``way`` is follow-all or library."""
    pause = 1_000_000 // PER_SECOND
    command = ("sh", "-c", _SCRIPT.format(blocks=talk.blocks, pause=pause))
    boxes = [shop.run(*command, options=("--linger", REST_SECONDS)) for _ in range(count)]
    fifos = [_prepare(shop, box, talk) for box in boxes]
    shims = [pid for box in boxes for pid in wait_for(lambda box=box: burden.pair(shop, box))]
    follower, positions = _follower(shop, boxes, talk, way)
    wait_for(lambda: len(positions()) == count)
    chance, begun = random.Random(seed), time.monotonic()
    before = burden.seconds(shims), burden.seconds([follower.pid])
    reaped = _reaped()
    for fifo in fifos:
        fifo.write_text(f"{chance.randrange(pause)}\n")
    lags = _watch(shop, boxes, positions)
    said = time.monotonic() - begun
    after = burden.seconds(shims), burden.seconds([follower.pid])
    words, _ = follower.communicate(timeout=REST_SECONDS)
    followed = time.monotonic() - begun
    wrong = [] if follower.returncode == 0 else [f"{way} has ended with {follower.returncode}"]
    wrong += words.decode().splitlines()
    if way == "follow-all":
        wrong += [f"{box}: {why}" for box in boxes if (why := _judge(_file(shop, box), talk))]
    return Figures(
        wrong,
        said,
        followed,
        count * talk.size,
        int(statistics.median(map(max, lags))),
        max(map(max, lags)),
        max(map(sum, lags)),
        sum(lags[-1]),
        (after[0] - before[0]) / said,
        (after[1] - before[1]) / said,
        burden.seconds(shims) - before[0],
        _reaped() - reaped - before[1],
    )


def _reaped() -> float:
    """Return what children of ours that have ended have had of a processor."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _prepare(shop: Shop, box: str, talk: Talk) -> Path:
    """Give a container what it is to say; return the FIFO that it waits at."""
    rootfs = Path(shop.state(box)["bundle"]) / "rootfs"
    (rootfs / "block").write_bytes(talk.block)
    wait_for((rootfs / "go").is_fifo)
    return rootfs / "go"


def _watch(
    shop: Shop, boxes: list[str], positions: Callable[[], dict[str, int]]
) -> list[list[int]]:
    """Look how far behind the follower is until all have ended; return all that was seen.

    What the shim has is told by its pong; what the follower has is asked for before that.
    """
    lags = []
    with contextlib.ExitStack() as stack:
        clients: dict[str, BlockingClient] = {
            box: stack.enter_context(attach_blocking(box, root=str(shop.root), since="none"))
            for box in boxes
        }
        while True:
            over = all(shop.path(box, "exit.json").exists() for box in boxes)
            had = positions()
            lags.append([client.ping() - had[box] for box, client in clients.items()])
            if over:
                return lags
            time.sleep(_LOOK_SECONDS)


# The followers


def _follower(
    shop: Shop, boxes: list[str], talk: Talk, way: str
) -> tuple[subprocess.Popen[bytes], Callable[[], dict[str, int]]]:
    """Start one; return it, and what tells up to which offset it has each container."""
    if way == "follow-all":
        into = shop.scratch / "followed"
        into.mkdir()
        cursors = [into / ".cursors" / f"{box}.json" for box in boxes]
        words = ("follow-all", "--into", into, "--format", "text", "--once")
        return shop.popen("attachctl", *words, stderr=subprocess.STDOUT), lambda: {
            cursor.stem: int(json.loads(cursor.read_bytes())["offset"] or 0)
            for cursor in cursors
            if cursor.exists()
        }
    told = shop.scratch / "positions"
    words = (shop.root, told, talk.blocks, len(talk.block), *boxes)
    argv = [sys.executable, __file__, *map(str, words)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    return process, lambda: json.loads(told.read_bytes()) if told.exists() else {}


def _file(shop: Shop, box: str) -> Path:
    return shop.scratch / "followed" / f"{box}.log"


def _judge(path: Path, talk: Talk) -> str:
    """Return what is wrong with a file that should have everything once; empty if nothing is."""
    with path.open("rb") as file:
        for number, piece in enumerate(talk.pieces()):
            exact = file.read(len(piece)) == piece
            if not exact:
                return f"block {number} is not as it was said"
        return "there is more than was said" if file.read(1) else ""


class _Listener:
    """The follower that is built on the library."""

    def __init__(self, root: str, told: str, talk: Talk) -> None:
        self._root, self._told = root, told
        self._lines = talk.block.split(b"\n")[:-1]
        self._blocks = talk.blocks
        self._positions: dict[str, int] = {}
        self.wrong: list[str] = []

    async def run(self, boxes: list[str]) -> None:
        """Follow all to their ends."""
        async with trio.open_nursery() as telling:
            telling.start_soon(self._tell)
            async with trio.open_nursery() as nursery:
                for box in boxes:
                    nursery.start_soon(self._follow, box)
            telling.cancel_scope.cancel()

    async def _follow(self, box: str) -> None:
        """Follow one; note the first line that is not the one that must come."""
        count, each = 0, len(self._lines) + 1
        async with follow(box, root=self._root) as records:
            self._positions[box] = 0
            while batch := await records.batch():
                texts = [record.text for record in batch if isinstance(record, Line)]
                if texts != [self._line(count + n, each) for n in range(len(texts))]:
                    self.wrong.append(f"{box}: other lines from line {count} on")
                    return
                count += len(texts)
                self._positions[box] = records.position.offset
        if count != self._blocks * each:
            self.wrong.append(f"{box}: {count} lines, and not {self._blocks * each}")

    def _line(self, number: int, each: int) -> bytes:
        block, line = divmod(number, each)
        return self._lines[line - 1] if line else b"block %d" % block

    async def _tell(self) -> None:
        """Say where we are. Ends when cancelled."""
        while True:
            with open(f"{self._told}.new", "w") as file:
                json.dump(self._positions, file)
            os.rename(f"{self._told}.new", self._told)
            await trio.sleep(_LOOK_SECONDS / 4)


def main() -> None:
    """Be the follower, and say what was wrong."""
    root, told, blocks, size, *boxes = sys.argv[1:]
    talk = Talk(talk_of(int(size) * PER_SECOND, 1).block, int(blocks))
    listener = _Listener(root, told, talk)
    trio.run(listener.run, boxes)
    print("\n".join(listener.wrong), end="")


if __name__ == "__main__":
    main()
