"""A crowd: very many clients of one container that read the same output at the same time.

    python crowding.py ROOT ID CLIENTS BYTES BLOCKING SEED

Run as a program it is a part of the crowd. What the container says is known at each offset, so
that each client can judge every byte that it is given, also behind a gap. Used by a test in
short and by ``scripts/storm crowd`` at length.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import burden
import trio
from attachd_clients import attach
from harness import PATIENCE, Shop, wait_for

from attachd.wire import messages as say

#: A number of nine digits and a newline.
LINE_BYTES = 10
_FIRST = 10**8

#: Of clients: how much output may be under way to each.
WINDOWS = (64 * 1024, 256 * 1024, 1 << 20)

#: Says everything at once when it is told to, then stays until it is told to end.
_SCRIPT = (
    "until [ -e /go ]; do usleep 1000; done; seq {first} {last}; "
    "touch /done; until [ -e /stop ]; do usleep 10000; done"
)

#: A crowd takes its time.
CROWD_SECONDS = 900.0


def said(size: int) -> bytes:
    """Return all that the container says."""
    lines = range(_FIRST, _FIRST + size // LINE_BYTES)
    return b"".join(b"%d\n" % number for number in lines)


class Told(NamedTuple):
    """What a part of the crowd, or all of it, has had."""

    wrong: list[str]
    bytes: int = 0
    gaps: int = 0
    missed: int = 0  #: bytes, as the gaps tell
    lossless: int = 0  #: clients that were told of no gap


class Figures(NamedTuple):
    """How the server fared; MB and seconds."""

    told: Told
    seconds: float
    busy: float  #: of a processor
    before: float  #: the server's memory
    peak: float
    after: float
    waited: float  #: from the word "go" until the container had said everything
    descriptors: tuple[int, int]  #: before, and when all have gone


def storm(
    shop: Shop, clients: int, size: int, options: tuple[object, ...], *,
    blocking: int = 0, parts: int = 2, seed: int = 0,
) -> Figures:  # fmt: skip
    """Have ``clients`` read ``size`` bytes each, ``blocking`` of them with flow ``block``."""
    last = _FIRST + size // LINE_BYTES - 1
    script = _SCRIPT.format(first=_FIRST, last=last)
    box = shop.run("sh", "-c", script, options=options)
    rootfs = Path(shop.state(box)["bundle"]) / "rootfs"
    server = int(wait_for(lambda: shop.server(box)))
    with_nobody = json.loads(shop.ctl("stats", box))
    assert with_nobody["connected"] == 1  # that was we
    wait_for(lambda: not burden.woken([server], 0.2))
    before, had = burden.resident(server), burden.descriptors(server)
    crowd = [
        _part(shop, box, clients, size, blocking, parts, number, seed)
        for number in range(parts)
    ]
    for part in crowd:
        assert part.stdout.readline() == b"ready\n"
    begun, busy = time.monotonic(), burden.seconds([server])
    (rootfs / "go").touch()
    told = [json.loads(part.communicate(timeout=CROWD_SECONDS)[0]) for part in crowd]
    seconds = time.monotonic() - begun
    busy = burden.seconds([server]) - busy
    wait_for(lambda: json.loads(shop.ctl("stats", box))["connected"] == 1)
    wait_for(lambda: burden.descriptors(server) <= had, patience=PATIENCE)
    waited = (rootfs / "done").stat().st_mtime - (rootfs / "go").stat().st_mtime
    figures = Figures(
        _sum([Told(*one) for one in told]),
        seconds,
        busy,
        before,
        burden.peak(server),
        burden.resident(server),
        waited,
        (had, burden.descriptors(server)),
    )
    assert shop.server(box) == server
    (rootfs / "stop").touch()
    record = shop.ended(box)
    if (record["offset"], record["exit_code"], record["restarts"]) != (size, 0, 0):
        figures.told.wrong.append(f"the container has ended with {record}")
    return figures


def _part(
    shop: Shop, box: str, clients: int, size: int, blocking: int, parts: int, number: int,
    seed: int,
) -> subprocess.Popen[bytes]:  # fmt: skip
    """Start one process of the crowd, with its share of clients."""
    mine = clients // parts + (number < clients % parts)
    waits = blocking // parts + (number < blocking % parts)
    words = (shop.root, box, mine, size, waits, f"{seed} {number}")
    argv = [sys.executable, __file__, *map(str, words)]
    return subprocess.Popen(argv, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def _sum(parts: list[Told]) -> Told:
    wrong = [why for part in parts for why in part.wrong]
    return Told(wrong, *(sum(counts) for counts in list(zip(*parts, strict=True))[1:]))


# One part of the crowd


class _Part:
    """So many clients in one process."""

    def __init__(self, root: str, box: str, clients: int, size: int) -> None:
        self._root, self._box, self._clients = root, box, clients
        self._all = said(size)
        self._attached = 0
        self._wrong: list[str] = []
        self._bytes = self._gaps = self._missed = self._lossless = 0

    async def run(self, blocking: int, chance: random.Random) -> Told:
        """Read everything with all of them."""
        async with trio.open_nursery() as nursery:
            for number in range(self._clients):
                flow = "block" if number < blocking else "gap"
                nursery.start_soon(self._read, flow, chance.choice(WINDOWS))
        return Told(self._wrong, self._bytes, self._gaps, self._missed, self._lossless)

    async def _read(self, flow: str, window: int) -> None:
        """Be one client."""
        at = missed = 0
        async with attach(
            self._box, root=self._root, since="start", flow=flow, window=window
        ) as client:
            self._attached += 1
            if self._attached == self._clients:
                print("ready", flush=True)
            while at < len(self._all):
                event = await client.receive()
                if isinstance(event, say.Output):
                    self._judge(at, event)
                    at = event.offset + len(event.data)
                elif isinstance(event, say.Gap):
                    if event.start != at:
                        self._wrong.append(f"a gap from {event.start}, and not from {at}")
                    at, missed = event.end, missed + event.end - event.start
                    self._gaps += 1
                elif event is None:
                    self._wrong.append(f"it was over at {at}")
                    return
        self._missed += missed
        self._lossless += not missed
        if flow == "block" and missed:
            self._wrong.append(f"one that the container waits for has missed {missed} bytes")

    def _judge(self, at: int, event: say.Output) -> None:
        """Note what is wrong with some output, where it should begin at ``at``."""
        self._bytes += len(event.data)
        exact = self._all[at : at + len(event.data)] == event.data  # of bytes: one memcmp
        if event.offset != at or not exact:
            self._wrong.append(f"other bytes from {event.offset}, where {at} was the next")


def main() -> None:
    """Be a part of the crowd, and tell how it went."""
    root, box, clients, size, blocking, seed = sys.argv[1:]
    part = _Part(root, box, int(clients), int(size))
    print(json.dumps(trio.run(part.run, int(blocking), random.Random(seed))))


if __name__ == "__main__":
    main()
