"""What processes cost: memory, descriptors, processor time, and how often they wake up.

All of it from /proc, without disturbing those who are looked at.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from harness import Shop

_TICK = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """kB of one process, or of many together: its share of what is shared, and its own."""

    pss: int = 0
    private: int = 0


class Pair(NamedTuple):
    """The two processes of one container's shim."""

    keeper: int
    server: int


def pair(shop: Shop, box: str) -> Pair | None:
    """Return who they are; None while there is no server."""
    server = shop.server(box)
    return Pair(shop.keeper(box), server) if server else None


def memory(pids: Iterable[int]) -> Memory:
    """Return the sum over processes."""
    pss = private = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            pss += int(size) if name == "Pss:" else 0
            private += int(size) if name.startswith("Private_") else 0
    return Memory(pss, private)


def resident(pid: int) -> float:
    """Return MB of a process that are in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def peak(pid: int) -> float:
    """Return MB that a process has had in memory at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1e3


def descriptors(pid: int) -> int:
    """Return how many a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def files_in_memory(pids: Iterable[int]) -> int:
    """Return kB that lie in the memfds which any of the processes has open, each counted once."""
    found: dict[int, int] = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(link).startswith("/memfd:"):
                    known = link.stat()
                    found[known.st_ino] = known.st_blocks * 512
    return sum(found.values()) // 1024


def kernel_memory() -> int:
    """Return kB that the whole machine's kernel has for objects, stacks and page tables."""
    names = ("Slab:", "KernelStack:", "PageTables:")
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(names))


def seconds(pids: Iterable[int]) -> float:
    """Return what processes have had of a processor, all their threads together."""
    spent = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += int(fields[11]) + int(fields[12])
    return spent / _TICK


def switches(pid: int) -> dict[str, int]:
    """Return how often each thread has gone to sleep, or was made to wait, by its id."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        found[task.name] = sum(int(x.split()[1]) for x in lines if "ctxt_switches" in x)
    return found


def woken(pids: Iterable[int], period: float) -> dict[int, int]:
    """Return which of the processes did anything at all in ``period`` seconds, and how often.

    The period is what is measured: nothing is waited for.
    """
    watched = list(pids)
    before = {pid: switches(pid) for pid in watched}
    time.sleep(period)
    counts = {}
    for pid in watched:
        now, then = switches(pid), before[pid]
        if now != then:
            counts[pid] = max(1, sum(now.values()) - sum(then.values()))
    return counts


def quiet(pids: Iterable[int], period: float, patience: float) -> dict[int, int]:
    """Return what wakes up in every period until ``patience`` is over; nothing once nothing does.

    What has just been made, or was just spoken to, has a few things to finish first.
    """
    watched, deadline = list(pids), time.monotonic() + patience
    while True:
        while woken(watched, min(1.0, period)) and time.monotonic() < deadline:
            pass
        counts = woken(watched, period)
        if not counts or time.monotonic() >= deadline:
            return counts
