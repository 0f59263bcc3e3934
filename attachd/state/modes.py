"""Terminal modes: what a program's output has set that outlives it, how to set and undo it.

A latching state snooper, not an emulator: it knows no screen, no cursor and no size. Of the
output only the sequences that leave a mode behind are looked at; all the rest is passed over by
regular expressions at the speed of ``memchr``. An ESC begins a new sequence wherever it comes,
so no sequence needs to know what was before it; the one exception is the ESC of a string's end.

Sources: XTerm Control Sequences (ctlseqs); kitty, "Comprehensive keyboard handling in
terminals". Not tracked: saved cursors (DECSC, mode 1048), 8-bit controls (they are parts of
characters in UTF-8), G2 and G3, pointer shapes, hyperlinks. Controls inside a CSI sequence are
ignored.
"""

import functools
import re
from collections.abc import Iterable

#: A longer sequence is passed over. xterm's and VTE's limits for titles are of this size; what
#: is longer (images, the clipboard) sets no mode.
MAX_SEQUENCE = 4096

#: Nobody sees more of a title.
MAX_TITLE = 256

#: xterm keeps 10 titles, kitty 8 keyboard modes and others 16; more is a program gone wild.
MAX_DEPTH = 16

#: Modes and colours that are remembered: the 256 of the palette, and as many others.
MAX_LATCHES = 512

_MAX_NUMBER = 65535  #: xterm clamps parameters to it
_MAX_VALUE = 64  #: of a colour; the longest in use is rgba:ffff/ffff/ffff/ffff

_ON_BY_DEFAULT = {2, 7, 8, 25}  #: not VT52, autowrap, key repeat, cursor shown
_SCREENS = {47, 1047, 1049}
_UNTRACKED = {0, 1048}  #: 1048 saves and restores the cursor

# The grammar. A CSI sequence may contain controls; CAN, SUB and ESC end any sequence.
_INSIDE = rb"[\x00-\x17\x19\x1c-?\x7f]*+"
_PARAMETERS = rb"[\x00-\x17\x19\x1c-\x1f!0-?\x7f]*+"
_STRING = rb"(?:\][^\x07\x18\x1a\x1b]*+|[PX^_][^\x18\x1a\x1b]*+)"

_UNFINISHED_STRING = re.compile(rb"\x1b" + _STRING)
_UNFINISHED = re.compile(rb"\x1b(?:" + _STRING + rb"|\[" + _INSIDE + rb"|[ -/]*+)")

#: What must be followed one by one. Rejecting another sequence takes one look at its end.
_TRACKED = re.compile(
    rb"\x1b(?:"
    rb"\[(?P<more>>)?+(?P<params>" + _PARAMETERS + rb")"
    rb"(?P<final>(?(more)[mu]|(?: q|[hlprtu])))"
    rb"|(?P<simple>[=>c])"
    rb"|\](?P<osc>0|2|4|1[0-9]|104|11[0-9])(?:;(?P<text>[^\x07\x18\x1a\x1b]*+))?+(?:\x07|\x1b\\)"
    rb")"
)
_CHARSET = re.compile(rb"\x1b[()]([ -/]?+[0-~])")
_SGR = re.compile(rb"\x1b\[([\x00-\x17\x19\x1c-\x1f0-;\x7f]*+)m")
_SHIFT = re.compile(rb"\x1b(?:" + _STRING + rb"|\[" + _INSIDE + rb")|([\x0e\x0f])")

_CONTROLS = bytes([*range(0x20), 0x7F])
_COLOUR = re.compile(rb"[!->@-~][ -~]{0,%d}" % (_MAX_VALUE - 1))  # not "?", which asks

# What sets a mode is kept under what undoes it.
_KEYPAD_OFF, _SHIFT_IN = b"\x1b>", b"\x0f"
_REGION_OFF = b"\x1b7\x1b[r\x1b8"  #: setting the region homes the cursor, so it is saved
_MODIFY_OFF, _STYLE_OFF = b"\x1b[>4m", b"\x1b[0 q"

