"""What a manager finds in the bundle, and its program: sockets and FIFOs, each made anew.

Whatever was there before is removed and not followed: a bundle is not only in our hands.
"""

import contextlib
import os
import socket
import stat

#: conmon's own; Podman connects once or twice.
_BACKLOG = 10

#: Podman mounts the directory that this is in at /run/notify.
NOTIFY = "notify.sock"


def make_link(path: str, target: str) -> None:
    """Make a symbolic link. Raises OSError."""
    _clear(path)
    os.symlink(target, path)


def listen(path: str) -> int:
    """Return the socket that guests connect to, mode 0700. Raises OSError."""
    listener = _bind(socket.SOCK_SEQPACKET, path, 0o077)
    listener.listen(_BACKLOG)
    return listener.detach()


def make_notify(directory: str) -> int:
    """Return the program's socket to systemd, for everybody, in its directory. Raises OSError."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    inside = os.open(directory, flags)
    try:
        return _bind(socket.SOCK_DGRAM, f"/proc/self/fd/{inside}/{NOTIFY}", 0).detach()
    finally:
        os.close(inside)


def make_fifo(path: str) -> int:
    """Make a FIFO, and open it for both: writers that come and go are no end of it.

    Raises OSError.
    """
    _clear(path)
    os.mkfifo(path, 0o640)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(17, "somebody has put something else there")
    return fd


def _bind(kind: int, path: str, mask: int) -> socket.socket:
    _clear(path)
    made = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(mask)
    try:
        made.bind(path)
    except OSError:
        made.close()
        raise
    finally:
        os.umask(before)
    return made


def _clear(path: str) -> None:
    """Remove what is there, of whatever kind. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
