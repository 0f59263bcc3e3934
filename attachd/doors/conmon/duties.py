"""What conmon's callers find when a container has ended, exit files, and meanwhile in syslog."""

import errno
import logging
import os
from collections.abc import Sequence

from attachd.doors.conmon.telling import copy_to_syslog
from attachd.keeper import files

#: The status of a program that was killed because its time was over, or whose end nobody knows.
UNKNOWN = -1

_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}

#: As a shell tells that a signal has ended a program.
_SIGNALLED = 128

_log = logging.getLogger(__name__)


class Syslog(logging.Handler):
    """Copies our own words to syslog, as conmon words them there."""

    def __init__(self, cid: str) -> None:
        super().__init__()
        self._cid = cid

    def emit(self, record: logging.LogRecord) -> None:
        """Send one. A system without syslog takes it, and has none."""
        letter = "e" if record.levelno >= logging.ERROR else record.levelname[0].lower()
        copy_to_syslog(f"[conmon:{letter}]: {record.getMessage()}", self._cid)


def keep_words(level: str, cid: str, *, syslog: bool) -> None:
    """Keep our own words from this one of ``checks.LEVELS`` on, of the shim of ``cid``."""
    root = logging.getLogger()
    root.setLevel(_LEVELS[level])
    if syslog:
        root.addHandler(Syslog(cid))


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
