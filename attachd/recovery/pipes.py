"""Pipes that only others hold: found by their inode (proc(5), /proc/PID/fd), and opened anew."""

import os
import stat
from collections.abc import Iterator


def reopen(inode: int, flags: int) -> int | None:
    """Return a new descriptor of the pipe with that inode; None when no process holds it.

    ``flags`` are os.O_RDONLY or os.O_WRONLY; it never blocks, and is close-on-exec. What was in
    the pipe is still there.
    """
    for path in _holders(inode):
        try:
            fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError:
            continue  # its holder has gone, or nobody reads it (fifo(7), ENXIO)
        found = os.fstat(fd)
        if stat.S_ISFIFO(found.st_mode) and found.st_ino == inode:
            return fd
        os.close(fd)
    return None


def make_ended() -> int:
    """Return the reading end of a pipe that is at its end."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.close(write)
    return read


def _holders(inode: int) -> Iterator[str]:
    """Yield the path of each descriptor of the pipe in any process that we may look into."""
    link = f"pipe:[{inode}]"
    for process in filter(str.isdigit, os.listdir("/proc")):
        directory = f"/proc/{process}/fd"
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            path = f"{directory}/{name}"
            try:
                if os.readlink(path) == link:
                    yield path
            except OSError:
                continue