#: What DECSTR resets in xterm (charproc.c, ReallyReset) besides SGR and charsets.
_SOFTLY_RESET = [
    *(b"\x1b[?1l", b"\x1b[?6l", b"\x1b[?7h", b"\x1b[?25h", b"\x1b[?45l", b"\x1b[?66l"),
    *(b"\x1b[4l", _KEYPAD_OFF, _REGION_OFF),
]

#: One attribute of an SGR sequence: a number, and what belongs to it after colons or, for the
#: colours 38, 48 and 58, after semicolons.
_ATTRIBUTE = re.compile(
    rb"(?:^|;)((\d*)(?::[\d:]*|(?<=[345]8);(?:5;\d*|2;\d*;\d*;\d*))?)(?=;|$)"
)
_MAX_ATTRIBUTE = 107

#: Attributes that replace each other, under one number; the others have their own.
_SLOT = (
    {6: 5, 20: 3, 21: 4, 52: 51, 74: 73}
    | dict.fromkeys(range(11, 20), 10)
    | dict.fromkeys([*range(30, 38), *range(90, 98)], 38)
    | dict.fromkeys([*range(40, 48), *range(100, 108)], 48)
    | dict.fromkeys(range(61, 65), 60)
)
#: What ends an attribute, and which; 22 ends 2 as well.
_OFF = {code + 20: code for code in (3, 4, 5, 7, 8, 9)} | (
    {10: 10, 22: 1, 39: 38, 49: 48, 50: 26, 54: 51, 55: 53, 59: 58, 65: 60, 75: 73}
)

#: The keyboard modes of one screen: the first is there without a push, the last one counts.
_Stack = tuple[int, ...]
_PLAIN_KEYS: _Stack = (0,)


