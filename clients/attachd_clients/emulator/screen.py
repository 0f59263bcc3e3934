"""The cells of both screens, the cursor, and what a sequence does to them.

pyte gives the cursor, the tabs and the names of what sequences do. A row is a list of cells
here, so that all the editing of rows is the editing of lists.
"""

import copy
import functools
import re
from typing import NamedTuple

import pyte
from pyte import modes as mode
from pyte.charsets import VT100_MAP
from pyte.screens import Char, Cursor, Margins, wcwidth

from attachd.state.sizes import MAX_SIDE
from attachd_clients.emulator.styles import BLANK, Row, part, style_of, styled

_MAX_CELL = 16  #: code points in one cell; tmux keeps 21 bytes

#: What is surely one column wide: Latin, Greek, Cyrillic, lines and blocks.
NARROW = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2500-\u25fc]+|.", re.DOTALL)

#: The letters of the line-drawing set; pyte's table has more, for other terminals.
_LINES = {code: VT100_MAP[code] for code in range(0x5F, 0x7F)}


class Saved(NamedTuple):
    """What ESC 7 keeps."""

    cursor: Cursor
    lines: tuple[bool, bool]
    charset: int
    origin: bool


HOME = Saved(Cursor(0, 0, BLANK), (False, False), 0, False)


class _Cells(dict[str, Char]):
    """The cells of one style: each is made once."""

    def __init__(self, foreground: str, background: str) -> None:
        super().__init__()
        self._style = foreground, background

    def __missing__(self, data: str) -> Char:
        cell = self[data] = Char(data, *self._style)
        return cell


_cells = functools.lru_cache(256)(_Cells)


