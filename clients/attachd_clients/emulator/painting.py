"""What of a screen is visible on a terminal, as the bytes that draw it there."""

import itertools

from pyte import modes as mode
from pyte.screens import Cursor

from attachd_clients.emulator.screen import HOME, Screen
from attachd_clients.emulator.styles import BLANK, Row, part, sgr, style_of


class Window:
    """What of a screen is visible on a terminal of ``columns`` x ``rows``, as bytes to be."""

    def __init__(self, screen: Screen, columns: int, rows: int) -> None:
        self._screen = screen
        self._columns = columns
        self._rows = rows

    def paint(self) -> str:
        """Draw all: the hidden main screen first, when there is one."""
        screen = self._screen
        words = f"\x1b[{self._rows};1H" + "\n" * self._rows
        if screen.alternate:
            main = screen.saved.get(False, HOME).cursor
            words += self._draw(screen.hidden, main) + self._put(
                screen.hidden, main, self._top(main)
            )
            words += "\x1b[?1049h\x1b[m\x1b[2J"
        words += self._draw(screen.grid, screen.cursor)
        top = self._top(screen.cursor)
        if saved := screen.saved.get(screen.alternate):
            words += self._put(screen.grid, saved.cursor, top) + "\x1b7"
        return words + self._put(screen.grid, screen.cursor, top)

    def settle(self) -> str:
        """Put the cursor in its place on a terminal that has the program's modes."""
        screen = self._screen
        above = screen.region.top if mode.DECOM in screen.mode else 0
        place = self._put(screen.grid, screen.cursor, self._top(screen.cursor), above)
        if not screen.lines_drawn[screen.charset]:
            return place
        opening = "()"[screen.charset]
        return f"\x1b{opening}B{place}\x1b{opening}0"

    def _top(self, cursor: Cursor) -> int:
        """Return the first visible row: the cursor's must be visible, too."""
        return max(0, cursor.y - self._rows + 1)

    def _draw(self, grid: list[Row], cursor: Cursor) -> str:
        """Draw the rows, without autowrap: a full last one would scroll."""
        words, top, style = ["\x1b[?7l"], self._top(cursor), style_of(BLANK)
        for number, row in enumerate(grid[top : top + self._rows], 1):
            cells = self._visible(row)
            words += [f"\x1b[{number};1H"] if cells else []
            for its, run in itertools.groupby(cells, style_of):
                words += [sgr(*its)] if its != style else []
                words += (cell.data for cell in run)
                style = its
        return "".join(words) + "\x1b[?7h"

    def _visible(self, row: Row) -> Row:
        """Return the cells to be drawn: no half of a wide character, no blanks at the end."""
        cells = row[: self._columns + 1]
        part(cells, self._columns)
        del cells[self._columns :]
        while cells and cells[-1] == BLANK:
            cells.pop()
        return cells

    def _put(self, grid: list[Row], cursor: Cursor, top: int, above: int = 0) -> str:
        """Return what sets the cursor's style, and puts it in its place, less what is above.

        Behind a full row it gets by printing the last character again.
        """
        line, style = cursor.y - top, style_of(cursor.attrs)
        full = cursor.x == self._screen.columns == self._columns
        if not full or not 0 <= line < self._rows:
            column = min(cursor.x, self._columns - 1)
            return f"{sgr(*style)}\x1b[{max(line - above, 0) + 1};{column + 1}H"
        last = next(cell for cell in reversed(grid[cursor.y]) if cell.data)
        column = self._columns - (1 if grid[cursor.y][-1].data else 2)
        words = (
            sgr(*style_of(last)) + last.data + (sgr(*style) if style != style_of(last) else "")
        )
        return f"\x1b[{line - above + 1};{column + 1}H{words}"
