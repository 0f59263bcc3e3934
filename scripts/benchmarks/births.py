"""Births: from the start of ``attachd run`` to its return, when the container runs.

Beside it conmon with ``runc create``, its report on the sync pipe, and ``runc start``;
``runc run -d``, which keeps no stdio; and a Python that does nothing. All take turns, on one
bundle; the median counts.
"""

import statistics
import time
from collections.abc import Iterator

from benchmarks.place import WATCHES, Place, attachd, conmon, python, runc

HEADER = ("what", "attachd", "beside it", "ratio")


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row for each that is beside it."""
    rounds = 5 if quick else 20
    medians = births(place, rounds)
    ours = medians["attachd"]
    for name, other in (
        ("conmon", "conmon"),
        ("runc", "`runc run -d`"),
        ("python", "`python -c pass`"),
    ):
        seconds = medians[name]
        yield (
            f"create to running, median of {rounds}",
            f"{ours * 1e3:.1f} ms",
            f"{other} {seconds * 1e3:.1f} ms",
            f"{ours / seconds:.2f}",
        )


def births(place: Place, rounds: int) -> dict[str, float]:
    """Return the median seconds from nothing to running; a first round does not count."""
    bundle = place.bundle("birth", "sleep", "1000")
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for contestant in (attachd, conmon, runc, python):
            container, log = place.name(), place.logs / "birth.log"
            begun = time.perf_counter()
            contestant(place, container, bundle, log)
            seconds = time.perf_counter() - begun
            name = contestant.__name__
            if number:
                taken.setdefault(name, []).append(seconds)
            if name in WATCHES:
                WATCHES[name](place, container)
            if contestant is not python:
                place.delete(container)
    return {name: statistics.median(times) for name, times in taken.items()}
