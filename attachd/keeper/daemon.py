"""Becoming a daemon that keeps nothing of its caller's but what it is given."""

import os
from collections.abc import Callable, Collection
from typing import NoReturn

from attachd.keeper import files

#: Beyond any descriptor number that a process has in practice (proc(5), nr_open); one
#: close_range(2) whatever the number.
MAX_DESCRIPTOR = 1 << 20


def fork(
    directory: int,
    kept: Collection[int],
    live: Callable[[], None],
    tell: Callable[[int], None] = lambda pid: None,
) -> bool:
    """Have ``live`` called in a process of its own, out of our session for good; then it ends.

    Its descriptors are ``kept`` and 0 to 2, of which the last is shim.log in ``directory``. Its
    pid is given to ``tell`` before it lives. Returns False when that has raised an OSError: then
    it does not live.
    """
    middle = os.fork()
    if middle == 0:
        status = 1
        try:
            os.setsid()
            read, write = os.pipe2(os.O_CLOEXEC)
            if (pid := os.fork()) != 0:
                _exit_after(tell, pid, write)
            os.close(write)
            if not os.read(read, 1):
                os._exit(status)
            os.chdir("/")
            os.umask(0o022)
            _own_stdio(directory)
            _close_all_but(kept)
            live()
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(status)
    return os.waitpid(middle, 0)[1] == 0


def _exit_after(tell: Callable[[int], None], pid: int, go: int) -> NoReturn:
    """Tell of the new process, and let it live by a byte in its pipe; or end, which ends it."""
    try:
        tell(pid)
        os.write(go, b"1")
    except OSError:
        os._exit(1)
    os._exit(0)


def _own_stdio(directory: int) -> None:
    """Words of ours that nobody expects (a Python traceback) go to shim.log."""
    null = os.open(os.devnull, os.O_RDWR)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    log = os.open(files.SHIM_LOG, flags, 0o600, dir_fd=directory)
    # The runtime would make its own log readable for everybody.
    os.close(os.open(files.RUNTIME_LOG, flags, 0o600, dir_fd=directory))
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def _close_all_but(kept: Collection[int]) -> None:
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MAX_DESCRIPTOR)
