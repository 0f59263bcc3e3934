"""A pidfd: a process that may be signalled, and what is still told of it when it was reaped."""

import fcntl
import os
import signal
import struct

from attachd.errors import LifecycleError, Refused
from attachd.state.exitrecord import CLD_DUMPED, CLD_EXITED, CLD_KILLED
from attachd.state.header import Header

#: struct pidfd_info of include/uapi/linux/pidfd.h: mask, cgroupid, eleven ids, exit_code.
_INFO = struct.Struct("=QQ11Ii")
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  #: _IOWR(PIDFS_IOCTL_MAGIC, 11)
_INFO_EXIT = 1 << 3  #: Linux 6.15 and later


def exit_of(pidfd: int) -> tuple[int, int] | None:
    """Return (si_code, si_status) of an ended process, or None where the kernel cannot tell."""
    asked = bytearray(_INFO.pack(_INFO_EXIT, *([0] * 13)))
    try:
        fcntl.ioctl(pidfd, _GET_INFO, asked)
    except OSError:
        return None
    answer = _INFO.unpack(asked)
    if not answer[0] & _INFO_EXIT:
        return None
    status = answer[-1]
    if os.WIFEXITED(status):
        return CLD_EXITED, os.WEXITSTATUS(status)
    code = CLD_DUMPED if os.WCOREDUMP(status) else CLD_KILLED
    return code, os.WTERMSIG(status)


def open_child(header: Header) -> int:
    """Return a pidfd of the keeper's child that a header is about; -1 when it was reaped.

    The keeper notes the end before it reaps: nothing noted after the call means that the pid
    was still that child's own when it was opened.
    """
    try:
        pidfd = os.pidfd_open(header.pid)
    except (OSError, ValueError):
        return -1
    if header.exit_code:
        os.close(pidfd)
        return -1
    return pidfd


def send(pidfd: int, number: int) -> None:
    """Send a signal. Raises LifecycleError when it is gone, Refused for what is no signal."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        raise LifecycleError("cannot signal what is stopped") from None
    except (OSError, ValueError, OverflowError) as error:
        raise Refused("bad_request", f"signal {number}: {error}") from None