class Modes:
    """The modes of one terminal. Equal objects are in the same state."""

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(self) -> None:
        self.pending = b""  #: the sequence that is unfinished at the end of what was fed
        self._reset()

    def _reset(self) -> None:
        self._latches: dict[bytes, bytes] = {}  #: what undoes a mode: what sets it
        self._charsets: dict[bytes, bytes] = {}  #: the same for G0, G1 and the shift
        self._sgr: dict[int, bytes] = {}
        self._screen = 0  #: the mode that switched to the alternate screen
        self._keyboards = [_PLAIN_KEYS, _PLAIN_KEYS]  #: of the main and the alternate screen
        self._title: bytes | None = None  #: None is the title from before us
        self._titles: list[bytes | None] = []  #: pushed ones

    @property
    def alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return self._screen != 0

    @property
    def fresh(self) -> bool:
        """Whether nothing differs from a terminal that was just opened."""
        return self == Modes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Modes) and vars(self) == vars(other)

    def copy(self) -> "Modes":
        """Return another object in the same state."""
        copy = Modes()
        copy.pending, copy._title, copy._screen = self.pending, self._title, self._screen
        copy._latches, copy._charsets = self._latches.copy(), self._charsets.copy()
        copy._sgr = self._sgr.copy()
        copy._keyboards, copy._titles = self._keyboards.copy(), self._titles.copy()
        return copy

    # In

    def feed(self, data: bytes) -> None:
        """Take output. However it is cut, the state is the same in the end."""
        data = self.pending + data
        end = _end_of_finished(data)
        self.pending = _bounded(data[end:])
        begin = self._follow(data, end)
        if b"\x1b" in data:
            self._find_sgr(data, begin, end)
            self._find_charset(data, begin, end)
        if b"\x0e" in data or b"\x0f" in data:
            self._find_shift(data, begin, end)

    def _follow(self, data: bytes, end: int) -> int:
        """Follow sequences one by one; return where the last reset of all the others ends."""
        begin = 0
        for match in _TRACKED.finditer(data, 0, end):
            if match.end() - match.start() <= MAX_SEQUENCE and self._obey(match):
                begin = match.end()
        return begin

    def _obey(self, match: re.Match[bytes]) -> bool:
        """Follow one sequence; return True when it resets what is found below, too."""
        if match.lastgroup == "final":
            params = (match["more"] or b"") + match["params"].translate(None, _CONTROLS)
            return self._control(params, match["final"])
        if match.lastgroup != "simple":
            self._command(int(match["osc"]), match["text"] or b"")
        elif match["simple"] == b"c":
            self._reset()
            return True
        else:
            self._latch(_KEYPAD_OFF, b"\x1b=", match["simple"] == b"=")
        return False

    def _control(self, params: bytes, final: bytes) -> bool:
        """Follow a CSI sequence; return True when it resets what is found below, too."""
        prefix = params[:1] if params[:1] in b"!<=>?" else b""
        numbers = _numbers(params[len(prefix) :])
        match prefix + final:
            case b"?h" | b"?l":
                self._set_private(numbers, final == b"h")
            case b"h" | b"l":
                self._set_ansi(numbers, final == b"h")
            case b"<u" | b"=u" | b">u":
                self._set_keyboard(prefix, *numbers[:2])
            case b">m":
                self._modify_keys(*numbers[:2])
            case b" q":
                self._latch(_STYLE_OFF, b"\x1b[%d q" % numbers[0], numbers[0] != 0)
            case b"r":
                self._set_region(*numbers[:2])
            case b"t":
                self._keep_title(*numbers[:3])
            case b"!p":
                self._reset_softly()
                return True
        return False

    def _latch(self, undo: bytes, sets: bytes, on: bool) -> None:
        """Note that a mode was set, or is as it was."""
        known = undo in self._latches or len(self._latches) < MAX_LATCHES
        _put(self._latches, undo, sets, on and known)

    def _set_private(self, numbers: Iterable[int], on: bool) -> None:
        for number in numbers:
            if number in _SCREENS:
                self._screen = (self._screen or number) if on else 0
            elif number not in _UNTRACKED:
                undo, sets = _private(number)
                self._latch(undo, sets, on != (number in _ON_BY_DEFAULT))

    def _set_ansi(self, numbers: Iterable[int], on: bool) -> None:
        for number in numbers:
            if number in (4, 20):
                self._latch(b"\x1b[%dl" % number, b"\x1b[%dh" % number, on)

    def _set_keyboard(self, verb: bytes, value: int, how: int = 1) -> None:
        """Push, pop or set the keyboard mode of the screen that is shown."""
        stack = self._keyboards[self.alternate]
        if verb == b">":
            stack = (*stack, value)[-MAX_DEPTH:]
        elif verb == b"<":
            stack = stack[: -(value or 1)] or _PLAIN_KEYS
        else:
            added = {2: stack[-1] | value, 3: stack[-1] & ~value}
            stack = (*stack[:-1], added.get(how, value))
        self._keyboards[self.alternate] = stack

    def _modify_keys(self, resource: int, value: int = 0) -> None:
        if resource == 4:
            self._latch(_MODIFY_OFF, b"\x1b[>4;%dm" % value, value != 0)

    def _set_region(self, top: int, bottom: int = 0) -> None:
        whole = top <= 1 and not bottom
        if not bottom or bottom > max(top, 1):  # terminals ignore all others
            self._latch(_REGION_OFF, b"\x1b[%d;%dr" % (top or 1, bottom), not whole)

    def _keep_title(self, verb: int, which: int = 0, slot: int = 0) -> None:
        """Push or pop the title; the icon's name goes with it."""
        if which > 2 or slot:
            return
        if verb == 22:
            self._titles = [*self._titles, self._title][-MAX_DEPTH:]
        elif verb == 23 and self._titles:
            self._title = self._titles.pop()

    def _reset_softly(self) -> None:
        self._sgr.clear()
        self._charsets.clear()
        for undo in _SOFTLY_RESET:
            self._latches.pop(undo, None)

    def _command(self, number: int, text: bytes) -> None:
        """Follow an OSC sequence: titles and colours."""
        fields = text.split(b";")
        if number in (0, 2):
            self._title = text[:MAX_TITLE].decode("utf-8", "ignore").encode()
        elif number == 4:
            for index, value in zip(fields[::2], fields[1::2], strict=False):
                if index.isdigit() and len(index) <= 3:
                    self._set_colour(b"104;%d" % int(index), b"4;%d;" % int(index), value)
        elif number == 104:
            self._reset_palette(fields)
        elif number < 20:
            for one, value in zip(range(number, 20), fields, strict=False):
                self._set_colour(b"%d" % (100 + one), b"%d;" % one, value)
        else:
            self._latches.pop(b"\x1b]%d\a" % number, None)

    def _set_colour(self, undo: bytes, sets: bytes, value: bytes) -> None:
        if _COLOUR.fullmatch(value):
            self._latch(b"\x1b]" + undo + b"\a", b"\x1b]" + sets + value + b"\a", True)

    def _reset_palette(self, indexes: list[bytes]) -> None:
        named = {b"\x1b]104;%s\a" % (index.lstrip(b"0") or b"0") for index in indexes if index}
        for undo in [undo for undo in self._latches if undo.startswith(b"\x1b]104;")]:
            if undo in named or not named:
                del self._latches[undo]

    def _find_sgr(self, data: bytes, begin: int, end: int) -> None:
        """Follow the SGR sequences since the last one that resets everything.

        Of equal ones only the last counts: each sets the same attributes to the same values.
        """
        resets = (data.rfind(reset, begin, end) for reset in (b"\x1b[m", b"\x1b[0m"))
        found = _SGR.findall(data, max(begin, *resets), end)
        for params in reversed(dict.fromkeys(reversed(found))):
            if len(params) + 3 <= MAX_SEQUENCE:
                _follow_sgr(self._sgr, params.translate(None, _CONTROLS))

    def _find_charset(self, data: bytes, begin: int, end: int) -> None:
        """Follow the last designation of G0, and of G1; ncurses writes very many."""
        for opening in (b"\x1b(", b"\x1b)"):
            at = data.rfind(opening, begin, end)
            while at >= 0 and not _CHARSET.match(data, at, end):
                at = data.rfind(opening, begin, at)
            if match := _CHARSET.match(data, at, end) if at >= 0 else None:
                _put(self._charsets, opening + b"B", match[0], match[1] != b"B")

    def _find_shift(self, data: bytes, begin: int, end: int) -> None:
        """Follow the last SO or SI that is not part of a sequence."""
        shift = next(filter(None, reversed(_SHIFT.findall(data, begin, end))), None)
        if shift is not None:
            _put(self._charsets, _SHIFT_IN, b"\x0e", shift == b"\x0e")

    # Out

    def replay(self) -> bytes:
        """Return what brings a fresh terminal into this state; feeding it to Modes() does, too.

        The cursor is somewhere after it, and an unfinished sequence is its end.
        """
        _, hidden = self._stacks()
        if self._screen:
            before = _push_keys(hidden) + b"\x1b[?%dh" % self._screen
        else:
            before = _beside(_push_keys(hidden))
        return before + self.settle() + self.pending

    def settle(self) -> bytes:
        """Return the same for a terminal that shows the right screen, less the unfinished end.

        Of the keyboard modes only those of the screen that is shown: it stays the shown one.
        """
        shown, _ = self._stacks()
        sgr = b"".join(b"\x1b[%sm" % attribute for attribute in self._sgr.values())
        latches = b"".join((*self._latches.values(), *self._charsets.values()))
        return latches + sgr + self._name() + _push_keys(shown)

    def undo(self) -> bytes:
        """Return what gives back a terminal in this state, as far as a program has changed it.

        A title that was set without a push stays: there is no way to ask for the one before.
        The alternate screen is left last, but for the keyboard modes that lie below it.
        """
        shown, hidden = self._stacks()
        words = _abort(self.pending) + b"".join((*reversed(self._latches), *self._charsets))
        words += b"\x1b[0m" if self._sgr else b""
        words += b"\x1b[23;0t" * len(self._titles) + _pop_keys(shown)
        if self._screen:
            return words + b"\x1b[?%dl" % self._screen + _pop_keys(hidden)
        return words + _beside(_pop_keys(hidden))

    def _stacks(self) -> tuple[_Stack, _Stack]:
        """Return the keyboard modes of the screen that is shown, and of the other one."""
        main, alternate = self._keyboards
        return (alternate, main) if self.alternate else (main, alternate)

    def _name(self) -> bytes:
        """Return what sets the title, after what was pushed before it."""
        words, now = b"", None
        for title in self._titles:
            words += _set_title(now, title) + b"\x1b[22;0t"
            now = title
        return words + _set_title(now, self._title)


