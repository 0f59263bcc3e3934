"""How a shim leaves whose manager came by a door: nothing of it stays, and it is in nobody's way.

Its exit command may make the container anew, under the same id and with the same logs, while it
is still there. So its state directory goes to another name, which no id has, and the locks on the
logs are given up. From then on its files concern nobody, and its logs are another's: a server
that finds it so has only to begin the exit command, unless that was done.
"""

import contextlib
import os
from collections.abc import Mapping

from attachd.keeper import files
from attachd.keeper.descriptors import unlock_logs


def make_way(directory: int, container: str, kept: Mapping[str, int]) -> None:
    """Give back the id, and then the logs among ``kept``. Repeatable."""
    path = _path(directory)
    if not is_out_of_the_way(directory):
        away = os.path.join(os.path.dirname(path), f".{container}.{os.getpid()}")
        with contextlib.suppress(OSError):  # somebody has removed it: it is in no way
            os.rename(path, away)
    unlock_logs(kept)


def is_out_of_the_way(directory: int) -> bool:
    """Return whether the state directory has the name that `make_way` gives it."""
    return os.path.basename(_path(directory)).startswith(".")


def leave_nothing(directory: int) -> None:
    """Remove the state directory, wherever it is by now."""
    path = _path(directory)
    with contextlib.suppress(OSError):  # it has been removed
        files.empty_directory(path)
        os.rmdir(path)


def _path(directory: int) -> str:
    return os.readlink(f"/proc/self/fd/{directory}")
