"""The door: how many may be connected at once, and who makes room when there is none.

It keeps a list of those who have not said hello, one of those whose frame is not whole, and one
of those who do not read what they have asked for. What is done with somebody who must go is the
connection's business.
"""

import resource
from typing import Protocol

#: A connection that is idle costs some 17 KB here; and a shim with more clients has a bug to fear.
MAX_CONNECTIONS = 10_000

#: What one frame of each of 64 clients takes. An honest client's frame is whole in a moment.
UNFINISHED_BYTES = 64 << 20

#: What all clients together have asked for and do not read; output is not among it. An honest
#: client reads its answers in a moment.
UNREAD_BYTES = 64 << 20


def room_for_clients() -> int:
    """Return how many connections there may be.

    Half of the descriptors that we may have are for logs, execs and files of our own, so that
    no client can keep us from writing down how a container has ended.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CONNECTIONS, soft // 2) if soft > 0 else MAX_CONNECTIONS


class Guest(Protocol):
    """What is asked of a connection."""

    def turn_away(self) -> None:
        """Say that there are too many, and let go of it. Called before its hello was heard."""

    def cut_off(self) -> None:
        """Let go of it without a word."""


class Door:
    """Who is connected. ``enter`` and ``leave`` for each; in between it tells what it is at."""

    def __init__(
        self, most: int, unfinished: int = UNFINISHED_BYTES, unread: int = UNREAD_BYTES
    ) -> None:
        self._most = most
        self._limit = unfinished
        self._unread_limit = unread
        self._inside = 0
        self._silent: dict[Guest, None] = {}  #: have not said hello, the oldest first
        self._unfinished: dict[Guest, int] = {}  #: bytes of a frame, the oldest first
        self._bytes = 0
        self._unread: dict[Guest, int] = {}  #: bytes of answers
        self._unread_bytes = 0

    def enter(self, guest: Guest) -> bool:
        """Let somebody in; who has been silent for longest makes room. False: there is none."""
        if self._inside >= self._most:
            oldest = next(iter(self._silent), None)
            if oldest is None:
                return False
            self.heard(oldest)
            oldest.turn_away()
        self._inside += 1
        self._silent[guest] = None
        return True

    def heard(self, guest: Guest) -> None:
        """It has said hello, or never will."""
        self._silent.pop(guest, None)

    def hold(self, guest: Guest, size: int, *, fresh: bool) -> None:
        """We keep ``size`` bytes of its unfinished frame; a ``fresh`` one has begun just now.

        While there is too much of that, the one that is not whole for longest is cut off.
        """
        self._bytes += size - self._unfinished.get(guest, 0)
        if fresh or not size:
            self._unfinished.pop(guest, None)
        if size:
            self._unfinished[guest] = size
        while self._bytes > self._limit:
            oldest = next(iter(self._unfinished))
            self.hold(oldest, 0, fresh=True)
            oldest.cut_off()

    def owe(self, guest: Guest, size: int) -> None:
        """We keep ``size`` bytes that it has asked for and has not read.

        While all keep us at too much of that, the one with the most of it is cut off: to find
        it is cheaper than to have let it in.
        """
        self._unread_bytes += size - self._unread.pop(guest, 0)
        if size:
            self._unread[guest] = size
        while self._unread_bytes > self._unread_limit:
            most = max(self._unread, key=self._unread.__getitem__)
            self.owe(most, 0)
            most.cut_off()

    def leave(self, guest: Guest) -> None:
        """One that was let in has gone."""
        self._inside -= 1
        self.heard(guest)
        self.hold(guest, 0, fresh=True)
        self.owe(guest, 0)
