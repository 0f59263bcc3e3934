"""All guests of one container: those who come, and those whom a server before us has left."""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

import trio

from attachd.doors.guest import Guest, Speech
from attachd.doors.places import Places
from attachd.doors.ways import ATTACH, GUEST, PLACES
from attachd.keeper.parcels import Post
from attachd.live.feed import Bell
from attachd.live.program import Program

#: Who takes nothing for so long when the container has ended is not waited for any longer.
STUCK_SECONDS = 10.0

#: What may be over in a moment (accept(2)).
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1

_log = logging.getLogger(__name__)


class Guests:
    """Construct with the descriptors by name; ``open``, ``run``, and at the end ``see_off``."""

    def __init__(
        self,
        kept: Mapping[str, int],
        speech: Speech,
        ended: Callable[[Guest], Awaitable[None]],
    ) -> None:
        """``ended`` hears of each guest whose input has ended."""
        self._kept = kept
        self._speech = speech
        self._ended = ended
        self._places = Places(kept[PLACES])
        self._all: set[Guest] = set()
        self._arrivals: list[Guest] = []  #: who waits to be served
        self._left = Bell()  #: rung when a guest has gone

    @property
    def behind(self) -> bool:
        """True while one has not been given all output."""
        return any(guest.behind for guest in self._all)

    def listen_besides(self, guest: Guest) -> bool:
        """Return whether another one may still have something to type."""
        return any(other.listens for other in self._all if other is not guest)

    def open(self, program: Program, post: Post) -> None:
        """Take in the guests of a server before us, and who waits at the socket."""
        self._program, self._post = program, post
        for name, fd in self._kept.items():
            if name.startswith(GUEST):
                place = self._places[int(name.removeprefix(GUEST))]
                if not place.is_free:
                    self._take_in(socket.socket(fileno=os.dup(fd)), place.number)
        if ATTACH in self._kept:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._accept()

    async def run(self) -> None:
        """Serve all, and who comes. Ends when cancelled."""
        async with trio.open_nursery() as nursery:
            self._serve_arrivals(nursery)
            while ATTACH in self._kept:
                await trio.lowlevel.wait_readable(self._kept[ATTACH])
                try:
                    self._accept()
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno not in _NO_ROOM:
                        raise
                    await trio.sleep(_PAUSE_SECONDS)
                self._serve_arrivals(nursery)
            await trio.sleep_forever()

    async def see_off(self) -> None:
        """Return when each guest has everything and is gone, or takes nothing any more."""
        for guest in self._all:
            guest.finish()
        while self._all:
            before = self._given
            with trio.move_on_after(STUCK_SECONDS):
                await self._left.wait()
                continue
            if self._given == before:
                _log.error("%d clients do not read the end of the output", len(self._all))
                return

    @property
    def _given(self) -> int:
        return sum(guest.place.offset for guest in self._all)

    def _accept(self) -> None:
        """Take one in. Raises OSError, BlockingIOError when nobody waits."""
        with socket.socket(fileno=os.dup(self._kept[ATTACH])) as listener:
            peer, _ = listener.accept()
        place = self._places.find_free()
        if place is None:
            _log.error("a client of the attach socket was let go: there are too many")
            peer.close()
            return
        place.take(self._program.feed.index.newest)
        self._post.keep(f"{GUEST}{place.number}", peer.fileno())
        self._take_in(peer, place.number)

    def _take_in(self, peer: socket.socket, number: int) -> None:
        peer.setblocking(False)
        holds_up = self._program.memory.open() is None
        guest = Guest(
            peer,
            self._places[number],
            self._program,
            self._speech,
            self._ended,
            holds_up=holds_up,
        )
        self._all.add(guest)
        self._arrivals.append(guest)

    def _serve_arrivals(self, nursery: trio.Nursery) -> None:
        for guest in self._arrivals:
            nursery.start_soon(self._serve, guest)
        self._arrivals.clear()

    async def _serve(self, guest: Guest) -> None:
        try:
            await guest.run()
        finally:
            self._all.discard(guest)
            self._post.drop(f"{GUEST}{guest.place.number}")
            guest.place.free()
            self._left.ring()
