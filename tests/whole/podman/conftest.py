"""Podman as it comes from Debian, on attachd-conmon in the place of conmon.

``ATTACHD_TEST_SHIM=conmon`` runs every test on the real conmon: what they hold attachd to is
what Podman's users have now.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import wait_for
from panes import Panes
from podman_host import SHIMS, Podman

SHIM = os.environ.get("ATTACHD_TEST_SHIM", "attachd")


@pytest.fixture(scope="session")
def hosts() -> Iterator[Callable[[str], Podman]]:
    """Return the Podman host of a shim: one in each test process, made when it is first used."""
    made: dict[str, Podman] = {}

    def host(shim: str) -> Podman:
        if os.geteuid() != 0 or not (shutil.which("podman") and shutil.which("runc")):
            pytest.skip("needs root, Podman and a real runc")
        if shim == "conmon" and not SHIMS[shim].exists():
            pytest.skip("needs the real conmon to compare with")
        if shim not in made:
            made[shim] = Podman(SHIMS[shim])
        return made[shim]

    yield host
    for podman in made.values():
        podman.close()


@pytest.fixture
def podman(hosts) -> Iterator[Podman]:
    """Podman on the shim under test; what the test makes is removed."""
    yield (host := hosts(SHIM))
    host.clear()


@pytest.fixture
def podman_attachd(hosts) -> Iterator[Podman]:
    """Podman on attachd, whatever the shim under test is."""
    yield (host := hosts("attachd"))
    host.clear()


@pytest.fixture
def podman_conmon(hosts) -> Iterator[Podman]:
    """Podman on the real conmon, whose faults can be seen there."""
    yield (host := hosts("conmon"))
    host.clear()


@pytest.fixture
def panes(podman: Podman) -> Iterator[Panes]:
    """Real terminals: a tmux of this test alone."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    made = Panes(podman)
    yield made
    made.close()


class Gate:
    """Where a program waits until the test lets it pass: ``read go </gate/fifo``."""

    def __init__(self, folder: Path) -> None:
        self.options = ("--volume", f"{folder}:/gate")
        self._path = folder / "fifo"
        os.mkfifo(self._path)

    def let_pass(self) -> None:
        """Return when the program has come to the gate and has been let through."""
        fd = int(wait_for(self._open))
        os.write(fd, b"go\n")
        os.close(fd)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads yet (fifo(7))
            return 0


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    (tmp_path / "gate").mkdir()
    return Gate(tmp_path / "gate")
