"""A pidfd: a process that may be signalled whoever has reaped it."""

import os
import signal

from attachd.errors import LifecycleError, Refused
from attachd.state.header import Header


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
