"""Execs: ``true`` in a container that runs, from the call to its exit code.

``attachctl exec``; the same through the library, which needs no new process; ``podman exec``,
which starts a conmon for each; ``runc exec``, which keeps no stdio and no record. All take
turns; the median counts.
"""

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from attachd_clients import attach_blocking

from benchmarks.place import STEP_SECONDS, VENV, WATCHES, Failed, Place, attachd

HEADER = ("what", "attachd", "beside it", "ratio")


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield a row for each that is beside one of ours."""
    rounds = 5 if quick else 20
    bundle = place.bundle("execs", "sleep", "1000")
    container = place.name()
    attachd(place, container, bundle, place.logs / "execs.log")
    WATCHES["attachd"](place, container)
    podman = _podman(place, bundle)
    root = str(place.directory / "attachd")
    ways: dict[str, Callable[[], None]] = {
        "attachctl exec": lambda: place.call(
            str(VENV / "bin" / "attachctl"), "--root", root, "exec", container, "true"
        ),
        "the library": lambda: _through_library(container, root),
        "podman exec": lambda: place.call(*podman, "exec", "bench", "true"),
        "runc exec": lambda: place.call(*place.runc, "exec", container, "true"),
    }
    try:
        medians = _medians(ways, rounds)
    finally:
        _end_podman(place, podman)
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


def _end_podman(place: Place, podman: list[str]) -> None:
    """Remove its container, and the mount that it leaves."""
    overlay = place.directory / "podman-execs" / "root" / "overlay"
    for argv in ([*podman, "rm", "-f", "-t", "0", "bench"], ["umount", str(overlay)]):
        subprocess.run(argv, capture_output=True, check=False, timeout=STEP_SECONDS)


def _podman(place: Place, bundle: Path) -> list[str]:
    """Have Podman run a container of its own on the same root; return the words before a verb."""
    base = place.directory / "podman-execs"
    argv = [
        str(shutil.which("podman")), "--root", str(base / "root"), "--runroot", str(base / "run"),
        "--tmpdir", str(base / "tmp"), "--runtime", "runc", "--cgroup-manager", "cgroupfs",
    ]  # fmt: skip
    base.mkdir(parents=True)
    tar = base / "image.tar"
    subprocess.run(["tar", "-C", bundle / "rootfs", "-cf", tar, "."], check=True)
    place.call(*argv, "import", str(tar), "bench")
    limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
    options = ("--name", "bench", "--network", "none", *limits)
    place.call(*argv, "run", "-d", *options, "bench", "sleep", "1000")
    return argv
