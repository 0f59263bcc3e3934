"""The screen of a program, rebuilt from its output, and painted on a fresh terminal.

Pure: bytes in, bytes out. It answers no questions, keeps no scrollback, and of the modes knows
only what moves characters about; the rest is `attachd/state/modes.py`'s.

pyte gives the cursor, the tabs and the names of the sequences. Three things are done otherwise
here. The parser goes from sequence to sequence by a regular expression, where pyte's takes one
character at a time and prints what it does not know. A row is a list of cells, so that all the
editing of rows is the editing of lists. And a style is kept as the SGR parameters that make it,
since pyte's names know no palette, no faint and no curly underline.

Where terminals differ, xterm is followed, except that erasing to the end of a full line leaves
its last character alone, as in tmux and Alacritty.
"""

import codecs
import copy
import functools
import itertools
import re
from typing import NamedTuple, Protocol

import pyte
from pyte import modes as mode
from pyte.charsets import VT100_MAP
from pyte.screens import Char, Cursor, Margins, wcwidth

from attachd.state.sizes import MAX_SIDE

#: A program can give its terminal any size; no window has more characters than this.
MAX_CELLS = 1_000_000

#: A longer sequence is passed over, as in `modes.py`.
MAX_SEQUENCE = 4096

_MAX_NUMBER = 9999  #: as in pyte; more than any side
_MAX_ATTRIBUTE = 40  #: the longest in use is 58:2::255:255:255
_MAX_CELL = 16  #: code points in one cell; tmux keeps 21 bytes

# A sequence may contain controls, which come before it; CAN, SUB and ESC end any.
_PARAMETERS = r"[\x00-\x17\x19\x1c-?\x7f]*+"
_STRING = r"(?:\][^\x07\x18\x1a\x1b]*+|[PX^_][^\x18\x1a\x1b]*+)"
_UNFINISHED = re.compile(rf"\x1b(?:{_STRING}|\[{_PARAMETERS}|[ -/]*+)")
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]++)"
    r"|(?P<control>[\x07-\x0f])"
    rf"|\x1b(?:\[(?P<parameters>{_PARAMETERS})(?P<final>[@-~])"
    rf"|(?P<string>{_STRING})\x07?|(?P<plain>[ -/]?[0-Z\\^-~]))"
    rf"|\x1b(?:\[{_PARAMETERS}|[ -/]*+)"  # broken off
)
_PARTS = re.compile(r"([<-?]?)([\d;]*)([ -/]*)")

#: What is surely one column wide: Latin, Greek, Cyrillic, lines and blocks.
_NARROW = re.compile("[ -~\xa0-\xac\xae-\u02ff\u0370-\u0482\u2500-\u25fc]+|.", re.DOTALL)

#: The letters of the line-drawing set; pyte's table has more, for other terminals.
_LINES = {code: VT100_MAP[code] for code in range(0x5F, 0x7F)}

# Less the questions "c" and "n", which nobody answers.
_CSI = {key: name for key, name in pyte.ByteStream.csi.items() if key not in {"c", "n"}}
_CSI |= {"h": "ansi_on", "l": "ansi_off", "?h": "private_on", "?l": "private_off"}
_CSI |= {"S": "scroll_up", "T": "scroll_down", "b": "repeat", "I": "tab", "Z": "tab_back"}
_CSI |= {"s": "save_cursor", "u": "restore_cursor", "`": "cursor_to_column"}
_CSI |= {"?J": "erase_in_display", "?K": "erase_in_line", "!p": "reset_softly"}
_ESCAPE = pyte.ByteStream.escape | {"E": "next_line", "#8": "alignment_display"}

#: How many parameters are taken, if it is not one.
_TAKES = dict.fromkeys(["h", "l", "?h", "?l"], 99) | dict.fromkeys("HfrT", 2)
_TAKES |= dict.fromkeys(["s", "u", "!p"], 0)

