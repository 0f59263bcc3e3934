"""Whose hands a path is in: could somebody else exchange what it leads to?

Trusted are root, we, and whoever owns "/": in a user namespace root itself may have no number
of its own (user_namespaces(7), "Unmapped user and group IDs"). Members of a group are trusted
where they may write, since somebody has given them that right.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from attachd.errors import UsageError

#: As the kernel follows (path_resolution(7)).
MAX_LINKS = 40


class Step(NamedTuple):
    """A directory, link or file on the way to somewhere."""

    path: str
    found: os.stat_result
    shared: bool  #: everybody may put something into the directory that it is in

    @property
    def foreign(self) -> bool:
        """True when it belongs to somebody who is not trusted."""
        return self.found.st_uid not in (0, os.geteuid(), os.lstat("/").st_uid)

    @property
    def loose(self) -> bool:
        """True for a directory where everybody may exchange what others have put into it."""
        mode = self.found.st_mode
        return stat.S_ISDIR(mode) and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def steps(path: str) -> Iterator[Step]:
    """Yield all there is on the way to an absolute path, through every link, and at its end."""
    at, parent = "/", os.lstat("/")
    yield Step(at, parent, shared=False)
    left, links = _parts(path), 0
    while left and links <= MAX_LINKS:
        name = left.pop()
        if name == "..":
            at = os.path.dirname(at)
            parent = os.lstat(at)
            continue
        here = os.path.join(at, name)
        try:
            found = os.lstat(here)
        except OSError:
            return
        yield Step(here, found, shared=bool(parent.st_mode & stat.S_IWOTH))
        if not stat.S_ISLNK(found.st_mode):
            at, parent = here, found
            continue
        links += 1
        target = os.readlink(here)
        left += _parts(target)
        if target.startswith("/"):
            at, parent = "/", os.lstat("/")


def check_root(root: str) -> None:
    """Raise UsageError when somebody else could exchange a state root, or what is in it."""
    for step in steps(root):
        if step.foreign:
            raise UsageError(
                f"cannot use the state root {root}: {step.path} belongs to user"
                f" {step.found.st_uid}, who could exchange it"
            )
        if step.loose:
            raise UsageError(
                f"cannot use the state root {root}: everybody may exchange what is in {step.path}"
            )


def check_log(path: str) -> None:
    """Raise UsageError when a log would go where somebody has put something for us to find.

    The kernel refuses to follow such a link, too, but only where fs.protected_symlinks is set.
    """
    for step in steps(path):
        if step.shared and step.foreign:
            raise UsageError(
                f"cannot write the log {path}: {step.path} was put there by user"
                f" {step.found.st_uid}, where everybody may write"
            )


def _parts(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]
