"""Files that others read while we write: whole or not at all."""

import json
import os
import shutil

SOCKET = "attach.sock"
STATE = "state.json"
EXIT = "exit.json"
EXIT_ROOM = "exit.json.room"  #: the record's blocks, from birth on: it becomes exit.json
PID = "container.pid"
KEEPER_PID = "keeper.pid"
SHIM_LOG = "shim.log"
RUNTIME_LOG = "runtime.log"
TERMINAL = "terminal.json"
TROUBLE = "trouble.json"  #: a server that does not stay (keeper.server)
UPGRADE = "upgrade.json"  #: what code is wanted, and what became of that (keeper.renewal)
UPGRADE_ANSWER = "upgrade-answer.json"
BUNDLE = "bundle"
EXECS = "exec"  #: a directory for each exec, by its name
EXEC = "exec.json"
PROCESS = "process.json"

#: A record has no paths in it: its longest text are an id and an exec's name, of 128 each.
RECORD_BYTES = 4096


def log_list(number: int) -> str:
    """Return the name of the file that says which files belong to a log (docs/logs.md)."""
    return f"log{number}.json"


def write_whole(path: str, data: bytes, *, mode: int = 0o644, sync: bool = False) -> None:
    """Put ``data`` at ``path`` by writing beside it and renaming.

    With ``sync`` the file and its directory are on the disk when this returns. A reader sees
    the old file or the new one. Raises OSError, and leaves nothing beside ``path`` then.
    """
    beside = f"{path}.{os.getpid()}.new"
    # In a directory that is not ours alone, what has this name already is somebody else's.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    remove_file(beside)
    try:
        fd = os.open(beside, flags, mode)
        try:
            write_all(fd, data)
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(beside, path)
    except OSError:
        remove_file(beside)
        raise
    if sync:
        _sync_directory(os.path.dirname(path))


def reserve(path: str, size: int) -> None:
    """Make a file of ``size`` bytes whose blocks are there: a full disk cannot refuse it later.

    Raises OSError, and leaves no file then.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError:
        remove_file(path)
        raise
    finally:
        os.close(fd)


def write_record(path: str, data: bytes) -> None:
    """``write_whole`` for a record whose room was reserved beside it, synced. Raises OSError.

    Where there is such a room (``EXIT_ROOM``), it is used, whether the disk is full or not: what
    only a full disk would use, nobody would know to work. A death in between is no harm.
    """
    room = os.path.join(os.path.dirname(path), EXIT_ROOM)
    try:
        fd = os.open(room, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        write_whole(path, data, mode=0o600, sync=True)
        return
    try:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(room, path)
    _sync_directory(os.path.dirname(path))


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; a short write goes on where it ended."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_json(
    path: str, value: object, *, sync: bool = False, indent: int | None = 2
) -> None:
    """``write_whole`` for a JSON value, readable by the owner alone."""
    text = json.dumps(value, indent=indent)
    write_whole(path, text.encode() + b"\n", mode=0o600, sync=sync)


def write_number(path: str, number: int, *, mode: int = 0o644) -> None:
    """``write_whole`` for a pid file: digits, no newline, as runc and conmon write it."""
    write_whole(path, str(number).encode(), mode=mode)


def read_json(path: str) -> dict[str, object]:
    """Return the map in a JSON file; raises OSError, or ValueError for anything else."""
    with open(path, "rb") as file:
        value = json.load(file)
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a JSON object")
    return value


def remove_file(path: str) -> None:
    """Remove a file if it is there; what cannot be removed is left."""
    try:
        os.unlink(path)
    except OSError:
        pass


def empty_directory(path: str) -> None:
    """Remove everything in a directory that is ours, and not the directory."""
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                remove_file(entry.path)


def _sync_directory(path: str) -> None:
    fd = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
