"""The screen of a program, rebuilt from its output, and painted on a fresh terminal.

Pure: bytes in, bytes out. It answers no questions, keeps no scrollback, and of the modes knows
only what moves characters about; the rest is `attachd/state/modes.py`'s.

`sequences` reads, `screen` keeps, `styles` says how a cell looks, `painting` draws.

Where terminals differ, xterm is followed, except that erasing to the end of a full line leaves
its last character alone, as in tmux and Alacritty.
"""

from attachd.state.sizes import MAX_SIDE
from attachd_clients.emulator.painting import Window
from attachd_clients.emulator.screen import Screen
from attachd_clients.emulator.sequences import Parser

__all__ = ["MAX_CELLS", "Emulator"]

#: A program can give its terminal any size; no window has more characters than this.
MAX_CELLS = 1_000_000


class Emulator:
    """One terminal; at least 1 x 1, and of no more rows than MAX_CELLS allows."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = Screen(*_bounded(columns, rows))
        self._parser = Parser(self._screen)

    @property
    def columns(self) -> int:
        """The width."""
        return self._screen.columns

    @property
    def rows(self) -> int:
        """The height."""
        return self._screen.lines

    def feed(self, data: bytes) -> None:
        """Take output, however it is cut. What is no UTF-8 is replaced; nothing is raised."""
        self._parser.feed(data)

    def resize(self, columns: int, rows: int) -> None:
        """Crop or extend both screens. Rows go at the top only to keep the cursor's."""
        self._screen.fit(*_bounded(columns, rows))

    def text(self) -> list[str]:
        """Return the rows as a person sees them, without blanks at the end."""
        return ["".join(cell.data for cell in row).rstrip(" ") for row in self._screen.grid]

    def paint(self, columns: int, rows: int) -> bytes:
        """Return what draws this on a terminal of that size whose modes are the defaults.

        What it showed is in its scrollback then. A smaller one gets the left part, and the
        rows down to the cursor's.
        """
        window = Window(self._screen, max(1, columns), max(1, rows))
        return window.paint().encode()

    def cursor(self, columns: int, rows: int) -> bytes:
        """Return what puts the cursor in its place on the painted terminal.

        For when the program's modes are set there: the origin may not be at the top, and the
        style is set again, since a mode tracker does not know what was saved with a cursor.
        After a full row the next character wraps, as it would have. The first bytes of an
        unfinished character come last.
        """
        window = Window(self._screen, max(1, columns), max(1, rows))
        return window.settle().encode() + self._parser.unfinished_character


def _bounded(columns: int, rows: int) -> tuple[int, int]:
    columns = min(max(columns, 1), MAX_SIDE)
    return columns, min(max(rows, 1), MAX_CELLS // columns, MAX_SIDE)