#: One attribute of an SGR sequence, with what belongs to it.
_ATTRIBUTE = re.compile(
    r"(?:^|;)([345]8;5;\d*|[345]8;2;\d*;\d*;\d*|(?:\d+:[\d:]*)|\d*)(?=;|$)"
)
#: Attributes that replace each other have one slot, which is what orders them, too.
_SLOTS = (
    {code: code for code in (1, 2, 3, 4, 5, 7, 8, 9, 38, 48, 53, 58)}
    | {6: 5, 21: 4}
    | dict.fromkeys([*range(30, 38), *range(90, 98)], 38)
    | dict.fromkeys([*range(40, 48), *range(100, 108)], 48)
)
_ENDS = {code + 20: (code,) for code in (3, 4, 5, 7, 8, 9)} | (
    {22: (1, 2), 39: (38,), 49: (48,), 55: (53,), 59: (58,)}
)
_NO_UNDERLINE = "4:0"
_INCOMPLETE = {"38", "48", "58"}

_BLANK = Char(" ", "", "")

#: One row of cells; the one after a wide character is empty.
_Row = list[Char]


class Emulator:
    """One terminal; at least 1 x 1, and of no more rows than MAX_CELLS allows."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = _Screen(*_bounded(columns, rows))
        self._parser = _Parser(self._screen)

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
        window = _Window(self._screen, max(1, columns), max(1, rows))
        return window.paint().encode()

    def cursor(self, columns: int, rows: int) -> bytes:
        """Return what puts the cursor in its place on the painted terminal.

        For when the program's modes are set there: the origin may not be at the top. After a
        full row the next character wraps, as it would have. The first bytes of an unfinished
        character come last.
        """
        window = _Window(self._screen, max(1, columns), max(1, rows))
        return window.settle().encode() + self._parser.unfinished_character


def _bounded(columns: int, rows: int) -> tuple[int, int]:
    columns = min(max(columns, 1), MAX_SIDE)
    return columns, min(max(rows, 1), MAX_CELLS // columns, MAX_SIDE)


# In


class _Parser:
    """Bytes in, calls of a screen's methods out."""

    def __init__(self, screen: "_Screen") -> None:
        self._screen = screen
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._controls = _bind(screen, pyte.ByteStream.basic)
        self._escapes = _bind(screen, _ESCAPE)
        self._sequences = _bind(screen, _CSI)

    @property
    def unfinished_character(self) -> bytes:
        return self._decoder.getstate()[0]

    def feed(self, data: bytes) -> None:
        text = self._pending + self._decoder.decode(data)
        end = _end_of_finished(text)
        self._pending = _shortened(text[end:])
        draw = self._screen.draw
        for token in _TOKEN.finditer(text, 0, end):
            match token.lastgroup:
                case "text":
                    draw(token[0])
                case "control":
                    self._controls[token[0]]()
                case "final":
                    self._control(token["parameters"], token["final"])
                case "plain":
                    self._escape(token["plain"])

    def _control(self, parameters: str, final: str) -> None:
        """Obey a CSI sequence, and before it the controls that are inside."""
        if not parameters.isprintable():
            for control in re.findall(r"[\x07-\x0f]", parameters):
                self._controls[control]()
            parameters = re.sub(r"[\x00-\x1f\x7f]", "", parameters)
        if len(parameters) > MAX_SEQUENCE:
            return
        if final == "m":
            self._screen.restyle(parameters)
            return
        key, numbers = _numbers(parameters, final)
        if obey := self._sequences.get(key):
            obey(*numbers)

    def _escape(self, code: str) -> None:
        if code[0] in "()":
            self._screen.choose_charset(code[0], code[1:])
        elif obey := self._escapes.get(code):
            obey()


class _Obey(Protocol):
    def __call__(self, *numbers: int) -> None: ...


def _bind(screen: "_Screen", names: dict[str, str]) -> dict[str, _Obey]:
    return {key: getattr(screen, name) for key, name in names.items()}


def _end_of_finished(text: str) -> int:
    """Return where an unfinished sequence begins; an ESC begins one wherever it comes."""
    last = text.rfind("\x1b")
    return last if last >= 0 and _UNFINISHED.fullmatch(text, last) else len(text)


