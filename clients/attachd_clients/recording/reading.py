"""The lines of a file, or of whatever our stdin is, without a wait that ctrl-C cannot end."""

import os
import stat
from collections.abc import AsyncGenerator

import trio

from attachd.errors import UsageError
from attachd_clients.recording.casts import MAX_LINE

_READ_BYTES = 256 * 1024


async def read_lines(fd: int, name: str) -> AsyncGenerator[bytes, None]:
    """Yield line by line, with the newlines; one that is too long ends at MAX_LINE.

    Raises UsageError when ``fd`` cannot be read. On cancel: what was read and not yielded is lost.
    """
    held = b""
    while data := await _read(fd, name):
        *lines, held = (held + data).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(held) >= MAX_LINE:
            break
    if held:
        yield held[:MAX_LINE]


async def _read(fd: int, name: str) -> bytes:
    try:
        if _may_wait(fd):
            await trio.lowlevel.wait_readable(fd)
        return os.read(fd, _READ_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None


def _may_wait(fd: int) -> bool:
    """False for files and devices that always answer; epoll knows none (epoll_ctl(2), EPERM)."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
