"""Which files belong to a log, what each of them holds, and what a rotated one is called.

It opens nothing but the lists; docs/logs.md is the contract.
"""

import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from attachd.errors import UsageError

#: How often a list is read that changes while its files are looked for.
_TRIES = 5

#: An offset in a name has so many digits at least, so that names sort as offsets do.
_NAME_DIGITS = 15

#: What a file may be packed with, by the suffix of its name (RFC 1952, RFC 8878).
PACKINGS = ("gz", "zst")

_ROTATED = re.compile(
    rf"\.([0-9]{{{_NAME_DIGITS},}})(?:-([0-9]+))?(?:\.({'|'.join(PACKINGS)}))?", re.ASCII
)


class Segment(NamedTuple):
    """One file of a log: output [first, end), as text at [start, size) of the unpacked file."""

    path: str
    first: int  #: offset of its first byte of output
    start: int  #: where this container's text begins in the file
    size: int | None  #: where its committed text, and ``end``, lies; None: at the file's end
    end: int | None  #: the offset after its last byte; None: nobody knows without reading it
    inode: int  #: 0: it may be any file of this name
    packing: str = ""  #: "gz" or "zst"; "" for a plain file


class Rotated(NamedTuple):
    """What the name of a rotated file says."""

    first: int
    again: int  #: an earlier container has left so many files of the same name
    packing: str


def rotated_name(base: str, first: int, again: int = 0) -> str:
    """Return the name or path, without a packing's suffix, of a rotated file of ``base``."""
    return f"{base}.{first:0{_NAME_DIGITS}d}" + (f"-{again}" if again else "")


def parse_rotated_name(base: str, name: str) -> Rotated | None:
    """Return what ``name`` says; None when it is not that of a rotated file of ``base``."""
    found = name.startswith(base) and _ROTATED.fullmatch(name, len(base))
    if not found:
        return None
    return Rotated(int(found[1]), int(found[2] or 0), found[3] or "")


def packing_of(name: str) -> str:
    """Return how a file of this name is packed: "gz", "zst" or ""."""
    suffix = name.rpartition(".")[2]
    return suffix if suffix in PACKINGS else ""


class Kept(NamedTuple):
    """A file as a list has it."""

    name: str
    first: int
    start: int
    inode: int


def places_of(directory: str, files: Sequence[Kept]) -> list[str | None]:
    """Return where each of a log's files is now, which are given by offset; None: it is gone.

    One that somebody has renamed is found by its inode. But where a later one has the same, it
    has got it from one that was removed, unless it goes on behind what that one had in the file.

    Raises UsageError when the directory cannot be read.
    """
    places: list[str | None] = []
    starts: dict[int, int] = {}
    for file in reversed(files):
        later = starts.get(file.inode)
        starts[file.inode] = file.start if later is None else min(later, file.start)
        if file.inode and later is not None and later <= file.start:
            places.append(None)
            continue
        path = os.path.join(directory, file.name)
        places.append(
            path if _is_there(path, file.inode) else _find_inode(directory, file.inode)
        )
    return places[::-1]


def segments_of(state_directory: str, number: int) -> tuple[str, list[Segment]]:
    """Return the format of a container's log ``number``, and its files by offset.

    A file that is missing is left out, and the one before it ends where the missing one began;
    the last one, which is being written and has no known end, is never left out. Where there is no
    ``logN.json``, as with a shim that does not rotate, ``state.json`` tells of one file.

    Raises UsageError when there is no such log, or what tells of it cannot be read.
    """
    path = os.path.join(state_directory, f"log{number}.json")
    text = _read(path)
    if text is None:
        return _only_file(state_directory, number)
    for _ in range(_TRIES):
        form, segments, is_sure = _listed(path, text)
        before, text = text, _read(path) or text
        if is_sure or text == before:
            break
    return form, segments


# logN.json


class _List(NamedTuple):
    """``logN.json``."""

    path: str
    form: str
    entries: list[Kept]


def _listed(path: str, text: bytes) -> tuple[str, list[Segment], bool]:
    """Return what the list says, and False when a file is not where it says.

    Then the list may be old; and as an inode of a file that was removed is soon that of a new
    one, what was found is true only when the list is still the same afterwards.
    """
    listed = _parse_list(path, text)
    directory = os.path.dirname(listed.path)
    segments, is_sure = list[Segment](), True
    ends = [*(entry.first for entry in listed.entries[1:]), None]
    places = places_of(directory, listed.entries)
    for entry, place, end in zip(listed.entries, places, ends, strict=True):
        named = os.path.join(directory, entry.name)
        is_sure = is_sure and place == named
        if place is None and end is None:
            place = named
        if place is not None:
            packing = packing_of(entry.name)
            segment = Segment(place, entry.first, entry.start, None, end, entry.inode, packing)
            segments.append(segment)
    return listed.form, segments, is_sure


def _parse_list(path: str, text: bytes) -> _List:
    try:
        record: object = json.loads(text)
        if not isinstance(record, dict) or not isinstance(record["files"], list):
            raise TypeError("no list of files")
        entries = [_entry(file) for file in record["files"]]
        entries.sort(key=lambda entry: entry.first)
        return _List(str(record["path"]), str(record["format"]), entries)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read the log {path}: it is damaged ({error})") from None


def _entry(file: dict[str, object]) -> Kept:
    numbers = [int(str(file[key])) for key in ("first", "start", "inode")]
    return Kept(str(file["name"]), *numbers)


def _is_there(path: str, inode: int) -> bool:
    try:
        found = os.stat(path).st_ino
    except OSError:
        return False
    return inode in (0, found)


def _find_inode(directory: str, inode: int) -> str | None:
    """Return the path of the file with this inode; None when there is none, or it is unknown."""
    try:
        with os.scandir(directory or ".") as entries:
            return next((entry.path for entry in entries if entry.inode() == inode), None)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"cannot read the logs in {directory}: {error.strerror}") from None


# state.json


def _only_file(state_directory: str, number: int) -> tuple[str, list[Segment]]:
    container = os.path.basename(os.path.normpath(state_directory))
    path = os.path.join(state_directory, "state.json")
    text = _read(path)
    if text is None:
        raise UsageError(f"no container {container}: its state.json is missing")
    try:
        state: object = json.loads(text)
        logs = state.get("logs") if isinstance(state, dict) else None
        if not isinstance(logs, list) or not logs:
            raise UsageError(f"{container} keeps no log (--log none)")
        if not 0 <= number < len(logs):
            raise UsageError(f"{container} has no log {number}, only {len(logs)}")
        log = logs[number]
        file, start = str(log["path"]), int(log["start"])
        return str(log["format"]), [Segment(file, 0, start, None, None, 0)]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"cannot read the log {path}: it is damaged ({error})") from None


def _read(path: str) -> bytes | None:
    """Return what is in a file, None when there is none; raises UsageError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read the log {path}: {error.strerror}") from None
