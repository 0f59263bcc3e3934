"""A terminal's past: what somebody needs who comes back and wants to see the screen as it is.

The screen is rebuilt by the client from the last output, which is in the ring. What the ring
does not tell any more is here: the modes that were set before, and the size at each byte. The
modes are a cursor of their own, half a ring behind: nothing is done for them while output fits
into the ring, and later a task of its own scans what is about to be forgotten. All of it
outlives the server in ``terminal.json``, written before the ring forgets.
"""

import base64
import contextlib
import logging
import os
import time

import trio

from attachd.keeper import files
from attachd.live.feed import PAST, Feed
from attachd.state.modes import Modes
from attachd.state.sizes import Size
from attachd.state.timeline import Change, Timeline

#: How much output a screen is rebuilt from, where the ring has so much: some 50 times what vi
#: draws for a whole screen of 120x40 (`scripts/bench --only screen`).
SCREEN_BYTES = 256 * 1024

#: Scanned at once; other tasks run in between, also when the output is nothing but modes.
SCAN_BYTES = 16 * 1024

_log = logging.getLogger(__name__)


class Past:
    """Modes at one offset of the ring, and the timeline of sizes."""

    def __init__(self, feed: Feed, directory: str, first: Size) -> None:
        self._feed = feed
        self._path = os.path.join(directory, files.TERMINAL)
        self._modes = Modes()
        self._at = 0  #: the offset that ``_modes`` are those of
        self._error = ""  #: why the file could not be written; empty when it was
        self._kept = (0, b"")  #: what the file says of them; true up to the oldest byte held
        self.timeline = Timeline([Change(1, 0, time.time_ns(), first)])
        self.continued = False  #: a server before us has left what it knew
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self._adopt(files.read_json(self._path))
        feed.before_forget = self._before_forget
        feed.low_waters[PAST] = self._at
        self._bell = feed.subscribe()

    async def run(self) -> None:
        """Scan what the ring is about to forget. Ends when cancelled."""
        while True:
            if self.keep_up():
                await trio.lowlevel.checkpoint()
            else:
                await self._bell.wait()

    def keep_up(self) -> bool:
        """Scan a little of the older half of the ring; return False when that is done."""
        end = self._feed.index.middle
        if self._at >= end:
            return False
        self._scan(min(end, self._at + SCAN_BYTES))
        return True

    def resized(self, size: Size) -> None:
        """Note that the size changes now; on the disk before anybody is told."""
        feed = self._feed
        self.timeline.forget(feed.index.oldest)
        self.timeline.note(feed.index.newest, time.time_ns(), size)
        self._write(*self._kept)

    async def find_screen(self) -> tuple[int, bytes]:
        """Return the offset to rebuild the screen from, and what sets its modes there."""
        index = self._feed.index
        while True:
            start = max(index.oldest, index.newest - SCREEN_BYTES)
            if self._at >= start:
                return self._at, self._modes.replay()
            self._scan(min(start, self._at + SCAN_BYTES))
            await trio.lowlevel.checkpoint()

    def _before_forget(self, end: int) -> None:
        """Write down the modes at or after ``end``: the low water has kept what came later."""
        modes, (kept_at, kept) = self._modes.replay(), self._kept
        known = kept_at >= end or (self._at == end and modes == kept)
        if not known:
            self._write(self._at, modes)

    def _scan(self, end: int) -> None:
        self._modes.feed(self._feed.read(self._at, end))
        self._at = self._feed.low_waters[PAST] = end
        self._feed.room_bell.ring()

    def _adopt(self, record: dict[str, object]) -> None:
        """Go on where a server before us has left; the modes were the same up to the oldest."""
        kept = base64.b64decode(str(record["modes"]))
        modes = Modes()
        modes.feed(kept)
        changes = [
            Change(number, offset, when, Size(columns, rows))
            for number, offset, when, columns, rows in _rows(record["sizes"])
        ]
        at = int(str(record["at"]))
        self._kept, self._modes = (at, kept), modes
        self._at = max(at, self._feed.index.held)
        self.continued = True
        self.timeline = Timeline(changes)

    def _write(self, at: int, modes: bytes) -> None:
        record = {
            "at": at,
            "modes": base64.b64encode(modes).decode(),
            "sizes": [[c.number, c.offset, c.time, *c.size] for c in self.timeline.changes],
        }
        try:
            files.write_json(self._path, record, indent=None)
        except FileNotFoundError:
            pass  # the directory was removed: nobody will ask
        except OSError as error:
            if not self._error:
                _log.error("cannot write %s: %s", self._path, error.strerror)
            self._error = str(error)
            return  # and what the file says is still what it said; tried with the next change
        self._error, self._kept = "", (at, modes)


def _rows(value: object) -> list[list[int]]:
    if not isinstance(value, list) or not value:
        raise TypeError(f"{value!r:.80} is not a list of sizes")
    return [[int(field) for field in row] for row in value]
