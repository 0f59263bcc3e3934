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

from benchmarks.log import workloads
from benchmarks.place import STEP_SECONDS, VENV, WATCHES, Failed, Place, attachd

HEADER = ("what", "attachd", "beside it", "ratio")

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
    root = str(place.directory / "attachd")
    printers = {
        "attachd": [str(VENV / "bin" / "attachctl"), "--root", root, "logs", container],
        "podman": _podman(place, log),
    }
    best = {name: float("inf") for name in printers}
    digests = {name: _print(argv, hashed=True)[1] for name, argv in printers.items()}
    if len(set(digests.values())) != 1:
        raise Failed("attachctl logs and podman logs print different things")
    for _ in range(rounds):
        for name, argv in printers.items():
            best[name] = min(best[name], _print(argv)[0])
    speeds = {name: size / seconds for name, seconds in best.items()}
    yield (
        f"printing a log of {size:.0f} MB, best of {rounds}",
        f"{speeds['attachd']:.0f} MB/s",
        f"podman logs {speeds['podman']:.0f} MB/s",
        f"{speeds['attachd'] / speeds['podman']:.2f}",
    )
    subprocess.run(
        [*printers["podman"][:-2], "rm", "-f", "bench"], capture_output=True, check=False
    )


def _podman(place: Place, log: Path) -> list[str]:
    """Make a container of Podman's whose log is ``log``; return what prints it."""
    base = place.directory / "podman"
    argv = [
        str(shutil.which("podman")), "--root", str(base / "root"), "--runroot", str(base / "run"),
        "--tmpdir", str(base / "tmp"), "--runtime", "runc", "--cgroup-manager", "cgroupfs",
    ]  # fmt: skip
    (base / "image").mkdir(parents=True)
    tar = base / "image.tar"
    subprocess.run(["tar", "-C", base / "image", "-cf", tar, "."], check=True)
    place.call(*argv, "import", str(tar), "bench")
    place.call(*argv, "create", "--name", "bench", "--network", "none", "--log-driver",
               "k8s-file", "bench", "true")  # fmt: skip
    found = subprocess.run(
        [*argv, "inspect", "--format", "{{.HostConfig.LogConfig.Path}}", "bench"],
        capture_output=True, text=True, check=True, timeout=STEP_SECONDS,
    )  # fmt: skip
    path = Path(found.stdout.strip())
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, path)
    return [*argv, "logs", "bench"]


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
