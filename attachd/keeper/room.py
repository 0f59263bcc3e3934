"""Room that a state directory has from its birth on, for when the disk under it is full."""

import os

from attachd.keeper import files
from attachd.keeper.descriptors import Libc

#: For our own words about a full disk: some forty lines, one page of tmpfs.
WORDS_BYTES = 4096


def make_room(directory: str) -> None:
    """Make what must not fail later: the exit record's blocks, and our log with some.

    Raises OSError. Where the file system cannot promise room beyond a file's end, only words of
    ours about a full disk are lost.
    """
    files.reserve(os.path.join(directory, files.EXIT_ROOM), files.RECORD_BYTES)
    _make_log(os.path.join(directory, files.SHIM_LOG), WORDS_BYTES)
    # The runtime would make its own log readable for everybody.
    _make_log(os.path.join(directory, files.RUNTIME_LOG), 0)


def _make_log(path: str, room: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        Libc().allocate_beyond(fd, room)
    finally:
        os.close(fd)