def _shortened(pending: str) -> str:
    """Return the beginning of a sequence, less what is not needed of it: it costs no memory."""
    kept = MAX_SEQUENCE + 9 if pending.startswith("\x1b[") else 2
    return pending[:kept]


@functools.lru_cache(1024)
def _numbers(parameters: str, final: str) -> tuple[str, tuple[int, ...]]:
    """Return a sequence's key and its parameters; an empty one is 0."""
    parts = _PARTS.fullmatch(parameters)
    if not parts:
        return "", ()
    key = parts[1] + parts[3] + final
    fields = parts[2].split(";")[: _TAKES.get(key, 1)]
    return key, tuple(min(int(field or 0), _MAX_NUMBER) for field in fields)


def _code(attribute: str) -> int:
    digits = attribute.replace(":", ";").partition(";")[0]
    return int(digits or 0)


@functools.lru_cache(4096)
def _styled(foreground: str, background: str, parameters: str) -> tuple[str, str]:
    """Return the style after an SGR sequence: all but the background, and the background."""
    slots: dict[int, str] = {}
    written = ";".join(filter(None, (foreground, background, parameters or "0")))
    for attribute in _ATTRIBUTE.findall(written):
        code = _code(attribute)
        if code == 0:
            slots.clear()
        elif attribute == _NO_UNDERLINE or code in _ENDS:
            for slot in _ENDS.get(code, (4,)):
                slots.pop(slot, None)
        elif attribute not in _INCOMPLETE and len(attribute) <= _MAX_ATTRIBUTE:
            slots[_SLOTS.get(code, 0)] = attribute
    slots.pop(0, None)
    background = slots.pop(48, "")
    return ";".join(slots[slot] for slot in sorted(slots)), background


class _Saved(NamedTuple):
    """What ESC 7 keeps."""

    cursor: Cursor
    lines: tuple[bool, bool]
    charset: int
    origin: bool


_HOME = _Saved(Cursor(0, 0, _BLANK), (False, False), 0, False)


class _Cells(dict[str, Char]):
    """The cells of one style: each is made once."""

    def __init__(self, foreground: str, background: str) -> None:
        super().__init__()
        self._style = foreground, background

    def __missing__(self, data: str) -> Char:
        cell = self[data] = Char(data, *self._style)
        return cell


_cells = functools.lru_cache(256)(_Cells)


