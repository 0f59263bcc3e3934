"""Somebody else: code that is run under another user's ids, as root can have it.

In a fork of the test's own process: its interpreter may be where nobody else gets to, so that
everything that ``act`` needs must have been imported.
"""

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Somebody(NamedTuple):
    """A user with a group, by default of the same number, and supplementary ones."""

    uid: int
    gid: int = -1
    groups: tuple[int, ...] = ()

    def become(self) -> None:
        """Take the ids on, for good: in a child process."""
        os.setgroups(list(self.groups))
        os.setgid(self.uid if self.gid < 0 else self.gid)
        os.setuid(self.uid)

    def attempts(self, act: Callable[[], object]) -> str:
        """Call ``act`` in a child under these ids; return the error it ends with, or ""."""
        return self.does(act)[1]

    def does(self, act: Callable[[], object]) -> tuple[str, str]:
        """Call ``act`` in a child under these ids; return what it returns and its error."""
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            answer = told = ""
            try:
                self.become()
                answer = str(act())
            except BaseException as error:
                told = "".join(traceback.format_exception_only(error)).strip()
            finally:
                os.write(write, f"{answer}\0{told}".encode()[:4096])
                os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            answer, _, told = file.read().decode().partition("\0")
        os.waitpid(child, 0)
        return answer, told

    def connect(self, path: Path) -> socket.socket:
        """Return a socket that was connected under these ids; raises PermissionError."""
        ours, theirs = socket.socketpair()

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(os.fspath(path))
                socket.send_fds(theirs, [b"there"], [peer.fileno()])

        with ours, theirs:
            told = self.attempts(connect)
            if told:
                raise PermissionError(told)
            _, fds, _, _ = socket.recv_fds(ours, 16, 1)
        return socket.socket(fileno=fds[0])
