"""All guests of one container: those who come, and those whom a server before us has left.

Each guest's descriptor is the keeper's, too (a parcel ``door/guestN``), and its place is in shared
memory (`places`): whoever is the server next goes on with it. Only who is accepted by a server
that dies before it can hand the descriptor over, a moment later, has to connect again.
"""

import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping

import trio

from attachd.doors.guest import STUCK_SECONDS, Guest, Speech
from attachd.doors.places import Places
from attachd.doors.ways import ATTACH, GUEST, PLACES
from attachd.keeper.parcels import Post
from attachd.live.feed import Bell
from attachd.live.program import Program

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
        self._listener = socket.socket(fileno=kept[ATTACH]) if ATTACH in kept else None
        self._speech = speech
        self._ended = ended
        self._places = Places(kept[PLACES])
        self._all: set[Guest] = set()
        self._arrivals: list[Guest] = []  #: who waits to be served
        self._left = Bell()  #: rung when a guest has gone
        self._over = False  #: there is nothing to come for

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._all)

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
        kept = {
            int(name.removeprefix(GUEST)): fd
            for name, fd in post.kept.items()
            if name.startswith(GUEST)
        }
        self._places.free_all_but(kept)
        for number, fd in kept.items():
            self._take_in(socket.socket(fileno=fd), number)
        self._accept_waiting()

    async def run(self) -> None:
        """Serve all, and who comes. Ends when cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                for guest in self._arrivals:
                    nursery.start_soon(self._serve, guest)
                self._arrivals.clear()
                await self._wait_arrival()

    async def see_off(self) -> None:
        """Return when each guest has everything and is gone, or takes nothing any more."""
        self._accept_waiting()
        self._over = True
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

    async def _wait_arrival(self) -> None:
        """Return when somebody may have come. Raises OSError."""
        if self._arrivals:
            return
        if self._listener is None:
            await trio.sleep_forever()
        else:
            await trio.lowlevel.wait_readable(self._listener)
            if not self._accept_waiting():
                await trio.sleep(_PAUSE_SECONDS)

    def _accept_waiting(self) -> bool:
        """Take in who waits; return False when there is no room for one now. Raises OSError."""
        try:
            while self._listener is not None:
                self._accept(self._listener)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
        return False

    def _accept(self, listener: socket.socket) -> None:
        """Take one in. Raises OSError, BlockingIOError when nobody waits."""
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
        guest = Guest(peer, self._places[number], self._program, self._speech, self._ended)
        if self._over:
            guest.finish()
        self._all.add(guest)
        self._arrivals.append(guest)

    async def _serve(self, guest: Guest) -> None:
        """Serve one to its end. On cancel it is still there, for the next server."""
        await guest.run()
        self._all.discard(guest)
        self._post.drop(f"{GUEST}{guest.place.number}")
        guest.place.free()
        self._left.ring()