class _Screen(pyte.Screen):
    """The cells of both screens, the cursor, and what a sequence does to them.

    ``grid`` is what is shown, ``hidden`` the other one; pyte's own buffer is not used. A
    cursor at ``columns`` has filled the row: the next character will wrap.
    """

    def reset(self) -> None:
        self.region = Margins(0, self.lines - 1)  #: the rows that scroll; not pyte's margins
        super().reset()
        self.mode = {mode.DECAWM}
        self.tabstops = set(range(8, MAX_SIDE, 8))
        self.cursor = Cursor(0, 0, _BLANK)
        self.alternate = False
        self.saved: dict[bool, _Saved] = {}  #: of the main screen, and of the alternate one
        self.lines_drawn = (False, False)  #: whether G0 and G1 are the line-drawing set
        self._last = ""
        self.grid = self._empty(self.lines)
        self.hidden = self._empty(self.lines)

    def reset_softly(self) -> None:
        self.mode = {mode.DECAWM}
        self.region = Margins(0, self.lines - 1)
        self.cursor.attrs = _BLANK
        self.lines_drawn, self.charset = (False, False), 0
        self.saved.pop(self.alternate, None)

    def fit(self, columns: int, rows: int) -> None:
        """Change the size of both screens."""
        shown, hidden = self.saved.get(self.alternate), self.saved.get(not self.alternate)
        self._fit(self.grid, columns, rows, [self.cursor, *([shown.cursor] if shown else [])])
        self._fit(self.hidden, columns, rows, [hidden.cursor] if hidden else [])
        self.columns, self.lines, self.region = columns, rows, Margins(0, rows - 1)

    def _fit(self, grid: list[_Row], columns: int, rows: int, cursors: list[Cursor]) -> None:
        """The first of the cursors stays visible, all of them stay with their rows."""
        gone = max(0, cursors[0].y - rows + 1) if cursors else 0
        for cursor in cursors:
            cursor.x = cursor.x if columns == self.columns else min(cursor.x, columns - 1)
            cursor.y = min(max(cursor.y - gone, 0), rows - 1)
        del grid[:gone]
        del grid[rows:]
        for row in grid:
            _part(row, columns)
            del row[columns:]
            row += [_BLANK] * (columns - len(row))
        grid += [[_BLANK] * columns for _ in range(rows - len(grid))]

    # Characters

    def draw(self, data: str) -> None:
        self._last = data[-1:]
        if self.lines_drawn[self.charset]:
            data = data.translate(_LINES)
        for run in _NARROW.findall(data):
            if len(run) > 1 or run.isascii():
                self._draw_narrow(run)
            else:
                self._draw_one(run)

    def _draw_narrow(self, text: str) -> None:
        cells = _cells(*_style(self.cursor.attrs))
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
            cells = _cells(*_style(self.cursor.attrs))
            self._put([cells[char], cells[""]][:width])

    def _make_room(self, width: int) -> None:
        """Wrap when the row is full, or step back when that is off."""
        if self.cursor.x + width <= self.columns:
            return
        if mode.DECAWM in self.mode:
            self.next_line()
        else:
            self.cursor.x = self.columns - width

    def _put(self, cells: _Row) -> None:
        row, begin = self.grid[self.cursor.y], self.cursor.x
        end = begin + len(cells)
        _part(row, begin)
        if mode.IRM in self.mode:
            row[begin:begin] = cells
            self._crop(row)
        else:
            _part(row, end)
            row[begin:end] = cells
        self.cursor.x = end

    def _combine(self, char: str) -> None:
        """Add to the character before the cursor, which may be a wide one."""
        row, x = self.grid[self.cursor.y], self.cursor.x - 1
        if x > 0 and not row[x].data:
            x -= 1
        if x >= 0 and len(row[x].data) < _MAX_CELL:
            row[x] = row[x]._replace(data=row[x].data + char)

    def _crop(self, row: _Row) -> None:
        _part(row, self.columns)
        del row[self.columns :]

    def repeat(self, count: int) -> None:
        """Print the last character again; more often than fills a row nobody wants it."""
        self.draw(self._last * min(count or 1, self.columns))

    def restyle(self, parameters: str) -> None:
        """Obey an SGR sequence."""
        self.cursor.attrs = Char(" ", *_styled(*_style(self.cursor.attrs), parameters))

    def choose_charset(self, opening: str, code: str) -> None:
        """Of the character sets only the one that draws lines matters."""
        g0, g1 = self.lines_drawn
        self.lines_drawn = (code == "0", g1) if opening == "(" else (g0, code == "0")

    # Rows

    def _blank(self) -> Char:
        """What is erased has the background that is in force."""
        return Char(" ", "", self.cursor.attrs.bg)

    def _empty(self, count: int) -> list[_Row]:
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
        _part(row, x)
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

    def _erase(self, row: _Row, begin: int, end: int) -> None:
        _part(row, begin)
        _part(row, end)
        row[begin:end] = [self._blank()] * (end - begin)

    def alignment_display(self) -> None:
        self.set_margins()
        self.grid = [[_BLANK._replace(data="E")] * self.columns for _ in range(self.lines)]

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
        self.saved[self.alternate] = _Saved(cursor, self.lines_drawn, self.charset, origin)

    def restore_cursor(self) -> None:
        saved = self.saved.get(self.alternate, _HOME)
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


def _part(row: _Row, at: int) -> None:
    """Let no wide character stand on both sides of a border: its halves become blanks."""
    if 0 < at < len(row) and not row[at].data:
        row[at - 1 : at + 1] = [cell._replace(data=" ") for cell in row[at - 1 : at + 1]]


# Out


