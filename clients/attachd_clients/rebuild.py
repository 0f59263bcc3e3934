"""The screen as it was when we come back, rebuilt from the program's last output.

The emulator knows what stands where, the mode tracker what the terminal was told to be; both
see the same bytes, which are shown to nobody. It costs the server the sending of 256 KiB, and
the client some ten milliseconds (`scripts/bench --only screen`). The other way, to have the
program redraw by a change of size and back, costs the server nothing and is no faster, since
the program must see both; it shows nothing of a shell's screen and disturbs other clients. It
is what is left when the output does not tell enough.
"""

import re

from attachd.state.modes import Modes
from attachd.state.sizes import Size
from attachd_clients.emulator import Emulator

#: What shows that the program has drawn everything since: cleared the screen, switched to the
#: alternate one, or reset the terminal.
_DRAWN_ANEW = re.compile(rb"\x1b\[[23]J|\x1b\[H\x1b\[J|\x1b\[\?(?:47|1047|1049)[hl]|\x1bc")


class Rebuild:
    """Output from ``start`` to ``end`` in, the bytes that paint our terminal out."""

    def __init__(self, start: int, end: int, size: Size, modes: bytes) -> None:
        self.end = end  #: the offset at which the screen is as it is now
        self.modes = Modes()
        self._drawn = start == 0
        self._emulator = Emulator(*size)
        self._emulator.feed(modes)
        self.modes.feed(modes)

    @property
    def certain(self) -> bool:
        """False when a full-screen program may have drawn something before our first byte."""
        return self._drawn or not self.modes.alternate

    def feed(self, data: bytes) -> None:
        """Take output, in order."""
        self._drawn = self._drawn or _DRAWN_ANEW.search(data) is not None
        self._emulator.feed(data)
        self.modes.feed(data)

    def resize(self, size: Size) -> None:
        """The program's terminal had this size from here on: it scrolls as a whole again."""
        self._emulator.resize(*size)
        self.modes.feed(b"\x1b[r")

    def paint(self, size: Size) -> bytes:
        """Return what draws the screen on a fresh terminal of that size, modes and all.

        One of unknown size is taken for as large as the program's.
        """
        if not size.usable:
            size = Size(self._emulator.columns, self._emulator.rows)
        drawn = self._emulator.paint(*size)
        # The scroll region homes the cursor: its place comes last, but for what is unfinished.
        return drawn + self.modes.settle() + self._emulator.cursor(*size) + self.modes.pending
