"""Which containers there are under a root, and when that changes.

The kernel tells (inotify(7)) that something has changed, never what: after each hint everything
is looked at again, so that no event can be missed or misread, and a root that does not exist yet
is only one more thing to look at.
"""

import contextlib
import os
from types import TracebackType

import trio
from inotify_simple import INotify, flags  # type: ignore[import-untyped]

from attachd_clients.places import NoSuchContainer, Place

_HINTS = (
    flags.CREATE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM
    | flags.DELETE_SELF | flags.MOVE_SELF | flags.ONLYDIR
)  # fmt: skip


class Node:
    """The containers under ``root``; a context manager that holds an inotify descriptor."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.lost: set[str] = set()  #: ids whose shim is gone: it may come back
        self._inotify = INotify(nonblocking=True)
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
                self._inotify.rm_watch(watch)
        return found

    async def wait_change(self) -> None:
        """Return when something may have changed since ``look``."""
        await trio.lowlevel.wait_readable(self._inotify)
        self._inotify.read(timeout=0)

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
        """Watch a directory; return False when it is gone."""
        try:
            self._watches.add(self._inotify.add_watch(path, _HINTS))
        except (FileNotFoundError, NotADirectoryError):
            return False
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
