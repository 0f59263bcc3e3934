"""Somebody else: code that is run under another user's ids, as root can have it."""

import os
import traceback
from collections.abc import Callable
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
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                self.become()
                act()
            except BaseException as error:
                told = "".join(traceback.format_exception_only(error))
                os.write(write, told.encode()[:4096])
            finally:
                os._exit(0)
        os.close(write)
        with open(read, "rb") as file:
            told = file.read().decode()
        os.waitpid(child, 0)
        return told.strip()
