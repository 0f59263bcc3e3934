"""Execs: ``true`` in a container that runs, from the call to its exit code.

``attachctl exec``; the same through the library, which needs no new process; ``podman exec``,
which starts a conmon for each; ``runc exec``, which keeps no stdio and no record. All take
turns; the median counts.
"""

import statistics
import time
from collections.abc import Callable, Iterator

from attachd_clients import attach_blocking

from benchmarks.hosts import IMAGE, LIMITS, Host, host
from benchmarks.place import VENV, WATCHES, Failed, Place, attachd

HEADER = ("what", "attachd", "beside it", "ratio")


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield a row for each that is beside one of ours."""
    rounds = 5 if quick else 20
    bundle = place.bundle("execs", "sleep", "1000")
    container = place.name()
    attachd(place, container, bundle, place.logs / "execs.log")
    WATCHES["attachd"](place, container)
    with host(place, "podman-execs") as podman:
        podman.load(bundle / "rootfs")
        podman.call("conmon", "run", "-d", "--name", "bench", *LIMITS, IMAGE, "sleep", "10000")
        medians = _medians(_ways(place, container, podman), rounds)
    place.delete(container)
    for ours, other in (
        ("attachctl exec", "podman exec"),
        ("the library", "podman exec"),
        ("the library", "runc exec"),
    ):
        yield (
            f"`true` in a running container by {ours}, median of {rounds}",
            f"{medians[ours] * 1e3:.0f} ms",
            f"`{other}` {medians[other] * 1e3:.0f} ms",
            f"{medians[ours] / medians[other]:.2f}",
        )


def _ways(place: Place, container: str, podman: Host) -> dict[str, Callable[[], None]]:
    root, ctl = str(place.directory / "attachd"), str(VENV / "bin" / "attachctl")
    return {
        "attachctl exec": lambda: place.call(ctl, "--root", root, "exec", container, "true"),
        "the library": lambda: _through_library(container, root),
        "podman exec": lambda: podman.call("conmon", "exec", "bench", "true"),
        "runc exec": lambda: place.call(*place.runc, "exec", container, "true"),
    }


def _medians(ways: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each; a first round does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(times) for name, times in taken.items()}


def _through_library(container: str, root: str) -> None:
    spec = {"argv": ["true"]}
    with attach_blocking(container, root=root, since="start", spec=spec) as client:
        last = list(client)[-1]
    if getattr(last, "record", {}).get("exit_code") != 0:
        raise Failed(f"the exec ended with {last}")
