"""A brake: one client's right to have the container wait for it, for a limited time.

It is a low water like a log's. Who holds the container up for longer than the limit loses it,
and is from then on a client like any other.
"""

import itertools
import math

import trio

from attachd.live.feed import PAST, Bell, Feed

#: Names of our low waters.
_names = itertools.count(PAST - 1, -1)


class Brake:
    """Construct when the client begins; ``release`` when it leaves."""

    def __init__(self, feed: Feed, limit: float) -> None:
        self._feed = feed
        self._limit = limit  #: seconds
        self._name = next(_names)
        self._starved = Bell()
        self._since = math.inf  #: when the container began to wait for us
        self._held = True
        feed.starved.add(self._starved)

    @property
    def held(self) -> bool:
        """False once it is lost."""
        return self._held

    def move(self, offset: int) -> None:
        """The client has been given everything before ``offset``.

        What the ring does not have any more is not waited for.
        """
        if self._held and offset >= self._feed.index.oldest:
            self._since = math.inf
            self._feed.low_waters[self._name] = offset
            self._feed.room_bell.ring()

    def release(self) -> None:
        """Hold nothing up any more."""
        self._held = False
        self._feed.starved.discard(self._starved)
        self._feed.low_waters.pop(self._name, None)
        self._feed.room_bell.ring()

    async def watch(self) -> None:
        """Return when the container has waited for this client for too long: it is released."""
        while True:
            with trio.move_on_at(self._since + self._limit):
                await self._starved.wait()
            now = trio.current_time()
            if not self._holds_up():
                self._since = math.inf
            elif self._since == math.inf:
                self._since = now
            elif now >= self._since + self._limit:
                self.release()
                return

    def _holds_up(self) -> bool:
        ours = self._feed.low_waters.get(self._name)
        return ours is not None and self._feed.room() == 0 and ours == self._feed.low_water
