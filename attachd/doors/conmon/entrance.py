"""The server half: guests at the attach socket, the FIFOs, and the end as conmon tells it."""

import contextlib
import logging
import os
from collections.abc import Callable, Mapping

import trio

from attachd.doors.conmon import duties, pipes
from attachd.doors.conmon.control import (
    REOPEN,
    Lines,
    parse_control,
    parse_size,
    read_lines,
)
from attachd.doors.conmon.notify import pass_on
from attachd.doors.conmon.syslog import keep_words
from attachd.doors.conmon.wishes import CONTROL, NOTIFY, STATUS, SYNC, WINDOW, Wishes
from attachd.doors.guest import Guest, Speech, give_packet
from attachd.doors.guests import Guests
from attachd.doors.places import Places
from attachd.doors.ways import PLACES
from attachd.errors import Refused
from attachd.keeper import files
from attachd.keeper.parcels import Post
from attachd.live.__main__ import Found
from attachd.live.feed import Bell
from attachd.live.program import Program
from attachd.live.threads import in_thread
from attachd.state.ring import STDERR, STDOUT
from attachd.state.sizes import Size

#: Who has ended its input may be about to leave: a client that goes closes right afterwards.
LEAVING_SECONDS = 0.2

#: What conmon calls the streams (conmon's utils.h: stdin 1, stdout 2, stderr 3). Podman reads a
#: packet into 8193 bytes, and what does not fit is lost to it.
SPEECH = Speech({STDOUT: b"\2", STDERR: b"\3"}, 8192, give_packet)

_log = logging.getLogger(__name__)


def make(found: Found) -> "Entrance":
    """Return the entrance of a container that came by this door."""
    wishes = Wishes.of_json(found.settings.door.wishes)
    keep_words(wishes.log_level, found.settings.container, syslog=wishes.syslog)
    return Entrance(found.table.kept, wishes)


class Entrance:
    """`live.entrance.Entrance`, for conmon's callers."""

    def __init__(self, kept: Mapping[str, int], wishes: Wishes) -> None:
        self._kept = kept
        self._wishes = wishes
        self._guests = Guests(kept, SPEECH, self._input_ended)
        self._places = Places(kept[PLACES])
        self._reopen = Bell()

    @property
    def clients(self) -> int:
        """How many guests there are."""
        return self._guests.count

    @property
    def behind(self) -> bool:
        """True while a guest has not been given all output."""
        return self._guests.behind

    def open(self, program: Program, post: Post) -> None:
        """Take in the guests of a server before us, and who waits at the socket."""
        self._program, self._post = program, post
        self._guests.open(program, post)

    async def run(self) -> None:
        """Serve guests and FIFOs. Ends when cancelled."""
        async with trio.open_nursery() as nursery:
            if CONTROL in self._kept:
                nursery.start_soon(self._listen, self._kept[CONTROL], self._obey)
                nursery.start_soon(self._listen, self._kept[WINDOW], self._resize_window)
                nursery.start_soon(self._reopen_logs)
            if NOTIFY in self._kept:
                nursery.start_soon(pass_on, self._kept[NOTIFY], self._wishes.notify)
            if STATUS in self._kept:
                nursery.start_soon(self._pass_on, self._kept[STATUS])
            await self._guests.run()

    async def finish(self, record: dict[str, object]) -> None:
        """Last bytes, exit files, the sync pipe; in this order, as conmon's callers expect it.

        Once the manager was told it may clear away what it was told by: that is not made again.
        """
        if not self._places.told:
            await self._end_output()
            self._tell(record)
            self._places.note_told()
        await trio.sleep(self._wishes.exit_delay)

    async def _end_output(self) -> None:
        """Have logs on the disk, and guests gone; nobody new can come."""
        if self._wishes.syncs_logs:
            await in_thread(duties.sync, self._log_descriptors())
        for path in self._wishes.sockets:
            files.remove_file(path)
        await self._guests.see_off()

    def _tell(self, record: dict[str, object]) -> None:
        wishes, status = self._wishes, duties.status_of(record)
        if record.get("oom_killed"):
            duties.note_oom(wishes.oom_directories)
        duties.write_status(wishes.exit_files, status)
        if wishes.exit_key:
            late = "command timed out" if record.get("timed_out") else ""
            pipes.tell(self._kept.get(SYNC, -1), pipes.line(wishes.exit_key, status, late))
        pipes.tell(self._kept.get(STATUS, -1), b"%d\n" % status)

    def _log_descriptors(self) -> list[int]:
        kept = self._post.kept
        return [fd for name, fd in kept.items() if name.startswith("log")]

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
        clients = any(client.role == "full" for client in self._program.clients)
        return clients or self._guests.listen_besides(guest)

    # The FIFOs

    async def _listen(self, fd: int, take: Callable[[bytes], None]) -> None:
        lines = Lines()
        while True:
            await trio.lowlevel.wait_readable(fd)
            read_lines(fd, lines, take)

    async def _pass_on(self, fd: int) -> None:
        """Give the program what its launcher was signalled; return when that has gone."""
        while True:
            await trio.lowlevel.wait_readable(fd)
            number = os.read(fd, 1)
            if not number:
                return
            with contextlib.suppress(Refused):  # it has ended
                self._program.process.signal(number[0])

    def _obey(self, line: bytes) -> None:
        order = parse_control(line)
        if order is None:
            _log.warning("ctl: not understood: %r", line[:80])
        elif order.kind == REOPEN:
            self._reopen.ring()
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

    async def _reopen_logs(self) -> None:
        """Reopen them as often as is ordered; orders that come meanwhile are one."""
        while True:
            await self._reopen.wait()
            try:
                await self._program.reopen_logs()
            except OSError as error:
                _log.error("cannot reopen the logs: %s", error)
