"""One log's files: the one that is being written, its place and identity, and those before it.

A rotation makes the new file beside the old one, gives the old one its name, puts the new one
in its place, and hands it to the keeper; `LogFile` commits. A server that dies in between leaves
something that looks like somebody else's renaming, and `heed` goes on from there.
The list of files (``logN.json``) is written before each change that it describes.
"""

import contextlib
import errno
import fcntl
import json
import logging
import math
import os
import stat
import time
from collections.abc import Callable
from typing import NamedTuple

import trio

from attachd.errors import UsageError
from attachd.history.segments import (
    PACKINGS,
    Kept,
    Segment,
    packing_of,
    parse_rotated_name,
    places_of,
    rotated_name,
    segments_of,
)
from attachd.keeper import files
from attachd.keeper.config import LogSpec
from attachd.keeper.parcels import Post
from attachd.state.retention import Limits, Old, expendable

#: So often a file is looked for before it counts as gone: one that is being renamed while the
#: directory is read may be missed.
LOOKS = 2

_log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """One file, as ``logN.json`` has it; ``since`` is when it was begun, ns."""

    name: str
    first: int
    start: int
    inode: int
    since: int

    @property
    def kept(self) -> Kept:
        """What a reader needs to find it."""
        return Kept(self.name, self.first, self.start, self.inode)


def number_of(name: str) -> int:
    """Return the log's number in a descriptor's name: 3 for ``log3`` and ``log3b``."""
    return int(name.removeprefix("log").removesuffix("b"))


class Ages:
    """How old files are, by a clock that never jumps (Trio's), in seconds.

    The wall's clock tells it when a file is seen for the first time: one that jumps afterwards
    makes no file older, and so removes none.
    """

    def __init__(
        self,
        clock: Callable[[], float] = trio.current_time,
        wall: Callable[[], float] = lambda: time.time(),
    ) -> None:
        self.now = clock
        self._wall = wall
        self._when: dict[str, float] = {}

    def when(self, name: str, written: float) -> float:
        """Return when a file was written that says ``written`` of it, by our clock."""
        if name not in self._when:
            self._when[name] = self.now() - max(0.0, self._wall() - written)
        return self._when[name]

    def forget_all_but(self, names: set[str]) -> None:
        """The others are gone."""
        self._when = {name: when for name, when in self._when.items() if name in names}


