"""Log: a container that waits for a word writes lines to its stdout.

The time runs from the word to the exit record, which both shims write after the log. They take
turns; the best counts. Every line must be in the log.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.place import WATCHES, Failed, Place, attachd, conmon

HEADER = ("what", "attachd", "beside it", "ratio")

LOG_SECONDS = 240.0

#: A shim that was just born still loads: so long it is left alone before the word is given.
SETTLE_SECONDS = 0.5

#: How often the container writes a workload's file, which stays in the page cache.
COPIES = 10

#: What CRI has between the time and the text of a whole line; no workload contains it.
WHOLE_LINE = b" stdout F "


class Workload(NamedTuple):
    """What a container writes to its stdout, COPIES times."""

    name: str
    line: str  #: with one %07d
    lines: int

    @property
    def text(self) -> str:
        """One copy."""
        return "".join(self.line % number for number in range(self.lines))


def workloads(quick: bool) -> tuple[Workload, Workload]:
    """Return the two workloads: 500 MB, and 100 MB of short lines, whose log is as large."""
    scale = 10 if quick else 1
    words = "INFO handled: method=GET path=/api/v1/items/%07d status=200 ms=12 agent="
    padded = words + "x" * (99 - len(words % 0)) + "\n"
    return (
        Workload("lines of 100 bytes", padded, 500_000 // scale),
        Workload("lines of 8 bytes", "%07d\n", 1_250_000 // scale),
    )


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row for each workload."""
    rounds = 2 if quick else 3
    for workload in workloads(quick):
        best = log_speeds(place, workload, rounds)
        yield (
            f"{workload.name} to the log, best of {rounds}",
            f"{best['attachd']:.0f} MB/s",
            f"conmon {best['conmon']:.0f} MB/s",
            f"{best['attachd'] / best['conmon']:.2f}",
        )


def log_speeds(place: Place, workload: Workload, rounds: int) -> dict[str, float]:
    """Return the best MB/s of container output; raises Failed for a log that lacks lines."""
    name = workload.name.replace(" ", "-")
    reads = " /lines" * COPIES
    bundle = place.bundle(name, "sh", "-c", f"cat /word && exec cat{reads}")
    (bundle / "rootfs" / "lines").write_text(workload.text)
    word = bundle / "rootfs" / "word"
    os.mkfifo(word)
    size = len(workload.line % 0) * workload.lines * COPIES / 1e6
    best: dict[str, float] = {}
    for _ in range(rounds):
        for contestant in (attachd, conmon):
            container = place.name()
            log = place.logs / f"{container}.log"
            end = contestant(place, container, bundle, log)
            WATCHES[contestant.__name__](place, container)
            seconds = _write_all(word, end)
            _check_lines(contestant.__name__, log, workload)
            place.delete(container)
            log.unlink()
            best[contestant.__name__] = max(best.get(contestant.__name__, 0), size / seconds)
    (bundle / "rootfs" / "lines").unlink()
    return best


def _write_all(word: Path, end: Path) -> float:
    """Give the word, and return the seconds until the exit record is there."""
    deadline = time.monotonic() + LOG_SECONDS
    fd = -1
    while fd < 0:
        try:
            fd = os.open(word, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: the container does not listen yet
            _pause(0.01, deadline)
    time.sleep(SETTLE_SECONDS)
    begun = time.perf_counter()
    os.close(fd)
    while not end.exists():
        _pause(0.001, deadline)
    return time.perf_counter() - begun


def _pause(seconds: float, deadline: float) -> None:
    if time.monotonic() > deadline:
        raise Failed(f"the container was not done after {LOG_SECONDS:g} seconds")
    time.sleep(seconds)


def _check_lines(name: str, log: Path, workload: Workload) -> None:
    found, rest = 0, b""
    with open(log, "rb") as file:
        while block := file.read(1 << 24):
            found += (rest + block).count(WHOLE_LINE)
            rest = block[1 - len(WHOLE_LINE) :]
    wanted = workload.lines * COPIES
    if found != wanted:
        raise Failed(f"{name}: the log has {found} of {wanted} {workload.name}")
