"""Logs: the same log file, printed by ``attachctl logs`` and by ``podman logs``.

attachd makes the log; Podman's container gets a copy in the place of its own. Both programs
print it whole to /dev/null, in turns; the best counts, and both must print the same.
"""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.hosts import IMAGE, LIMITS, Host, host
from benchmarks.log import workloads
from benchmarks.place import STEP_SECONDS, VENV, WATCHES, Failed, Place, attachd

HEADER = ("what", "attachd", "beside it", "ratio")

CTL = str(VENV / "bin" / "attachctl")

#: Of 500 MB; Podman takes half a minute for that on a slow machine.
PRINT_SECONDS = 240.0


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row."""
    workload, rounds = workloads(quick)[0], 2 if quick else 3
    copies = 10
    bundle = place.bundle("logs", "sh", "-c", "exec cat" + " /lines" * copies)
    (bundle / "rootfs" / "lines").write_text(workload.text)
    size = len(workload.text) * copies / 1e6
    container, log = place.name(), place.logs / "logs.log"
    end = attachd(place, container, bundle, log)
    WATCHES["attachd"](place, container)
    deadline = time.monotonic() + PRINT_SECONDS
    while not end.exists():
        if time.monotonic() > deadline:
            raise Failed("the container did not end")
        time.sleep(0.05)
    place.delete(container)
    with host(place, "podman") as podman:
        podman.load(bundle / "rootfs")
        speeds = _speeds(
            {
                "attachd": [
                    CTL,
                    "--root",
                    str(place.directory / "attachd"),
                    "logs",
                    container,
                ],
                "podman": _lay_out(podman, log),
            },
            size,
            rounds,
        )
    yield (
        f"printing a log of {size:.0f} MB, best of {rounds}",
        f"{speeds['attachd']:.0f} MB/s",
        f"podman logs {speeds['podman']:.0f} MB/s",
        f"{speeds['attachd'] / speeds['podman']:.2f}",
    )


def _speeds(printers: dict[str, list[str]], size: float, rounds: int) -> dict[str, float]:
    """Return the best MB/s of each; raises Failed when they print different things."""
    digests = {name: _print(argv, hashed=True)[1] for name, argv in printers.items()}
    if len(set(digests.values())) != 1:
        raise Failed("attachctl logs and podman logs print different things")
    best = {name: float("inf") for name in printers}
    for _ in range(rounds):
        for name, argv in printers.items():
            best[name] = min(best[name], _print(argv)[0])
    return {name: size / seconds for name, seconds in best.items()}


def _lay_out(podman: Host, log: Path) -> list[str]:
    """Make a container of Podman's whose log is ``log``; return what prints it."""
    container = ("create", "--name", "bench", "--log-driver", "k8s-file", *LIMITS)
    podman.call("conmon", *container, IMAGE, "true")
    found = subprocess.run(
        [*podman.argv, "inspect", "--format", "{{.HostConfig.LogConfig.Path}}", "bench"],
        capture_output=True, text=True, check=True, timeout=STEP_SECONDS,
    )  # fmt: skip
    path = Path(found.stdout.strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, path)
    return [*podman.argv, "logs", "bench"]


def _print(argv: list[str], *, hashed: bool = False) -> tuple[float, str]:
    """Run a printer to its end; return its seconds, and a digest of what it printed."""
    digest = hashlib.sha256()
    begun = time.perf_counter()
    with open(os.devnull, "wb") as null:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if hashed else null,
            stderr=null,
        )
        while process.stdout is not None and (block := process.stdout.read(1 << 20)):
            digest.update(block)
        if process.wait(PRINT_SECONDS) != 0:
            raise Failed(f"{argv[0]}: status {process.returncode}")
    return time.perf_counter() - begun, digest.hexdigest()
