"""Containers that do nothing: each kind of them, and what they cost together.

Used by a test in short and by ``scripts/storm idle`` at length.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import burden
from attachd_clients import attach_blocking
from harness import Shop, wait_for

#: A container that has nothing to do is busybox with this.
IDLER = ("sleep", "1000000")

#: What may be about a container that is idle: options, and whether a client stays attached.
KINDS: dict[str, tuple[tuple[str, ...], bool]] = {
    "plain": ((), False),
    "with a terminal": (("-t", "-i", "-d"), False),
    "with stdin open": (("-i",), False),
    "with a log that rotates by age": (("--log-max-age", "7d"), False),
    "with an attached client": (("-i",), True),
    "with an attached terminal": (("-t", "-i", "-d"), True),
}

#: So many are made alone when there are many already, to see what one more takes.
SAMPLES = 5

#: What has just been made has something to finish; Trio keeps a thread for ten seconds.
SETTLE_SECONDS = 60.0


class Cost(NamedTuple):
    """What ``count`` containers cost; kB, milliseconds and counts are for each of them."""

    count: int
    make: float  #: one more, made alone
    remove: float
    listed: float  #: ``attachctl ls``, in all
    keeper: burden.Memory
    server: burden.Memory
    files: float  #: in memfds
    kernel: float  #: of the machine's own memory, since before the first; the container's, too
    keeper_fds: float
    server_fds: float
    processes: float  #: keepers and servers
    woken: dict[int, int]  #: which processes have done anything though nothing happened


def make(shop: Shop, count: int, at_once: int) -> None:
    """Make so many idle containers, and wait until each has its server."""
    with ThreadPoolExecutor(at_once) as pool:
        boxes = [*pool.map(lambda _: shop.run(*IDLER), range(count))]
    for box in boxes:
        wait_for(lambda box=box: shop.server(box))


@contextlib.contextmanager
def one_of_each(shop: Shop) -> Iterator[dict[str, burden.Pair]]:
    """Make a container of each kind; return their processes by the kinds' names."""
    with contextlib.ExitStack() as stack:
        found = {}
        for kind, (options, attached) in KINDS.items():
            box = shop.run(*IDLER, options=options)
            if attached:
                client = stack.enter_context(attach_blocking(box, root=str(shop.root)))
                client.ping()
            wait_for(lambda box=box: shop.server(box))
            pair = burden.pair(shop, box)
            assert pair is not None
            found[kind] = pair
        yield found


def measure(shop: Shop, boxes: list[str], before: int, period: float) -> Cost:
    """Return what these cost; ``before`` is what the kernel had when there were none."""
    pairs = [pair for box in boxes if (pair := burden.pair(shop, box)) is not None]
    both = [pid for pair in pairs for pid in pair]
    woken = burden.quiet(both, period, SETTLE_SECONDS)
    keepers, servers = [p.keeper for p in pairs], [p.server for p in pairs]
    kernel = burden.kernel_memory() - before
    count = len(boxes)
    listed = _milliseconds(lambda: shop.ctl("ls"))
    made, removed = _one_more(shop)
    return Cost(
        count,
        made,
        removed,
        listed,
        _each(burden.memory(keepers), count),
        _each(burden.memory(servers), count),
        burden.files_in_memory(servers) / count,
        kernel / count,
        sum(map(burden.descriptors, keepers)) / count,
        sum(map(burden.descriptors, servers)) / count,
        len(both) / count,
        woken,
    )


def _each(memory: burden.Memory, count: int) -> burden.Memory:
    return burden.Memory(memory.pss // count, memory.private // count)


def _one_more(shop: Shop) -> tuple[float, float]:
    """Return the milliseconds that it takes to make, and to remove, one container more."""
    made, removed = [], []
    for _ in range(SAMPLES):
        made.append(_milliseconds(lambda: shop.run(*IDLER)))
        box = shop.made.pop()
        wait_for(lambda box=box: shop.server(box))
        removed.append(_milliseconds(lambda box=box: shop.ctl("rm", "--force", box)))
    return statistics.median(made), statistics.median(removed)


def _milliseconds(act: object) -> float:
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * 1e3
