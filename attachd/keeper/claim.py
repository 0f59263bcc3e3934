"""An id is claimed by a lock on its state directory, held for as long as a shim lives.

The lock is flock(2) on the directory's own descriptor, so there is no lock file to be left
over, and the kernel gives it back when the last process that holds the descriptor is gone.
"""

import fcntl
import os
import re

from attachd.errors import UsageError
from attachd.keeper import files
from attachd.keeper.trust import check_root

#: runc's own rule for ids (libcontainer/factory_linux.go, idRegex), cut to a length that fits a
#: file name together with what runtimes and loggers put around it.
ID = re.compile(r"[A-Za-z0-9_+.-]{1,128}")


def is_id(container: str) -> bool:
    """Return whether ``container`` can name a container."""
    return bool(ID.fullmatch(container)) and container[0] not in "-."


def check_id(container: str) -> None:
    """Raise UsageError when ``container`` cannot name a container."""
    if not is_id(container):
        raise UsageError(
            f"{container!r:.160} cannot be a container's id: use up to 128 of"
            " A-Z a-z 0-9 _ + . - and begin with none of - and ."
        )


def claim(root: str, container: str, *, replace: bool = False) -> int:
    """Make the state directory and return its locked descriptor; the directory is empty.

    Raises UsageError when the id is taken, or the root is in somebody else's hands. What is left
    of a container that ended and was deleted from its runtime (``--rm``), or of a launcher that
    was killed, is cleared away; with ``replace`` also what is left of one that came by a door.
    """
    try:
        os.makedirs(root, 0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the state root {root}: {error.strerror}") from None
    check_root(root)
    path = os.path.join(root, container)
    while True:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise UsageError(f"cannot make {path}: {error.strerror}") from None
        directory = _claim_once(path, container)
        if directory is not None:
            break
    if not _is_free(path, replace=replace):
        os.close(directory)
        raise UsageError(
            f"the id {container} is in use: 'attachctl rm {container}' removes what ended,"
            " 'attachctl rm --force' what runs"
        )
    os.fchmod(directory, 0o700)  # what was left may have been open to others
    files.empty_directory(path)
    return directory


def lock(path: str) -> int | None:
    """Return a locked descriptor of a state directory that is there, or None when its shim runs.

    Raises UsageError when it is somebody else's, or no directory; FileNotFoundError when it has
    gone meanwhile.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{path} is not a directory of ours: {error.strerror}") from None
    try:
        owner = os.fstat(directory).st_uid
        if owner != os.geteuid():
            raise UsageError(f"{path} is not a directory of ours: it belongs to user {owner}")
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(directory), os.stat(path)):
            raise FileNotFoundError(path)
    except BlockingIOError:
        os.close(directory)
        return None
    except BaseException:
        os.close(directory)
        raise
    return directory


def _claim_once(path: str, container: str) -> int | None:
    """Return the locked descriptor, or None when the directory was swapped meanwhile."""
    try:
        directory = lock(path)
    except FileNotFoundError:
        return None
    if directory is None:
        raise UsageError(f"the id {container} is in use: its shim runs")
    return directory


def _is_free(path: str, *, replace: bool) -> bool:
    try:
        state = files.read_json(os.path.join(path, files.STATE))
    except (OSError, ValueError):
        return True
    config = state.get("config")
    door = config.get("door") if isinstance(config, dict) else None
    through_door = isinstance(door, dict) and bool(door.get("kind"))
    return state.get("deleted") is True or (replace and through_door)
