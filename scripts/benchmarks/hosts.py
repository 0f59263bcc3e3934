"""A Podman of our own: its storage, an image, and which conmon it starts."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.place import STEP_SECONDS, VENV, Place

IMAGE = "bench"

#: By name; each is what Podman starts for a container and for each exec in it.
CONMONS = {"attachd": str(VENV / "bin" / "attachd-conmon"), "conmon": "conmon"}

#: For this machine's limits, and without a network of its own.
LIMITS = (
    "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
)  # fmt: skip

#: File locks: those in shared memory are one set for the whole machine, and a new tmpdir frees all.
_CONF = """
[engine]
lock_type = "file"
conmon_path = ["{conmon}"]
conmon_env_vars = ["ATTACHD_ROOT={root}"]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Host:
    """``argv`` are the words before a verb; ``as_conmon`` gives the environment for one shim."""

    def __init__(self, place: Place, base: Path) -> None:
        self._place = place
        self._base = base
        self.argv = [
            str(shutil.which("podman")), "--root", str(base / "root"),
            "--runroot", str(base / "run"), "--tmpdir", str(base / "tmp"),
        ]  # fmt: skip

    def call(self, shim: str, *words: str) -> None:
        """Run Podman to its end, with ``shim`` as its conmon. Raises Failed."""
        conf = self._base / f"{shim}.conf"
        if not conf.exists():
            root = self._base / "attachd"
            conmon = shutil.which(CONMONS[shim]) or CONMONS[shim]
            conf.write_text(_CONF.format(conmon=conmon, root=root))
        self._place.environment["CONTAINERS_CONF"] = str(conf)
        self._place.call(*self.argv, *words)

    def load(self, rootfs: Path) -> None:
        """Make an image of a directory."""
        tar = self._base / "image.tar"
        subprocess.run(["tar", "-C", rootfs, "-cf", tar, "."], check=True)
        self.call("conmon", "import", str(tar), IMAGE)


@contextlib.contextmanager
def host(place: Place, name: str) -> Iterator[Host]:
    """Have a host, and in the end none of its containers and no mount."""
    base = place.directory / name
    base.mkdir()
    made = Host(place, base)
    try:
        yield made
    finally:
        overlay = base / "root" / "overlay"
        for argv in ([*made.argv, "rm", "-fa", "-t", "0"], ["umount", str(overlay)]):
            subprocess.run(argv, capture_output=True, check=False, timeout=STEP_SECONDS)