class _Window:
    """What of a screen is visible on a terminal of ``columns`` x ``rows``, as bytes to be."""

    def __init__(self, screen: _Screen, columns: int, rows: int) -> None:
        self._screen = screen
        self._columns = columns
        self._rows = rows

    def paint(self) -> str:
        """Draw all: the hidden main screen first, when there is one."""
        screen = self._screen
        words = f"\x1b[{self._rows};1H" + "\n" * self._rows
        if screen.alternate:
            main = screen.saved.get(False, _HOME).cursor
            words += self._draw(screen.hidden, main) + self._put(screen.hidden, main, main)
            words += "\x1b[?1049h\x1b[m\x1b[2J"
        words += self._draw(screen.grid, screen.cursor)
        if saved := screen.saved.get(screen.alternate):
            words += self._put(screen.grid, saved.cursor, screen.cursor) + "\x1b7"
        return words + self._put(screen.grid, screen.cursor, screen.cursor)

    def settle(self) -> str:
        """Put the cursor in its place on a terminal that has the program's modes."""
        screen = self._screen
        above = screen.region.top if mode.DECOM in screen.mode else 0
        place = self._place(screen.grid, screen.cursor, self._top(screen.cursor) + above)
        if not screen.lines_drawn[screen.charset]:
            return place
        opening = "()"[screen.charset]
        return f"\x1b{opening}B{place}\x1b{opening}0"

    def _top(self, cursor: Cursor) -> int:
        """Return the first visible row: the cursor's must be visible, too."""
        return max(0, cursor.y - self._rows + 1)

    def _draw(self, grid: list[_Row], cursor: Cursor) -> str:
        """Draw the rows, without autowrap: a full last one would scroll."""
        words, top, style = ["\x1b[?7l"], self._top(cursor), _style(_BLANK)
        for number, row in enumerate(grid[top : top + self._rows], 1):
            cells = self._visible(row)
            words += [f"\x1b[{number};1H"] if cells else []
            for its, run in itertools.groupby(cells, _style):
                words += [_sgr(*its)] if its != style else []
                words += (cell.data for cell in run)
                style = its
        return "".join(words) + "\x1b[?7h"

    def _visible(self, row: _Row) -> _Row:
        """Return the cells to be drawn: no half of a wide character, no blanks at the end."""
        cells = row[: self._columns + 1]
        _part(cells, self._columns)
        del cells[self._columns :]
        while cells and cells[-1] == _BLANK:
            cells.pop()
        return cells

    def _put(self, grid: list[_Row], cursor: Cursor, visible: Cursor) -> str:
        """Return what puts the cursor somewhere, and sets its style."""
        return _sgr(*_style(cursor.attrs)) + self._place(grid, cursor, self._top(visible))

    def _place(self, grid: list[_Row], cursor: Cursor, top: int) -> str:
        """Return what puts the cursor somewhere, while its style is in force.

        Behind a full row it gets by printing the last character again.
        """
        line = max(cursor.y - top, 0) + 1
        if not cursor.x == self._screen.columns == self._columns:
            return f"\x1b[{line};{min(cursor.x, self._columns - 1) + 1}H"
        last = [cell for cell in grid[cursor.y][-2:] if cell.data][-1]
        width = 1 if grid[cursor.y][-1].data else 2
        before, style = _style(cursor.attrs), _style(last)
        words = last.data if style == before else _sgr(*style) + last.data + _sgr(*before)
        return f"\x1b[{line};{self._columns - width + 1}H{words}"


def _style(cell: Char) -> tuple[str, str]:
    return cell.fg, cell.bg


@functools.lru_cache(1024)
def _sgr(foreground: str, background: str) -> str:
    """Return what sets this style and no other.

    What has colons gets a sequence of its own: a terminal that knows none ignores all of it.
    """
    attributes = _ATTRIBUTE.findall(";".join(filter(None, (foreground, background))))
    plain = ["0"] + [attribute for attribute in attributes if ":" not in attribute]
    others = [f"\x1b[{attribute}m" for attribute in attributes if ":" in attribute]
    return f"\x1b[{';'.join(plain) if plain[1:] else ''}m" + "".join(others)
