"""The servers of one container as the kernel shows them: how much has come, and their end."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path

from harness import PATIENCE, Shop, wait_for

from attachd.keeper.descriptors import map_header

#: How often it is looked where the output is.
_LOOK_SECONDS = 0.0002


class Nest:
    """The servers of one container, as they are seen from outside, and their end."""

    def __init__(self, shop: Shop, box: str) -> None:
        keeper = shop.keeper(box)
        self._children = Path(f"/proc/{keeper}/task/{keeper}/children")
        found = {os.readlink(fd): fd for fd in Path(f"/proc/{keeper}/fd").iterdir()}
        ring = next(fd for name, fd in found.items() if "memfd:attachd-ring" in name)
        self._ring = ring
        self._info = Path(f"/proc/{keeper}/fdinfo/{ring.name}")
        header = next(fd for name, fd in found.items() if "memfd:attachd-header" in name)
        fd = os.open(header, os.O_RDWR)
        self.header = map_header(fd)
        os.close(fd)
        self.working = self.starting = 0  #: kills of servers that had come up, and had not

    @property
    def kills(self) -> int:
        return self.working + self.starting

    @property
    def position(self) -> int:
        """How many bytes have come, as the kernel says."""
        return int(self._info.read_text().split(None, 2)[1])

    def read(self, start: int, size: int) -> bytes:
        """Return what is in the ring from an offset on."""
        with self._ring.open("rb") as file:
            file.seek(start)
            return file.read(size)

    @property
    def server(self) -> int:
        """The pid of the server; 0 while there is none."""
        for pid in map(int, self._children.read_text().split()):
            with contextlib.suppress(OSError):
                if b"attachd.live" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return 0

    def kill(
        self, until: Callable[[int], object], stopped: Callable[[], None] | None = None
    ) -> None:
        """Kill the server that there is or comes, once ``until(pid)`` has returned.

        ``stopped`` is called when it does nothing more, and is not dead yet.
        """
        pid = wait_for(lambda: self.server)
        pidfd = os.pidfd_open(pid)
        until(pid)
        if stopped is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            wait_for(lambda: _state(pid) in "TZ")
            stopped()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(PATIENCE * 1000):
            raise AssertionError("a server that was killed does not die")
        os.close(pidfd)
        came_up = self.header.up == pid
        self.working += came_up
        self.starting += not came_up

    def wait_up(self, pid: int) -> None:
        """Return when that server is at work."""
        wait_for(lambda: self.header.up == pid)

    def wait_position(self, wanted: int) -> None:
        """Return when so many bytes have come."""
        deadline = time.monotonic() + PATIENCE
        while self.position < wanted:
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"it stays at {self.position}, and should come to {wanted}"
                )
            time.sleep(_LOOK_SECONDS)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
