"""The server half: guests at the attach socket, the FIFOs, and the end as conmon tells it."""

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable

import trio

from attachd.doors.conmon import duties
from attachd.doors.conmon.control import (
    REOPEN,
    Lines,
    parse_control,
    parse_size,
    read_lines,
)
from attachd.doors.conmon.guest import Guest
from attachd.doors.conmon.places import Places
from attachd.doors.conmon.wishes import ATTACH, CONTROL, PLACES, STATUS, SYNC, WINDOW, Wishes
from attachd.errors import Refused
from attachd.keeper import files
from attachd.keeper.caller import DOOR
from attachd.keeper.parcels import Post
from attachd.live.__main__ import Found
from attachd.live.feed import Bell
from attachd.live.program import Program
from attachd.state.sizes import Size

#: Who takes nothing for so long when the container has ended is not waited for any longer.
STUCK_SECONDS = 10.0

#: Who has ended its input may be about to leave: a client that goes closes right afterwards.
LEAVING_SECONDS = 0.2

#: What may be over in a moment (accept(2)).
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_SECONDS = 0.1

_GUEST = f"{DOOR}guest"

_log = logging.getLogger(__name__)


def make(found: Found) -> "Entrance":
    """Return the entrance of a container that came by this door."""
    return Entrance(dict(found.table.kept), Wishes.of_json(found.settings.door.wishes))


class Entrance:
    """`live.entrance.Entrance`, for conmon's callers."""

    def __init__(self, kept: dict[str, int], wishes: Wishes) -> None:
        self._kept = kept
        self._wishes = wishes
        self._places = Places(kept[PLACES])
        self._guests: set[Guest] = set()
        self._arrivals: list[Guest] = []  #: who waits to be served
        self._left = Bell()  #: rung when a guest has gone

    @property
    def behind(self) -> bool:
        """True while a guest has not been given all output."""
        return any(guest.behind for guest in self._guests)

    def open(self, program: Program, post: Post) -> None:
        """Take in the guests of a server before us, and who waits at the socket."""
        self._program, self._post = program, post
        for name, fd in self._kept.items():
            if name.startswith(_GUEST):
                place = self._places[int(name.removeprefix(_GUEST))]
                if not place.is_free:
                    self._take_in(socket.socket(fileno=os.dup(fd)), place.number)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._accept()

    async def run(self) -> None:
        """Serve guests and FIFOs. Ends when cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for guest in self._arrivals:
                nursery.start_soon(self._serve, guest)
            self._arrivals.clear()
            if CONTROL in self._kept:
                nursery.start_soon(self._listen, self._kept[CONTROL], self._obey)
                nursery.start_soon(self._listen, self._kept[WINDOW], self._resize_window)
            if ATTACH in self._kept:
                await self._accept_guests()
            await trio.sleep_forever()

    async def finish(self, record: dict[str, object]) -> None:
        """Last bytes, exit files, the sync pipe; in this order, as conmon's callers expect it."""
        wishes, status = self._wishes, duties.status_of(record)
        for path in wishes.sockets:
            files.remove_file(path)
        await self._see_off()
        if record.get("oom_killed"):
            duties.note_oom(wishes.oom_directories)
        duties.write_status(wishes.exit_files, status)
        if wishes.exit_key:
            late = "command timed out" if record.get("timed_out") else ""
            duties.tell(self._kept.get(SYNC, -1), duties.line(wishes.exit_key, status, late))
        duties.tell(self._kept.get(STATUS, -1), str(status).encode())
        await trio.sleep(wishes.exit_delay)

    async def _see_off(self) -> None:
        """Return when each guest has everything and is gone, or takes nothing any more."""
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

    # Guests

    async def _accept_guests(self) -> None:
        listener = self._kept[ATTACH]
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                self._accept()
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                await trio.sleep(_PAUSE_SECONDS)
            for guest in self._arrivals:
                self._nursery.start_soon(self._serve, guest)
            self._arrivals.clear()

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
        self._post.keep(f"{_GUEST}{place.number}", peer.fileno())
        self._take_in(peer, place.number)

    def _take_in(self, peer: socket.socket, number: int) -> None:
        peer.setblocking(False)
        guest = Guest(
            peer,
            self._places[number],
            self._program,
            self._input_ended,
            holds_up=self._program.memory.open() is None,
        )
        self._guests.add(guest)
        self._arrivals.append(guest)

    async def _serve(self, guest: Guest) -> None:
        try:
            await guest.run()
        finally:
            self._guests.discard(guest)
            self._post.drop(f"{_GUEST}{guest.place.number}")
            guest.place.free()
            self._left.ring()

    async def _input_ended(self, guest: Guest) -> None:
        """Close stdin, unless others may go on: who leaves does not speak for them."""
        if not self._wishes.closes_stdin:
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

    # The FIFOs

    async def _listen(self, fd: int, take: Callable[[bytes], None]) -> None:
        lines = Lines()
        while True:
            await trio.lowlevel.wait_readable(fd)
            read_lines(fd, lines, take)

    def _obey(self, line: bytes) -> None:
        order = parse_control(line)
        if order is None:
            _log.warning("ctl: not understood: %r", line[:80])
        elif order.kind == REOPEN:
            self._nursery.start_soon(self._reopen)
        else:
            self._resize(order.size)

    def _resize_window(self, line: bytes) -> None:
        size = parse_size(line)
        if size is None:
            _log.warning("winsz: not understood: %r", line[:80])
        else:
            self._resize(size)

    def _resize(self, size: Size) -> None:
        with contextlib.suppress(Refused):  # without a terminal, or of no size: nothing to do
            self._program.writers.resize(size)

    async def _reopen(self) -> None:
        try:
            await self._program.reopen_logs()
        except OSError as error:
            _log.error("cannot reopen the logs: %s", error)
