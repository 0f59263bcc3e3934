"""Podman on attachd-conmon, and on conmon: the whole of a short container, an exec, much output.

``podman run --rm box true`` from its start to its return, in which Podman starts conmon three
times (4.3: twice for its version); ``podman exec box true``; and 200 MB that a container says to
a ``podman run`` in the foreground, which writes them to a file in memory. All take turns; the
median counts.
"""

import statistics
import time
from collections.abc import Iterator

from benchmarks.hosts import CONMONS, IMAGE, LIMITS, Host, host
from benchmarks.place import Place

HEADER = ("what", "attachd", "beside it", "ratio")

MEGABYTES = 200


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield a row for each."""
    rounds, size = (3, MEGABYTES // 10) if quick else (15, MEGABYTES)
    bundle = place.bundle("podman-box", "true")
    say = f"head -c {size}000000 /dev/zero"
    with host(place, "podman-bench") as podman:
        podman.load(bundle / "rootfs")
        for shim in CONMONS:
            podman.call(shim, "run", "-d", "--name", shim, *LIMITS, IMAGE, "sleep", "10000")
        ways = {
            f"`podman run --rm box true`, median of {rounds}": (
                "run", "--rm", *LIMITS, IMAGE, "true",
            ),
            f"`podman exec box true`, median of {rounds}": ("exec", "{shim}", "true"),
            f"`podman run` of {size} MB, median of {rounds}": (
                "run", "--rm", *LIMITS, "--log-driver", "none", IMAGE, "sh", "-c", say,
            ),
        }  # fmt: skip
        for name, words in ways.items():
            ours, other = (
                statistics.median(times) for times in _measure(podman, words, rounds).values()
            )
            yield (
                name,
                f"{ours * 1e3:.0f} ms",
                f"conmon {other * 1e3:.0f} ms",
                f"{ours / other:.2f}",
            )


def _measure(podman: Host, words: tuple[str, ...], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round by shim; a first round does not count."""
    taken: dict[str, list[float]] = {shim: [] for shim in CONMONS}
    for number in range(rounds + 1):
        for shim in CONMONS:
            said = [word.format(shim=shim) for word in words]
            begun = time.perf_counter()
            podman.call(shim, *said)
            if number:
                taken[shim].append(time.perf_counter() - begun)
    return taken
