"""The server half: guests at the attach file, and the exit file at the end."""

import logging

import trio

from attachd.doors.guest import Guest
from attachd.doors.guests import Guests
from attachd.doors.shimmy.formats import exit_file
from attachd.doors.shimmy.speech import make_speech
from attachd.doors.shimmy.wishes import Wishes
from attachd.keeper import files
from attachd.keeper.parcels import Post
from attachd.live.__main__ import Found
from attachd.live.ending import COPY_PAUSE_SECONDS, COPY_SECONDS, NO_ROOM
from attachd.live.program import Program
from attachd.state.eofpolicy import ONCE

#: What the manager's levels are in Python's words; above all of them nothing is written.
LEVELS = {
    "off": logging.CRITICAL + 1,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}

_log = logging.getLogger(__name__)


def make(found: Found) -> "Entrance":
    """Return the entrance of a container that came by this door."""
    wishes = Wishes.of_json(found.settings.door.wishes)
    logging.getLogger().setLevel(LEVELS[wishes.log_level])
    return Entrance(dict(found.table.kept), wishes)


class Entrance:
    """`live.entrance.Entrance`, for conman."""

    def __init__(self, kept: dict[str, int], wishes: Wishes) -> None:
        self._wishes = wishes
        self._guests = Guests(kept, make_speech(), self._input_ended)

    @property
    def clients(self) -> int:
        """How many guests there are."""
        return self._guests.count

    @property
    def behind(self) -> bool:
        """True while a guest has not been given all output."""
        return self._guests.behind

    def open(self, program: Program, post: Post) -> None:
        """Take in the guests of a server before us, and who waits at the attach file."""
        self._program = program
        self._guests.open(program, post)

    async def run(self) -> None:
        """Serve guests. Ends when cancelled."""
        await self._guests.run()

    async def finish(self, record: dict[str, object]) -> None:
        """Write the exit file, then let the guests go: conman may read it when they are told."""
        files.remove_file(self._wishes.attach_file)
        await self._write_exit_file(exit_file(record))
        await self._guests.see_off()

    async def _write_exit_file(self, text: bytes) -> None:
        """Put it where conman looks; while there is no room on the disk, for a minute."""
        path = self._wishes.exit_file
        error = _try_to_write(path, text)
        with trio.move_on_after(COPY_SECONDS):
            while error is not None and error.errno in NO_ROOM:
                await trio.sleep(COPY_PAUSE_SECONDS)
                error = _try_to_write(path, text)
        if error is not None:
            _log.error("cannot write %s: %s", path, error.strerror)

    async def _input_ended(self, guest: Guest) -> None:
        """Close a stdin that is for once, unless it is one who has only looked, and leaves."""
        stdin = self._program.stdin
        if stdin.policy == ONCE and (stdin.accepted(guest.key) or not guest.has_gone):
            stdin.offer_eof(guest.key)


def _try_to_write(path: str, text: bytes) -> OSError | None:
    try:
        files.write_whole(path, text, sync=True)
    except OSError as error:
        return error
    return None
