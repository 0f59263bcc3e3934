"""Removing a container: from its runtime, its state directory, and the log that attachd made."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time

from attachd.errors import Refused, UsageError
from attachd.history.segments import parse_rotated_name, segments_of
from attachd.wire import messages as say
from attachd_clients.blocking import attach_blocking
from attachd_clients.conversation import Ended
from attachd_clients.places import NoSuchContainer, Place
from attachd_clients.processes import kill_shim

#: A killed container is reaped at once; its output may take the drain timeout.
END_SECONDS = 60.0

#: A released shim writes nothing more and ends.
SHIM_SECONDS = 10.0

_POLL_SECONDS = 0.02


def remove(place: Place, *, force: bool) -> None:
    """Remove one container; with ``force`` kill it first.

    Raises UsageError when it runs and ``force`` was not given, when its shim does not go, and
    when it is somebody else's: its files say which program deletes it, and which files go.
    """
    check_owner(place)
    _check_manager(place)
    speechless = force and place.trouble() is not None  # no server of it stays
    if not speechless:
        _end(place, force)
    directory = _lock(place, force, 0.0 if speechless else SHIM_SECONDS)
    try:
        if not place.manager:
            with contextlib.suppress(NoSuchContainer):
                _delete(place, place.state(), force)
        shutil.rmtree(place.path, ignore_errors=True)
    finally:
        os.close(directory)


def _check_manager(place: Place) -> None:
    """Raise UsageError when a manager has made it by a door, and removes it by itself.

    What such a shim leaves that was killed is only a directory: that may go.
    """
    if place.manager and place.answers():
        raise UsageError(
            f"{place.id} came by the door {place.manager}: its manager removes it"
        )


def check_owner(place: Place) -> None:
    """Raise UsageError when the container is somebody else's: its files must not be believed."""
    try:
        owner = os.lstat(place.path).st_uid
    except OSError as error:
        raise UsageError(f"cannot look at {place.id}: {error.strerror}") from None
    if owner != os.geteuid():
        raise UsageError(f"{place.id} belongs to user {owner}: nobody else can do that")
    if os.path.islink(place.path):
        raise UsageError(f"{place.path} is a symbolic link, and no container")


def _end(place: Place, force: bool) -> None:
    """Have the container ended and its shim released, as far as there is one."""
    if place.exit_record() is None and not force and place.answers():
        raise UsageError(f"{place.id} has not ended: stop it first, or use --force")
    gone = (Refused, Ended, UsageError, TimeoutError)  # whatever it was, the lock decides
    with contextlib.suppress(*gone):
        with attach_blocking(place.id, root=place.root, since="none", name="rm") as client:
            if force and place.exit_record() is None:
                with contextlib.suppress(Refused):
                    client.signal(signal.SIGKILL, END_SECONDS)
            while not isinstance(client.receive(END_SECONDS), say.Exit | None):
                pass
            client.release(SHIM_SECONDS)
            client.wait_gone(SHIM_SECONDS)


def _lock(place: Place, force: bool, patience: float) -> int:
    """Return the state directory's descriptor with the lock that its shim held.

    A shim that does not go by itself in ``patience`` seconds, as one whose servers do not start,
    goes by ``force``.
    """
    directory = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if lock_within(directory, patience):
        return directory
    if force:
        with contextlib.suppress(NoSuchContainer):
            kill_shim(place.state().get("keeper_pid"), place.state().get("keeper_start"))
        if lock_within(directory, SHIM_SECONDS):
            return directory
    os.close(directory)
    raise UsageError(f"the shim of {place.id} does not end")


def lock_within(fd: int, seconds: float) -> bool:
    """Lock what ``fd`` is of; return False when somebody else has it for so long."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def _delete(place: Place, state: dict[str, object], force: bool) -> None:
    """Delete from the runtime, which may have done so already; then the log."""
    command = state.get("runtime")
    if isinstance(command, list) and not state.get("deleted"):
        words = ["delete", "--force", place.id] if force else ["delete", place.id]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*map(str, command), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=END_SECONDS,
                check=False,
            )
    _remove_rotated(place, state)
    made = state.get("made")
    for path in reversed(made if isinstance(made, list) else []):
        with contextlib.suppress(OSError):
            if os.path.isdir(path):
                os.rmdir(path)
            else:
                os.unlink(path)


def _remove_rotated(place: Place, state: dict[str, object]) -> None:
    """Remove the log files that have a name of ours, but none that another has begun."""
    logs = state.get("logs")
    for number, log in enumerate(logs if isinstance(logs, list) else []):
        base = os.path.basename(os.path.realpath(log["path"]))
        with contextlib.suppress(UsageError):
            for segment in segments_of(place.path, number)[1][:-1]:
                ours = parse_rotated_name(base, os.path.basename(segment.path))
                if ours and segment.start == 0:
                    with contextlib.suppress(OSError):
                        os.unlink(segment.path)