def _put(latches: dict[bytes, bytes], undo: bytes, sets: bytes, on: bool) -> None:
    """Keep what sets a mode, or forget it. The order is that of the last settings."""
    latches.pop(undo, None)
    if on:
        latches[undo] = sets


def _end_of_finished(data: bytes) -> int:
    """Return where the unfinished sequence begins: at the last ESC, if at all.

    A lone ESC at the very end may be half of the end of a string, which then is unfinished too.
    """
    last = data.rfind(b"\x1b")
    if last < 0:
        return len(data)
    if last == len(data) - 1:
        before = data.rfind(b"\x1b", 0, last)
        if before >= 0 and _UNFINISHED_STRING.fullmatch(data, before, last):
            return before
    return last if _UNFINISHED.fullmatch(data, last) else len(data)


def _bounded(sequence: bytes) -> bytes:
    """Return an unfinished sequence, cut so that it is still too long, and ends as it did."""
    if len(sequence) <= MAX_SEQUENCE:
        return sequence
    tail = b"\x1b" if sequence.endswith(b"\x1b") else b""
    return sequence[: len(sequence) - len(tail)][:MAX_SEQUENCE] + tail


def _numbers(params: bytes) -> list[int]:
    """Return the parameters, at least one; an empty one is 0, and what is no number is left out."""
    if params.isdigit():
        return [min(int(params), _MAX_NUMBER)]
    fields = [field for field in params.split(b";") if field.isdigit() or not field]
    return [min(int(field or 0), _MAX_NUMBER) for field in fields] or [0]


