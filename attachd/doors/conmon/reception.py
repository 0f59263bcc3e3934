"""The reception: takes in whoever connects to the attach socket, and sees them off at the end.

Each guest's descriptor is the keeper's, too (a parcel ``door/guestN``), and its place is in shared
memory (`places`): whoever is the server next goes on with it. Only who is accepted by a server
that dies before it can hand the descriptor over, a moment later, has to connect again.
"""

import errno
import logging
import socket

import trio

from attachd.doors.conmon.guest import STUCK_SECONDS, Guest
from attachd.doors.conmon.places import Places
from attachd.keeper.caller import DOOR
from attachd.keeper.parcels import Post
from attachd.live.feed import Bell
from attachd.live.program import Program

#: Who has ended its input may be about to leave: a client that goes closes right afterwards.
LEAVING_SECONDS = 0.2

#: What may be over in a moment (accept(2)).
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1

_GUEST = f"{DOOR}guest"

_log = logging.getLogger(__name__)


class Reception:
    """``run`` it, then ``see_off``. ``listener`` is -1 where nobody can attach."""

    def __init__(
        self,
        listener: int,
        places: Places,
        program: Program,
        post: Post,
        *,
        closes_stdin: bool,
    ) -> None:
        """Take in the guests of a server before us, and who waits at the socket.

        ``closes_stdin``: the end of the last guest's input is the end of stdin.
        """
        self._listener = socket.socket(fileno=listener) if listener >= 0 else None
        self._places = places
        self._program = program
        self._post = post
        self._closes_stdin = closes_stdin
        self._guests: set[Guest] = set()
        self._arrivals: list[Guest] = []  #: who waits to be served
        self._left = Bell()  #: rung when a guest has gone
        self._over = False  #: there is nothing to come for
        self._take_over()
        self._accept_waiting()

    @property
    def count(self) -> int:
        """How many guests there are."""
        return len(self._guests)

    @property
    def behind(self) -> bool:
        """True while a guest has not been given all output."""
        return any(guest.behind for guest in self._guests)

    async def run(self) -> None:
        """Serve guests. Ends when cancelled."""
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
        for guest in self._guests:
            guest.finish()
        while self._guests:
            before = self._given
            with trio.move_on_after(STUCK_SECONDS):
                await self._left.wait()
                continue
            if self._given == before:
                _log.error("%d clients do not read the end of the output", len(self._guests))
                return

    @property
    def _given(self) -> int:
        return sum(guest.place.offset for guest in self._guests)

    # Coming

    def _take_over(self) -> None:
        """Go on with those whose descriptors the keeper had."""
        kept = {
            int(name.removeprefix(_GUEST)): fd
            for name, fd in self._post.kept.items()
            if name.startswith(_GUEST)
        }
        self._places.free_all_but(kept)
        for number, fd in kept.items():
            self._take_in(socket.socket(fileno=fd), number)

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
        self._post.keep(f"{_GUEST}{place.number}", peer.fileno())
        self._take_in(peer, place.number)

    def _take_in(self, peer: socket.socket, number: int) -> None:
        peer.setblocking(False)
        guest = Guest(peer, self._places[number], self._program, self._input_ended)
        if self._over:
            guest.finish()
        self._guests.add(guest)
        self._arrivals.append(guest)

    # Leaving

    async def _serve(self, guest: Guest) -> None:
        """Serve one to its end. On cancel it is still there, for the next server."""
        await guest.run()
        self._guests.discard(guest)
        self._post.drop(f"{_GUEST}{guest.place.number}")
        guest.place.free()
        self._left.ring()

    async def _input_ended(self, guest: Guest) -> None:
        """Close stdin, unless others may go on: who leaves does not speak for them."""
        if not self._closes_stdin:
            return
        if self._has_others(guest):
            with trio.move_on_after(LEAVING_SECONDS):
                await guest.wait_gone()
                return
        self._program.stdin.offer_eof(guest.key)

    def _has_others(self, guest: Guest) -> bool:
        """Return whether somebody else may still have something to type."""
        guests = any(other.listens for other in self._guests if other is not guest)
        return guests or any(client.role == "full" for client in self._program.clients)
