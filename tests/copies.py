"""A second copy of attachd, with other code in it: what an upgrade upgrades to, or comes from."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness import PATIENCE, Shop

PROJECT = Path(__file__).resolve().parent.parent


class Copy:
    """The packages ``attachd`` and ``attachd_clients`` in a directory of their own."""

    def __init__(self, place: Path) -> None:
        ignore = shutil.ignore_patterns("__pycache__")
        self.place = place
        for package in (PROJECT / "attachd", PROJECT / "clients" / "attachd_clients"):
            shutil.copytree(package, place / package.name, ignore=ignore)

    def edit(self, module: str, old: str, new: str) -> None:
        """Replace a piece of a module, which must be there once."""
        path = self.place / module
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is not once in {module}"
        path.write_text(text.replace(old, new))

    def call(
        self, shop: Shop, module: str, *words: object, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run one of its programs: ``attachd``, or ``attachd_clients.ctl``."""
        environment = os.environ | {
            "ATTACHD_ROOT": str(shop.root),
            "PYTHONPATH": str(self.place),
        }
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, *map(str, words)],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE * 2,
            env=environment,
        )
        assert not check or done.returncode == 0, done.stderr
        return done