@functools.lru_cache(256)
def _private(number: int) -> tuple[bytes, bytes]:
    """Return what undoes a DEC private mode, and what sets it against its default."""
    off, on = b"\x1b[?%dl" % number, b"\x1b[?%dh" % number
    return (on, off) if number in _ON_BY_DEFAULT else (off, on)


def _follow_sgr(sgr: dict[int, bytes], params: bytes) -> None:
    """Follow one SGR sequence, attribute by attribute."""
    for whole, number in _ATTRIBUTE.findall(params):
        code = 24 if whole == b"4:0" else int(number or 0)
        slot = _SLOT.get(code, code)
        if code == 0:
            sgr.clear()
        elif code in _OFF:
            sgr.pop(_OFF[code], None)
            if code == 22:
                sgr.pop(2, None)
        elif code <= _MAX_ATTRIBUTE and len(whole) <= _MAX_VALUE:
            sgr.pop(slot, None)
            sgr[slot] = whole


def _set_title(now: bytes | None, title: bytes | None) -> bytes:
    return b"" if title is None or title == now else b"\x1b]2;" + title + b"\a"


def _push_keys(stack: _Stack) -> bytes:
    first = b"\x1b[=%d;1u" % stack[0] if stack[0] else b""
    return first + b"".join(b"\x1b[>%du" % flags for flags in stack[1:])


def _pop_keys(stack: _Stack) -> bytes:
    pops = b"\x1b[<%du" % (len(stack) - 1) if stack[1:] else b""
    return pops + (b"\x1b[=0;1u" if stack[0] else b"")


def _beside(words: bytes) -> bytes:
    """Return what says ``words`` to the alternate screen while the main one is shown."""
    return b"\x1b[?1049h" + words + b"\x1b[?1049l" if words else b""


def _abort(pending: bytes) -> bytes:
    """Return what ends an unfinished sequence: CAN, and for a string ST, too, which kitty wants."""
    if not pending:
        return b""
    return b"\x18\x1b\\" if _UNFINISHED_STRING.match(pending) else b"\x18"