class Screen(pyte.Screen):
    """The cells of both screens, the cursor, and what a sequence does to them.

    ``grid`` is what is shown, ``hidden`` the other one; pyte's own buffer is not used. A
    cursor at ``columns`` has filled the row: the next character will wrap.
    """

    def reset(self) -> None:
        self.region = Margins(0, self.lines - 1)  #: the rows that scroll; not pyte's margins
        super().reset()
        self.mode = {mode.DECAWM}
        self.tabstops = set(range(8, MAX_SIDE, 8))
        self.cursor = Cursor(0, 0, BLANK)
        self.alternate = False
        self.saved: dict[bool, Saved] = {}  #: of the main screen, and of the alternate one
        self.lines_drawn = (False, False)  #: whether G0 and G1 are the line-drawing set
        self._last = ""
        self.grid = self._empty(self.lines)
        self.hidden = self._empty(self.lines)

    def reset_softly(self) -> None:
        self.mode = {mode.DECAWM}
        self.region = Margins(0, self.lines - 1)
        self.cursor.attrs = BLANK
        self.lines_drawn, self.charset = (False, False), 0
        self.saved.pop(self.alternate, None)

    def fit(self, columns: int, rows: int) -> None:
        """Change the size of both screens."""
        shown, hidden = self.saved.get(self.alternate), self.saved.get(not self.alternate)
        self._fit(self.grid, columns, rows, [self.cursor, *([shown.cursor] if shown else [])])
        self._fit(self.hidden, columns, rows, [hidden.cursor] if hidden else [])
        self.columns, self.lines, self.region = columns, rows, Margins(0, rows - 1)

    def _fit(self, grid: list[Row], columns: int, rows: int, cursors: list[Cursor]) -> None:
        """The first of the cursors stays visible, all of them stay with their rows."""
        gone = max(0, cursors[0].y - rows + 1) if cursors else 0
        for cursor in cursors:
            cursor.x = cursor.x if columns == self.columns else min(cursor.x, columns - 1)
            cursor.y = min(max(cursor.y - gone, 0), rows - 1)
        del grid[:gone]
        del grid[rows:]
        for row in grid:
            part(row, columns)
            del row[columns:]
            row += [BLANK] * (columns - len(row))
        grid += [[BLANK] * columns for _ in range(rows - len(grid))]

    # Characters

    def draw(self, data: str) -> None:
        self._last = data[-1:]
        if self.lines_drawn[self.charset]:
            data = data.translate(_LINES)
        for run in NARROW.findall(data):
            if len(run) > 1 or run.isascii():
                self._draw_narrow(run)
            else:
                self._draw_one(run)

    def _draw_narrow(self, text: str) -> None:
        cells = _cells(*style_of(self.cursor.attrs))
        while text:
            self._make_room(1)
            room = self.columns - self.cursor.x
            self._put([cells[char] for char in text[:room]])
            text = text[room:] if mode.DECAWM in self.mode else text[room:][-1:]

    def _draw_one(self, char: str) -> None:
        width = wcwidth(char)
        if width == 0:
            self._combine(char)
        elif 0 < width <= self.columns:
            self._make_room(width)
            cells = _cells(*style_of(self.cursor.attrs))
            self._put([cells[char], cells[""]][:width])

    def _make_room(self, width: int) -> None:
        """Wrap when the row is full, or step back when that is off."""
        if self.cursor.x + width <= self.columns:
            return
        if mode.DECAWM in self.mode:
            self.next_line()
        else:
            self.cursor.x = self.columns - width

    def _put(self, cells: Row) -> None:
        row, begin = self.grid[self.cursor.y], self.cursor.x
        end = begin + len(cells)
        part(row, begin)
        if mode.IRM in self.mode:
            row[begin:begin] = cells
            self._crop(row)
        else:
            part(row, end)
            row[begin:end] = cells
        self.cursor.x = end

    def _combine(self, char: str) -> None:
        """Add to the character before the cursor, which may be a wide one."""
        row, x = self.grid[self.cursor.y], self.cursor.x - 1
        if x > 0 and not row[x].data:
            x -= 1
        if x >= 0 and len(row[x].data) < _MAX_CELL:
            row[x] = row[x]._replace(data=row[x].data + char)

    def _crop(self, row: Row) -> None:
        part(row, self.columns)
        del row[self.columns :]

    def repeat(self, count: int) -> None:
        """Print the last character again; more often than fills a row nobody wants it."""
        self.draw(self._last * min(count or 1, self.columns))

    def restyle(self, parameters: str) -> None:
        """Obey an SGR sequence."""
        self.cursor.attrs = Char(" ", *styled(*style_of(self.cursor.attrs), parameters))

    def choose_charset(self, opening: str, code: str) -> None:
        """Of the character sets only the one that draws lines matters."""
        g0, g1 = self.lines_drawn
        self.lines_drawn = (code == "0", g1) if opening == "(" else (g0, code == "0")

    # Rows

    def _blank(self) -> Char:
        """What is erased has the background that is in force."""
        return Char(" ", "", self.cursor.attrs.bg)

    def _empty(self, count: int) -> list[Row]:
        blank = self._blank()
        return [[blank] * self.columns for _ in range(count)]

    def _remove(self, at: int, count: int) -> None:
        """Remove rows; those below come up, as far as the region goes."""
        end = self.region.bottom + 1
        count = min(count or 1, end - at)
        self.grid[end:end] = self._empty(count)
        del self.grid[at : at + count]

    def _insert(self, at: int, count: int) -> None:
        end = self.region.bottom + 1
        count = min(count or 1, end - at)
        del self.grid[end - count : end]
        self.grid[at:at] = self._empty(count)

    def scroll_up(self, count: int = 1) -> None:
        self._remove(self.region.top, count)

    def scroll_down(self, count: int = 1, *more: int) -> None:
        """With more parameters it is about the mouse."""
        if not more:
            self._insert(self.region.top, count)

    def index(self) -> None:
        self._unfill()
        if self.cursor.y == self.region.bottom:
            self.scroll_up()
        elif self.cursor.y < self.lines - 1:
            self.cursor.y += 1

    def reverse_index(self) -> None:
        self._unfill()
        if self.cursor.y == self.region.top:
            self.scroll_down()
        elif self.cursor.y > 0:
            self.cursor.y -= 1

    def next_line(self) -> None:
        self.carriage_return()
        self.index()

    def insert_lines(self, count: int | None = None) -> None:
        if self.region.top <= self.cursor.y <= self.region.bottom:
            self._insert(self.cursor.y, count or 1)
            self.carriage_return()

    def delete_lines(self, count: int | None = None) -> None:
        if self.region.top <= self.cursor.y <= self.region.bottom:
            self._remove(self.cursor.y, count or 1)
            self.carriage_return()

    # Parts of a row

    def insert_characters(self, count: int | None = None) -> None:
        row, x = self.grid[self.cursor.y], self.cursor.x
        part(row, x)
        row[x:x] = [self._blank()] * min(count or 1, self.columns - x)
        self._crop(row)

    def delete_characters(self, count: int | None = None) -> None:
        row, x = self.grid[self.cursor.y], self.cursor.x
        count = min(count or 1, self.columns - x)
        self._erase(row, x, x + count)
        row += row[x : x + count]
        del row[x : x + count]

    def erase_characters(self, count: int | None = None) -> None:
        begin = self.cursor.x
        self._erase(self.grid[self.cursor.y], begin, min(begin + (count or 1), self.columns))

    def erase_in_line(self, how: int = 0, private: bool = False) -> None:
        begin = self.cursor.x if how == 0 else 0
        end = min(self.cursor.x + 1, self.columns) if how == 1 else self.columns
        if how <= 2:
            self._erase(self.grid[self.cursor.y], begin, end)

    def erase_in_display(self, how: int = 0, *_: object, **__: object) -> None:
        """As pyte does; but 3 erases what is not on the screen."""
        y = self.cursor.y
        begin, end = {0: (y + 1, self.lines), 1: (0, y), 2: (0, self.lines)}.get(how, (0, 0))
        self.grid[begin:end] = self._empty(end - begin)
        if how < 2:
            self.erase_in_line(how)

    def _erase(self, row: Row, begin: int, end: int) -> None:
        part(row, begin)
        part(row, end)
        row[begin:end] = [self._blank()] * (end - begin)

    def alignment_display(self) -> None:
        self.set_margins()
        self.grid = [[BLANK._replace(data="E")] * self.columns for _ in range(self.lines)]

    # The cursor

    def _unfill(self) -> None:
        """What moves the cursor from behind a full row moves it from the last column."""
        self.cursor.x = min(self.cursor.x, self.columns - 1)

    def cursor_up(self, count: int | None = None) -> None:
        self._unfill()
        stop = self.region.top if self.cursor.y >= self.region.top else 0
        self.cursor.y = max(self.cursor.y - (count or 1), stop)

    def cursor_down(self, count: int | None = None) -> None:
        self._unfill()
        stop = self.region.bottom if self.cursor.y <= self.region.bottom else self.lines - 1
        self.cursor.y = min(self.cursor.y + (count or 1), stop)

    def cursor_position(self, line: int | None = None, column: int | None = None) -> None:
        top, bottom = self.region if mode.DECOM in self.mode else (0, self.lines - 1)
        self.cursor.x = min((column or 1) - 1, self.columns - 1)
        self.cursor.y = min(top + (line or 1) - 1, bottom)

    def cursor_to_line(self, line: int | None = None) -> None:
        self.cursor_position(line, self.cursor.x + 1)

    def set_margins(self, top: int | None = None, bottom: int | None = None) -> None:
        first, last = (top or 1) - 1, min(bottom or self.lines, self.lines) - 1
        if first < last or last - first == self.lines - 1:
            self.region = Margins(first, last)
            self.cursor_position()

    def tab(self, count: int = 1) -> None:
        for _ in range(min(count or 1, self.columns)):
            ahead = range(self.cursor.x + 1, self.columns - 1)
            self.cursor.x = next(filter(self.tabstops.__contains__, ahead), self.columns - 1)

    def tab_back(self, count: int = 1) -> None:
        for _ in range(min(count or 1, self.columns)):
            before = range(self.cursor.x - 1, 0, -1)
            self.cursor.x = next(filter(self.tabstops.__contains__, before), 0)

    def save_cursor(self) -> None:
        """Both screens have a place for it, and it stays there."""
        origin = mode.DECOM in self.mode
        cursor = copy.copy(self.cursor)
        self.saved[self.alternate] = Saved(cursor, self.lines_drawn, self.charset, origin)

    def restore_cursor(self) -> None:
        saved = self.saved.get(self.alternate, HOME)
        self._switch(mode.DECOM, saved.origin)
        self.lines_drawn, self.charset = saved.lines, saved.charset
        self.cursor = copy.copy(saved.cursor)

    # Modes

    def _switch(self, number: int, on: bool) -> None:
        (self.mode.add if on else self.mode.discard)(number)

    def ansi_on(self, *numbers: int) -> None:
        for number in numbers:
            self._switch(number, True)

    def ansi_off(self, *numbers: int) -> None:
        for number in numbers:
            self._switch(number, False)

    def private_on(self, *numbers: int) -> None:
        for number in numbers:
            self._switch_private(number, True)

    def private_off(self, *numbers: int) -> None:
        for number in numbers:
            self._switch_private(number, False)

    def _switch_private(self, number: int, on: bool) -> None:
        """Reverse video and a width of 132 columns are none of the emulator's business."""
        if number == 1048:
            self.save_cursor() if on else self.restore_cursor()
        elif number in (47, 1047, 1049):
            if on != self.alternate:
                self._switch_screen(number, on)
        elif number in (6, 7):
            self._switch(number << 5, on)
            if number == 6:
                self.cursor_position()

    def _switch_screen(self, number: int, on: bool) -> None:
        """1049 saves the cursor and clears on entry, 1047 clears on leaving."""
        if number == 1049 and on:
            self.save_cursor()
        if number == 1047 and not on:
            self.erase_in_display(2)
        self.grid, self.hidden = self.hidden, self.grid
        self.alternate = on
        if number == 1049 and on:
            self.erase_in_display(2)
        elif number == 1049:
            self.restore_cursor()
