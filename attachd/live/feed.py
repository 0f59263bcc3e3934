"""The feed: the ring, and a way to wait for it to grow. The one object that all tasks share."""

import os
from collections.abc import Callable

import trio

from attachd.keeper.descriptors import Libc
from attachd.state.header import Header
from attachd.state.ring import STREAMS, Index

#: Old output is given back to the kernel in pieces of this size: rare enough to cost nothing,
#: small against the ring.
PUNCH_GRAIN = 256 * 1024


#: The name of the terminal's past among the low waters; logs have numbers from 0, and clients'
#: brakes what is below.
PAST = -1


class Bell:
    """Wakes one task; a ring while nobody waits is kept, several rings are one."""

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()
        self._rung = False

    def ring(self) -> None:
        """Wake the waiter, now or when it comes."""
        self._rung = True
        self._lot.unpark_all()

    async def wait(self) -> None:
        """Return when rung since the last return. On cancel: the ring is kept."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        else:
            await self._lot.park()
        self._rung = False


class Feed:
    """Output as it arrives. Pumps call ``arrived``; consumers hold a cursor and a bell.

    ``low_water`` is kept up to date by the logs: nothing from there on is overwritten.
    """

    def __init__(self, ring: int, header: Header) -> None:
        self.ring = ring
        self._header = header
        self.index = Index(header, os.lseek(ring, 0, os.SEEK_CUR))
        self.low_waters: dict[int, int] = {}
        self.room_bell = Bell()
        self.ends: dict[int, int] = {}  #: stream -> newest offset when it ended
        self.record: dict[str, object] | None = None  #: the exit record, once it is on disk
        self.before_forget: Callable[[int], None] = lambda end: None  #: output before end goes
        self.listeners: set[Callable[[], None]] = (
            set()
        )  #: called at each change; must not wait
        self.readers = 0  #: clients that want output, also those that are not listening now
        self.end_listeners: set[Callable[[], None]] = set()  #: called when the record is there
        self.starved: set[Bell] = set()  #: rung when a pump must wait for room
        self._bells: set[Bell] = set()
        self._closed = False
        self._libc = Libc()
        self._grain = min(PUNCH_GRAIN, header.ring_size)
        self._libc.punch(ring, 0, header.oldest)  # a death between note and punch: repeat

    @property
    def low_water(self) -> int:
        """The first offset that some log still needs."""
        return min(self.low_waters.values(), default=self.index.newest)

    @property
    def braked(self) -> bool:
        """True while output waits for a client that may have it wait (`live.brake`)."""
        low = self.low_water
        brakes = any(name < PAST and at == low for name, at in self.low_waters.items())
        return brakes and self.room() == 0

    @property
    def ended(self) -> bool:
        """True when no more output will come."""
        return len(self.ends) == len(STREAMS)

    def subscribe(self) -> Bell:
        """Return a bell that rings whenever something here has changed."""
        bell = Bell()
        self._bells.add(bell)
        return bell

    def unsubscribe(self, bell: Bell) -> None:
        """Stop ringing it."""
        self._bells.discard(bell)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes [start, end), which must be neither too old nor yet to come."""
        return os.pread(self.ring, end - start, start)

    def find_newline(self, count: int) -> tuple[int, int]:
        """Return the offset behind the ``count``-th newline, counted back from the newest byte.

        When there are fewer: the oldest offset that is held, and how many are wanting.
        """
        end, oldest = self.index.newest, self.index.oldest
        while end > oldest:
            start = max(oldest, end - PUNCH_GRAIN)
            data = self.read(start, end)
            at = len(data)
            while count and (at := data.rfind(b"\n", 0, at)) >= 0:
                count -= 1
                if not count:
                    return start + at + 1, 0
            end = start
        return oldest, count

    def count_gap(self, size: int) -> None:
        """Note that a client was told of ``size`` bytes that it misses."""
        self._header.gaps += 1
        self._header.missed += size

    def room(self) -> int:
        """Return how many bytes may arrive now."""
        return 0 if self._closed else self.index.room(self.low_water)

    def close(self) -> None:
        """Let nothing arrive any more."""
        self._closed = True

    async def wait_room(self) -> int:
        """Return how many bytes may arrive, as soon as some may."""
        while (room := self.room()) == 0:
            for bell in self.starved:
                bell.ring()
            await self.room_bell.wait()
        return room

    def arrived(self, count: int) -> None:
        """Commit the mark after a splice, tell everybody, and forget what is too old."""
        self.index.advance(count)
        old = self.index.stale(self.low_water, self._grain)
        if old:
            self._forget(*old)
        self.announce()

    def _forget(self, start: int, end: int) -> None:
        self.before_forget(end)
        self.index.forget(end)
        self._libc.punch(self.ring, start, end)

    def end_stream(self, stream: int) -> None:
        """Note that a stream has ended."""
        self.ends.setdefault(stream, self.index.newest)
        self.announce()

    def finish(self, record: dict[str, object]) -> None:
        """Publish the exit record: it comes after every byte."""
        self.record = record
        self.announce()
        for listener in self.end_listeners:
            listener()

    def announce(self) -> None:
        """Tell every listener, then ring every bell."""
        for listener in self.listeners:
            listener()
        for bell in self._bells:
            bell.ring()
