"""Which containers there are under a root, and when that changes.

The kernel tells (inotify(7)) that something has changed, never what: after each hint everything
is looked at again, so that no event can be missed or misread, and a root that does not exist yet
is only one more thing to look at. Where the kernel has no more watches for us (inotify(7): a user
may have so many) nobody tells, and it is looked at once a second instead.
"""

import contextlib
import errno
import math
import os
import sys
from types import TracebackType

import trio
from inotify_simple import INotify, flags  # type: ignore[import-untyped]

from attachd_clients.places import NoSuchContainer, Place

_HINTS = (
    flags.CREATE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip

#: How often it is looked when nobody tells. Of a container that came and went in between the files
#: are still there.
LOOK_SECONDS = 1.0

#: What inotify_init1(2) and inotify_add_watch(2) end with when the user's share is used up, and
#: what the limit is called under /proc/sys/fs/inotify.
_USED_UP = {
    errno.EMFILE: "max_user_instances", errno.ENFILE: "max_user_instances",
    errno.ENOSPC: "max_user_watches", errno.ENOMEM: "max_user_watches",
}  # fmt: skip


class Node:
    """The containers under ``root``; a context manager that holds an inotify descriptor."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.lost: set[str] = set()  #: ids whose shim is gone: it may come back
        self._blind = False  #: somebody comes and goes whom nobody tells us about
        self._patience = trio.CancelScope()
        self._inotify = self._open()
        self._watches: set[int] = set()
        self._old: set[int] = set()

    def __enter__(self) -> "Node":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._inotify is not None:
            self._inotify.close()

    def look(self) -> dict[str, str]:
        """Return the stream id of each container that can be followed, and await changes.

        What changes after this has ``wait_change`` return. One that is still being made, and one
        that is being removed, is not among them.
        """
        self._old, self._watches = self._watches, set()
        self._watch_root()
        found: dict[str, str] = {}
        for place in Place.all(self.root):
            stream_id = _stream_of(place)
            if (stream_id is None or place.id in self.lost) and self._watch(place.path):
                stream_id = _stream_of(place)
            if stream_id is not None:
                found[place.id] = stream_id
        for watch in self._old - self._watches:
            with contextlib.suppress(OSError):  # it went with its directory
                if self._inotify is not None:
                    self._inotify.rm_watch(watch)
        return found

    async def wait_change(self) -> None:
        """Return when something may have changed since ``look``."""
        if self._inotify is None:
            await trio.sleep(LOOK_SECONDS)
            return
        with trio.move_on_after(LOOK_SECONDS if self._blind else math.inf) as self._patience:
            await trio.lowlevel.wait_readable(self._inotify)
            self._inotify.read(timeout=0)

    def _open(self) -> INotify | None:
        """Return an inotify descriptor; None when there is none to be had."""
        try:
            return INotify(nonblocking=True)
        except OSError as error:
            self._tell_blind(error)
            return None

    def _tell_blind(self, error: OSError) -> None:
        """Say once that we look instead of being told. Raises any other error."""
        limit = _USED_UP.get(error.errno or 0)
        if limit is None:
            raise error
        if not self._blind:
            # Who waits already waits no longer than others from now on.
            self._patience.deadline = -math.inf
            print(
                f"attachctl: all inotify watches are in use (fs.inotify.{limit}):"
                " looking once a second instead",
                file=sys.stderr,
            )
        self._blind = True

    def _watch_root(self) -> None:
        """Watch the root; while there is none, what is nearest to it."""
        while True:
            nearest = self._nearest()
            if self._watch(nearest) and nearest == self._nearest():
                return

    def _nearest(self) -> str:
        path = self.root
        while not os.path.isdir(path) and path != "/":
            path = os.path.dirname(path)
        return path

    def _watch(self, path: str) -> bool:
        """Watch a directory, if we can; return False when it is gone."""
        if self._inotify is None:
            return os.path.isdir(path)
        try:
            self._watches.add(self._inotify.add_watch(path, _HINTS))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self._tell_blind(error)
            return os.path.isdir(path)
        return True


def _stream_of(place: Place) -> str | None:
    """Return a container's stream id once its shim can be reached, or its files can answer."""
    try:
        stream_id = place.state().get("stream_id")
    except NoSuchContainer:
        return None
    there = any(
        os.path.lexists(os.path.join(place.path, name))
        for name in ("attach.sock", "exit.json")
    )
    return str(stream_id) if stream_id and there else None
