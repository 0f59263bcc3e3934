"""What keepers and servers cost, looked at whenever nobody acts; and whether that is flat.

Flat means: the least of the last third of a soak is not above the least of the first third by
more than is allowed. For memory it is the middle third, the first one is for warming up: what is
loaded at its first use, and buffers of the size that is needed now and then, which the allocator
keeps. A process that was killed begins anew: its memory is not judged, nor what the young have to
do; what grows slowly is seen where nobody is killed.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: What is allowed to be added. Memory: KiB that are the process's own (smaps_rollup, Anonymous;
#: rings and headers are shared); what is there after five minutes was there after two, within
#: 1.4 MB (seed 4). Threads and tasks: Trio keeps a thread for 10 seconds, and what a server does
#: in its first seconds may go on. Files: ``terminal.json`` comes with the first new size.
ALLOWED = {"memory": 2048, "descriptors": 0, "threads": 1, "tasks": 1, "files": 1}

#: An heir has two pidfds that the first keeper has not: of the server that has started it until
#: that one dies, and a second one of the container. An upgrade leaves its question and its answer,
#: and a death what is known of it: files of three names.
MORTAL = {"descriptors": 2, "files": 4}

#: A process younger than this is still loading what it needs, or waits for those who were
#: attached to a server before it: for 5 seconds from when it is up.
SETTLED = 8.0

#: With fewer samples than this nothing can be said of memory, and of the rest.
ENOUGH, FEW = 9, 2


class Sample(NamedTuple):
    """What one process has at one moment; ``files`` and ``tasks`` are the server's."""

    seconds: float  #: since the soak began
    age: float  #: of the process
    values: dict[str, int]


def measure(pid: int, began: float) -> Sample:
    """Look at a process; raises OSError when it has gone."""
    proc = Path(f"/proc/{pid}")
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    born = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    rollup = (proc / "smaps_rollup").read_text().splitlines()
    (anonymous,) = (line.split()[1] for line in rollup if line.startswith("Anonymous:"))
    values = {
        "memory": int(anonymous),
        "descriptors": len(os.listdir(proc / "fd")),
        "threads": int(fields[17]),
    }
    return Sample(time.monotonic() - began, now - born, values)


def zombies(pids: Iterable[int]) -> list[int]:
    """Return the children of these that have ended and were not reaped."""
    return [child for pid in pids for child in _children(pid) if _status(child) == "Z"]


def inside(init: int) -> list[str]:
    """Return the command lines in a container's pid namespace but its init's, and usleep.

    A fork of init that is about to be usleep has init's words.
    """
    namespace, own = _link(f"/proc/{init}/ns/pid"), _words(str(init))
    return [
        words
        for name in os.listdir("/proc")
        if name.isdigit()
        and int(name) != init
        and _link(f"/proc/{name}/ns/pid") == namespace
        and (words := _words(name))
        and words != own
        and not words.startswith("usleep")
    ]


def count_files(path: Path) -> int:
    """Return how many files a state directory has, without logs and records of execs."""
    names = [name for name in os.listdir(path) if name not in ("log", "exec", "bundle")]
    return len(names)


class Series:
    """The samples of one role in one container; ``mortal`` when that is killed now and then."""

    def __init__(self, *, mortal: bool) -> None:
        self.samples: list[Sample] = []
        self._mortal = mortal
        self.allowed = ALLOWED | (MORTAL if mortal else {})

    def row(self, gauge: str) -> tuple[int, int, int, bool] | None:
        """Return the least of an early third, of the last, the last, and whether that is flat.

        None when there are too few.
        """
        slow = gauge == "memory"
        youngest = SETTLED if gauge in ("memory", "tasks", "threads") else 0.0
        known = [x for x in self.samples if gauge in x.values and x.age >= youngest]
        if len(known) < (ENOUGH if slow else FEW) or (slow and self._mortal):
            return None
        third = max(1, len(known) // 3)
        early = known[third:-third] if slow else known[:third]
        before = min(sample.values[gauge] for sample in early)
        last = min(sample.values[gauge] for sample in known[-third:])
        return before, last, known[-1].values[gauge], last <= before + self.allowed[gauge]


def table(series: dict[tuple[str, str], Series]) -> tuple[list[str], list[str]]:
    """Return the lines to print, and what is not flat."""
    lines = [f"{'':44}" + "".join(f"{gauge:>22}" for gauge in ALLOWED)]
    wrong = []
    for (box, role), found in series.items():
        cells = []
        for gauge, allowed in found.allowed.items():
            row = found.row(gauge)
            if row is None:
                cells.append("-")
                continue
            first, last, now, flat = row
            cells.append(f"{first} > {last} ({now}){'' if flat else ' !'}")
            if not flat:
                wrong.append(
                    f"{box}, {role}: {gauge} went from {first} to {last}, {allowed} allowed"
                )
        lines.append(f"{box + ', ' + role:44}" + "".join(f"{cell:>22}" for cell in cells))
    return lines, wrong


def _children(pid: int) -> list[int]:
    try:
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    except OSError:
        return []


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _words(name: str) -> str:
    try:
        return Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
