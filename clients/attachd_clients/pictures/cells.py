"""What is seen on a terminal: output in, runs of cells that look alike out.

The emulator says what stands where, the mode tracker whether there is a cursor.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import attrs
from pyte.screens import Char

from attachd.state.modes import Modes
from attachd.state.sizes import Size
from attachd_clients.emulator import MAX_CELLS
from attachd_clients.emulator.screen import Screen
from attachd_clients.emulator.sequences import Parser
from attachd_clients.emulator.styles import Row
from attachd_clients.pictures.looks import Look, look_of

#: What these modes are told by, when they are not the default (DECTCEM, DECSCNM).
_NO_CURSOR, _REVERSE = b"\x1b[?25l", b"\x1b[?5h"


class Run(NamedTuple):
    """Cells of one row that look alike; a character of two columns is a run of its own."""

    column: int
    width: int  #: of the whole run, in columns
    cells: tuple[str, ...]  #: a character each, with those that combine with it
    look: Look


@attrs.frozen
class Picture:
    """A terminal at one moment."""

    size: Size
    rows: tuple[tuple[Run, ...], ...]
    lines: tuple[str, ...]  #: the rows as text, without blanks at their ends


class Sight:
    """A terminal that is looked at: ``modes`` bring it into its state before the first output."""

    def __init__(self, size: Size, modes: bytes = b"") -> None:
        self._screen = Screen(*_bounded(size))
        self._parser = Parser(self._screen)
        self._modes = Modes()
        self.feed(modes)

    def feed(self, data: bytes) -> None:
        """Take output, however it is cut."""
        self._parser.feed(data)
        self._modes.feed(data)

    def resize(self, size: Size) -> None:
        """The terminal has this size from here on."""
        if size != Size(self._screen.columns, self._screen.lines):
            self._screen.fit(*_bounded(size))
            self._modes.feed(b"\x1b[r")

    def picture(self) -> Picture:
        """Return what is seen now."""
        screen, settled = self._screen, self._modes.settle()
        cursor = None if _NO_CURSOR in settled else (screen.cursor.y, screen.cursor.x)
        reverse = _REVERSE in settled
        rows = [
            tuple(_runs(row, _cursor_in(number, cursor, screen.columns), reverse=reverse))
            for number, row in enumerate(screen.grid)
        ]
        lines = ("".join(cell.data for cell in row).rstrip(" ") for row in screen.grid)
        return Picture(Size(screen.columns, screen.lines), tuple(rows), tuple(lines))


def _bounded(size: Size) -> Size:
    """Return what the emulator takes, as it does itself."""
    columns = max(1, size.columns)
    return Size(columns, max(1, min(size.rows, MAX_CELLS // columns)))


def _cursor_in(row: int, cursor: tuple[int, int] | None, columns: int) -> int:
    """Return the cursor's column if it is in this row, and otherwise -1."""
    if cursor is None or cursor[0] != row:
        return -1
    return min(cursor[1], columns - 1)


def _runs(row: Row, cursor: int, *, reverse: bool) -> Iterator[Run]:
    if cursor > 0 and not row[cursor].data:
        cursor -= 1  # it is on the second half of a wide character
    cells = [
        (column, cell, _is_wide(row, column)) for column, cell in enumerate(row) if cell.data
    ]
    for _, group in itertools.groupby(cells, lambda item: _kind(item, cursor)):
        found = list(group)
        column, cell, wide = found[0]
        look = look_of(cell.fg, cell.bg, reverse=reverse)
        texts = tuple(cell.data for _, cell, _ in found)
        width = len(found) * (2 if wide else 1)
        yield Run(column, width, texts, look.reversed() if column == cursor else look)


def _is_wide(row: Row, column: int) -> bool:
    return column + 1 < len(row) and not row[column + 1].data


def _kind(item: tuple[int, Char, bool], cursor: int) -> tuple[str, str, int]:
    """Return what cells of one run have in common; a wide one and the cursor stand alone."""
    column, cell, wide = item
    return cell.fg, cell.bg, column if wide or column == cursor else -1