class Shelf:
    """The files of log ``number``. ``held`` are the descriptors that the keeper has of it.

    A ``brief`` one is read once by who has asked for it: removed, it is not made anew.
    """

    def __init__(
        self,
        number: int,
        spec: LogSpec,
        held: dict[str, int],
        directory: str,
        post: Post,
        *,
        brief: bool = False,
    ) -> None:
        self.number = number
        self._brief = brief
        self._spec = spec
        self._path = os.path.realpath(spec.path)
        self._state = directory
        self._list = os.path.join(directory, files.log_list(number))
        self._post = post
        self._held = held
        self._name, self.fd = next(iter(held.items()))
        self._superseded = ""
        self._unlisted = False  #: the list on the disk is not the one that we have
        self._ages = Ages()
        self.entries: tuple[Entry, ...] = ()

    def adopt(self, inode: int, size: int) -> None:
        """Go on with the file of that inode (0: the first one); cut what was not committed."""
        for name, fd in self._held.items():
            if inode and os.fstat(fd).st_ino == inode:
                self._name, self.fd = name, fd
        for name in set(self._held) - {self._name}:
            os.close(self._held.pop(name))
            self._post.drop(name)
        self.regular = stat.S_ISREG(os.fstat(self.fd).st_mode)
        if self.regular and inode and os.fstat(self.fd).st_size > size:
            os.ftruncate(self.fd, size)
        files.remove_file(f"{self._path}.new")
        self._read_list()
        self._drop_what_never_was()
        for entry in self.entries[:-1]:
            if parse_rotated_name(self._base, entry.name):
                self._finish_squeezing(entry)

    @property
    def inode(self) -> int:
        """Which file is being written."""
        return _inode(self.fd)

    @property
    def since(self) -> int:
        """When it was begun, ns since the epoch."""
        return self.entries[-1].since

    @property
    def age(self) -> float:
        """How long ago it was begun, in seconds, whatever the wall's clock does meanwhile."""
        entry = self.entries[-1]
        known = self._ages.when(f"{entry.inode}/{entry.since}", entry.since / 1e9)
        return self._ages.now() - known

    def append(self, text: bytes, size: int) -> None:
        """Write all of ``text``, or nothing; raises OSError. ``size`` is where it ends before."""
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            if self.regular:
                with contextlib.suppress(OSError):
                    os.ftruncate(self.fd, size)
            raise

    def sync(self) -> None:
        """Have everything on the disk; a pipe or a device has nothing to wait for."""
        with contextlib.suppress(OSError):
            os.fdatasync(self.fd)

    def segments(self) -> list[Segment]:
        """Return all files that there are, the oldest first. For any thread."""
        return segments_of(self._state, self.number)[1]

    # Files come and go

    def rotate(self, first: int) -> None:
        """Give the file its name and begin a new one at offset ``first``.

        To be followed by a commit and `settle`. Raises OSError; then nothing has changed.
        """
        new = self._make_new()
        try:
            name = self._give_name()
        except OSError:
            os.close(new)
            files.remove_file(f"{self._path}.new")
            raise
        kept = (*self.entries[:-1], self.entries[-1]._replace(name=name))
        try:
            self._begin(new, kept, first)
        except OSError:
            self._take_back(os.path.join(self._directory, name))
            raise

    def heed(self, size: int, first: int) -> int | None:
        """Look whether somebody has renamed, removed or cut the file that we write.

        Then go on from offset ``first`` in a new one, or in the one that is there now; return
        the position where our text begins in it. Returns None when all is as it was.
        To be followed by a commit and `settle`.
        """
        if not self.regular:
            return None
        ours = os.fstat(self.fd)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return None if self._brief else self._replace_file(first)
        except OSError:
            return None
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            return self._take_theirs(first)
        if ours.st_size < size:
            entry = Entry(self._base, first, ours.st_size, ours.st_ino, time.time_ns())
            self._write_list((*self.entries[:-1], entry))
            return ours.st_size
        return None

    def show(self) -> None:
        """Let whoever watches the file see a change (inotify(7), IN_MODIFY), though there is none.

        Who has renamed it, and asks to have it anew, may wait for that; and it may be new already.
        """
        if self.regular:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, os.fstat(self.fd).st_size)

    def settle(self) -> None:
        """After the commit: the file before is nobody's any more; a list that is due is told."""
        if self._unlisted:
            self._write_list(self.entries)
        if self._superseded:
            self._post.drop(self._superseded)
            os.close(self._held.pop(self._superseded))
            self._superseded = ""

    def tidy(self, limits: Limits) -> float:
        """Remove the rotated files that are over the limits, whoever has rotated them.

        Returns when the next of them will be too old, in seconds since the epoch.
        """
        old = self._rotated()
        current = self.entries[-1]
        names = {file.name for file in old}
        self._ages.forget_all_but({*names, f"{current.inode}/{current.since}"})
        with contextlib.suppress(OSError):
            active = os.fstat(self.fd).st_size
            gone = expendable(old, active, limits, self._ages.now())
            if gone:
                self._write_list(tuple(e for e in self.entries if e.name not in gone))
            for name in gone:
                files.remove_file(os.path.join(self._directory, name))
            old = [file for file in old if file.name not in gone]
        return old[0].written + limits.max_age if old and limits.max_age else math.inf

    def next_to_squeeze(self) -> str | None:
        """Return the path of the oldest rotated file that is not compressed, or None."""
        for entry in self.entries[:-1]:
            path = os.path.join(self._directory, entry.name)
            ours = parse_rotated_name(self._base, entry.name) and not packing_of(entry.name)
            if ours and os.path.exists(path):
                return path
        return None

    def squeezed(self, path: str, beside: str, suffix: str) -> None:
        """Put the compressed file ``beside`` in the place of the rotated one; raises OSError."""
        name = os.path.basename(path)
        before, now = os.stat(path), os.stat(beside)
        os.chmod(beside, stat.S_IMODE(before.st_mode))
        with contextlib.suppress(OSError):
            os.chown(beside, before.st_uid, before.st_gid)
        os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))
        entries = self.entries
        try:
            self._tell_list(
                tuple(
                    e._replace(name=name + suffix, inode=now.st_ino) if e.name == name else e
                    for e in entries
                )
            )
            os.rename(beside, path + suffix)
        except OSError:
            self._write_list(entries)
            raise
        files.remove_file(path)

    # Inside

    def _finish_squeezing(self, entry: Entry) -> None:
        """Do what a server before us may have died before; touch nothing of anybody else's."""
        suffix, path = packing_of(entry.name), os.path.join(self._directory, entry.name)
        if not suffix:
            for packing in PACKINGS:
                files.remove_file(f"{path}.{packing}.new")
            return
        with contextlib.suppress(OSError):
            if _has_inode(f"{path}.new", entry.inode):
                os.rename(f"{path}.new", path)
            if _has_inode(path, entry.inode):
                files.remove_file(path.removesuffix(f".{suffix}"))

    @property
    def _directory(self) -> str:
        return os.path.dirname(self._path)

    @property
    def _base(self) -> str:
        return os.path.basename(self._path)

    def _make_new(self) -> int:
        """Make the file that is to be the next one, beside its place; raises OSError.

        Also while the keeper does not take what it is sent: it is to hold the file, too.
        """
        self._post.check()
        path = f"{self._path}.new"
        files.remove_file(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        before = os.fstat(self.fd)
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(before.st_mode))
            os.fchown(fd, before.st_uid, before.st_gid)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def _give_name(self) -> str:
        """Link the file to its name as a rotated one; return that. Raises OSError.

        The old name stays until the new file takes it, so that there always is a file.
        """
        for number in range(1000):
            name = rotated_name(self._base, self.entries[-1].first, number)
            path = os.path.join(self._directory, name)
            if any(os.path.lexists(f"{path}.{packing}") for packing in PACKINGS):
                continue  # it would be overwritten when ours is compressed
            try:
                os.link(self._path, path, follow_symlinks=False)
            except FileExistsError:
                if os.stat(path, follow_symlinks=False).st_ino == self.inode:
                    return name  # a server before us died at this very place
                continue
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                os.rename(self._path, path)  # a file system without links
            return name
        raise FileExistsError(errno.EEXIST, "a thousand files of this name", self._path)

    def _take_back(self, path: str) -> None:
        """Undo `_give_name`: the file has its own name alone."""
        with contextlib.suppress(OSError):
            if os.path.lexists(self._path):
                os.unlink(path)
            else:
                os.rename(path, self._path)

    def _begin(self, fd: int, kept: tuple[Entry, ...], first: int) -> None:
        """Make the file ``beside`` the current one; raises OSError, then it is closed and gone."""
        before = self.entries
        try:
            self._tell_list((*kept, Entry(self._base, first, 0, _inode(fd), time.time_ns())))
            os.rename(f"{self._path}.new", self._path)
        except OSError:
            self._write_list(before)
            os.close(fd)
            files.remove_file(f"{self._path}.new")
            raise
        self._hold(fd)

    def _hold(self, fd: int) -> None:
        """Hand a new descriptor to the keeper, under the name that is free, and use it."""
        plain = f"log{self.number}"
        self._superseded = self._name
        self._name = plain if self._name != plain else f"{plain}b"
        self._held[self._name] = self.fd = fd
        self._post.keep(self._name, fd)

    def _replace_file(self, first: int) -> int | None:
        try:
            self._begin(self._make_new(), self.entries, first)
        except OSError as error:
            _log.error("log %d: cannot make %s anew: %s", self.number, self._path, error)
            return None
        return 0

    def _take_theirs(self, first: int) -> int | None:
        """Go on in the file that somebody has put into our place (logrotate's ``create``)."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._post.check()
            fd = os.open(self._path, flags)
        except OSError as error:
            _log.error("log %d: cannot go on in %s: %s", self.number, self._path, error)
            return None
        found = os.fstat(fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None  # another shim writes it: we keep the one that we have
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            return None
        entry = Entry(self._base, first, found.st_size, found.st_ino, time.time_ns())
        self._hold(fd)
        self._write_list((*self.entries, entry))
        return found.st_size

    def _rotated(self) -> list[Old]:
        """Return all rotated files of this name, the oldest first; ours behind those of others."""
        ours = {entry.name: number for number, entry in enumerate(self.entries)}
        found: list[Old] = []
        with contextlib.suppress(OSError), os.scandir(self._directory) as scan:
            for item in scan:
                if parse_rotated_name(self._base, item.name):
                    with contextlib.suppress(OSError):
                        known = item.stat(follow_symlinks=False)
                        written = self._ages.when(item.name, known.st_mtime)
                        found.append(Old(item.name, known.st_size, written))
        return sorted(found, key=lambda old: (ours.get(old.name, -1), old.written, old.name))

    def _read_list(self) -> None:
        try:
            record = files.read_json(self._list)
            rows = record["files"]
            assert isinstance(rows, list)
            names = Entry._fields
            self.entries = tuple(Entry(*(row[name] for name in names)) for row in rows)
        except (OSError, ValueError, KeyError, TypeError):
            spec = self._spec
            self._write_list((Entry(self._base, 0, spec.start, self.inode, time.time_ns()),))

    def _drop_what_never_was(self) -> None:
        """Cut the list behind our file: a server before us had announced what it did not commit.

        The file may have got the name of a rotated one already, beside its own.
        """
        inode, entries = self.inode, self.entries
        while len(entries) > 1 and entries[-1].inode != inode:
            entries = entries[:-1]
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == inode:
                entries = (*entries[:-1], entries[-1]._replace(name=self._base))
                self._remove_links(inode)
        if entries != self.entries:
            self._write_list(entries)

    def _remove_links(self, inode: int) -> None:
        """Remove each name of a rotated file that a file has."""
        for file in self._rotated():
            path = os.path.join(self._directory, file.name)
            if os.stat(path, follow_symlinks=False).st_ino == inode:
                files.remove_file(path)

    def _write_list(self, entries: tuple[Entry, ...]) -> None:
        """Change the list; where it cannot be written now, `settle` tries again."""
        with contextlib.suppress(OSError):
            self._tell_list(entries)

    def _tell_list(self, entries: tuple[Entry, ...]) -> None:
        """Change the list; raises OSError when nobody else can know of it yet."""
        self.entries = entries = self._without_the_gone(entries)
        self._unlisted = True
        record = {
            "schema": 1,
            "path": self._path,
            "format": self._spec.format,
            "files": [entry._asdict() for entry in entries],
        }
        text = json.dumps(record).encode() + b"\n"
        # Where the directory was removed nobody will ask.
        with contextlib.suppress(FileNotFoundError):
            files.write_whole(self._list, text, mode=0o600)
        self._unlisted = False

    def _without_the_gone(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Leave out the oldest files that somebody has removed, so that the list ends somewhere.

        Those behind one that is there stay, as it ends where they begin.
        """
        gone = 0
        with contextlib.suppress(UsageError):  # then nobody knows
            gone = min(self._count_gone(entries) for _ in range(LOOKS))
        return entries[gone:]

    def _count_gone(self, entries: tuple[Entry, ...]) -> int:
        places = places_of(self._directory, [entry.kept for entry in entries])
        places[-1] = self._path
        return next(number for number, place in enumerate(places) if place is not None)


def _inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def _has_inode(path: str, inode: int) -> bool:
    """True when it is this file that is there."""
    try:
        return os.stat(path, follow_symlinks=False).st_ino == inode
    except OSError:
        return False
