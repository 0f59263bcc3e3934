"""What a pidfd still tells of a process that somebody else has reaped."""

import fcntl
import os
import select
import struct

from attachd.state.exitrecord import CLD_DUMPED, CLD_EXITED, CLD_KILLED

#: struct pidfd_info of include/uapi/linux/pidfd.h: mask, cgroupid, eleven ids, exit_code.
_INFO = struct.Struct("=QQ11Ii")
_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11  #: _IOWR(PIDFS_IOCTL_MAGIC, 11)
_INFO_EXIT = 1 << 3  #: Linux 6.15 and later

#: The kernel tells only when a process was reaped, which some inits do not do at once.
REAP_SECONDS = 10.0


def has_ended(pidfd: int) -> bool:
    """True for a process that has ended, be it reaped or not (pidfd_open(2))."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


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
