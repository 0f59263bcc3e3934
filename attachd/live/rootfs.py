"""Files of a container, read from outside without being led astray by its symbolic links."""

import ctypes
import os
import stat
import struct

#: openat2(2): its number is the same on every architecture but Alpha.
_SYS_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02
_OPEN_HOW = struct.Struct("=QQQ")  #: struct open_how: flags, mode, resolve

#: /etc/passwd of a big directory of users; more is not read.
MAX_BYTES = 4 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def read_text(pid: int, path: str) -> str:
    """Return a regular file of the mount namespace of ``pid``; "" when there is none.

    Links are followed as a process in there would, and never lead out (RESOLVE_IN_ROOT).
    Nothing but a regular file is opened: a device would hear of it. No more is read than its
    size: what /proc makes up has none, and may wait, fail, or be used up by reading.
    """
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = _find_inside(root, path.lstrip("/"))
    except OSError:
        return ""
    finally:
        os.close(root)
    try:
        return _read(found).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(found)


def _read(found: int) -> bytes:
    """Return what is in a file that was found and not opened. Raises OSError."""
    told = os.fstat(found)
    if not stat.S_ISREG(told.st_mode):
        return b""
    fd = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.read(fd, min(told.st_size, MAX_BYTES))
    finally:
        os.close(fd)


def _find_inside(root: int, path: str) -> int:
    """Return what is there, without opening it (O_PATH). Raises OSError."""
    flags = os.O_PATH | os.O_CLOEXEC
    how = _OPEN_HOW.pack(flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    fd: int = _libc.syscall(_SYS_OPENAT2, root, os.fsencode(path), how, len(how))
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return fd
