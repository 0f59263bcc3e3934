"""Which log files are kept: limits, and what they make expendable."""

from collections.abc import Iterable
from typing import NamedTuple

from attachd.state.loglines import MAX_LINE


class Limits(NamedTuple):
    """When a log file is full, and how much is kept; 0 is "no limit"."""

    max_size: int = 0  #: bytes of one file
    max_files: int = 0  #: how many, with the one that is being written
    max_age: float = 0.0  #: seconds; a file begun longer ago is rotated, then removed
    max_total: int = 0  #: bytes of all files, with the one that is being written


class Old(NamedTuple):
    """A rotated file."""

    name: str
    size: int  #: bytes, as it lies on the disk
    written: float  #: when its last text was written, seconds by ``now``'s clock


def expendable(old: Iterable[Old], active: int, limits: Limits, now: float) -> list[str]:
    """Return the names of files to remove, of rotated ones in the order of their age.

    ``active`` is the size of the file that is being written, which is never removed. A clock
    that jumped back makes files younger, and so keeps them.
    """
    kept = list(old)
    removed: list[str] = []
    total = active + sum(file.size for file in kept)
    while kept and _is_too_much(kept, total, limits, now):
        oldest = kept.pop(0)
        total -= oldest.size
        removed.append(oldest.name)
    return removed


def _is_too_much(kept: list[Old], total: int, limits: Limits, now: float) -> bool:
    return (
        (limits.max_files > 0 and len(kept) + 1 > limits.max_files)
        or (limits.max_total > 0 and total > limits.max_total)
        or (limits.max_age > 0 and now - kept[0].written > limits.max_age)
    )


def cost(data: bytes, overhead: int) -> int:
    """Return how much text ``data`` may become, at most: its last line may be a piece.

    A record takes ``overhead`` bytes more than its output, a piece a newline, too.
    """
    return len(data) + overhead * (data.count(b"\n") + 1) + 1 + _cuts(len(data), overhead)


def _cuts(size: int, overhead: int) -> int:
    """Return what it takes that long lines are cut into pieces."""
    return size // MAX_LINE * (overhead + 1) if overhead else 0


def fitting(data: bytes, room: int, overhead: int) -> int:
    """Return how many bytes of ``data`` make whole lines that fit into ``room`` bytes of text.

    Each line takes ``overhead`` bytes more. 0 when not even the first line fits, or ends.
    """
    low, high = 0, len(data) if room > 0 else 0
    while low < high:
        middle = (low + high + 1) // 2
        cut = data.rfind(b"\n", 0, middle) + 1
        if cut + overhead * data.count(b"\n", 0, cut) + _cuts(cut, overhead) <= room:
            low = middle
        else:
            high = cut - 1
    return data.rfind(b"\n", 0, low) + 1
