"""What conmon's callers find when a container has ended: exit files."""

import errno
import logging
import os
from collections.abc import Sequence

from attachd.keeper import files

#: The status of a program that was killed because its time was over, or whose end nobody knows.
UNKNOWN = -1

#: As a shell tells that a signal has ended a program.
_SIGNALLED = 128

_log = logging.getLogger(__name__)


def status_of(record: dict[str, object]) -> int:
    """Return the one number that an exit record is for conmon's callers."""
    code, signal = record.get("exit_code"), record.get("signal")
    if isinstance(code, int):
        return code
    if isinstance(signal, int) and not record.get("timed_out"):
        return _SIGNALLED + signal
    return UNKNOWN


def write_status(paths: Sequence[str], status: int) -> None:
    """Write the status, without a newline, where it was asked for; what cannot be is logged."""
    for path in paths:
        try:
            files.write_number(path, status)
        except OSError as error:
            _log.error("cannot write the exit file %s: %s", path, error.strerror)


def note_oom(directories: Sequence[str]) -> None:
    """Leave an empty file ``oom`` in each: the kernel has killed in there for want of memory."""
    for directory in directories:
        try:
            fd = os.open(os.path.join(directory, "oom"), os.O_WRONLY | os.O_CREAT, 0o644)
            os.close(fd)
        except OSError as error:
            _log.error("cannot write %s/oom: %s", directory, error.strerror)


def sync(logs: Sequence[int]) -> None:
    """Have what was written to logs on the disk; what has no disk (a pipe) is left."""
    for fd in logs:
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                _log.error("a log is not on the disk: %s", error.strerror)
