"""What the figures were measured on."""

import os
import platform
import subprocess
from pathlib import Path

from benchmarks.place import STEP_SECONDS


def machine() -> str:
    system = platform.uname()
    versions = [_first_line("runc", "--version"), _first_line("conmon", "--version")]
    cores = len(os.sched_getaffinity(0))
    interpreter = f"Python {platform.python_version()}"
    return ", ".join(
        [f"{cores} cores", f"{system.system} {system.release}", interpreter, *versions]
    )


def _first_line(*argv: str) -> str:
    told = subprocess.run(
        argv, capture_output=True, text=True, timeout=STEP_SECONDS, check=True
    )
    return told.stdout.splitlines()[0].replace(" version", "")


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path (proc(5), mountinfo)."""
    kinds: dict[str, str] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        kinds[where] = kind
    return next(
        kinds[str(p)] for p in (path.resolve(), *path.resolve().parents) if str(p) in kinds
    )
