"""Spare descriptors: held for nothing, so that what must be written can be when there are no more.

A process that has used up its descriptors (setrlimit(2), RLIMIT_NOFILE), or finds the system's
used up, cannot even open the file in which it would say so.
"""

import contextlib
import os
from collections.abc import Iterator

#: A file, and the directory that it is in.
SPARE = 2


class Spare:
    """So many descriptors; those that are lowest when it is made, as a limit is on numbers."""

    def __init__(self, count: int = SPARE) -> None:
        self._count = count
        self._fds: list[int] = []
        self._fill()

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """In here they may be opened by others, who must have closed them again at its end."""
        while self._fds:
            os.close(self._fds.pop())
        try:
            yield
        finally:
            self._fill()

    def _fill(self) -> None:
        with contextlib.suppress(OSError):  # the next one has to do with fewer
            while len(self._fds) < self._count:
                self._fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


#: For who can wait.
NO_SPARE = Spare(0)
