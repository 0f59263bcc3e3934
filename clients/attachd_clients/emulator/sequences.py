"""Bytes in, calls of a screen's methods out.

From sequence to sequence by a regular expression, where pyte's parser takes one character at a
time, and prints what it does not know.
"""

import codecs
import functools
import re
from typing import Protocol

import pyte

from attachd_clients.emulator.screen import Screen

#: A longer sequence is passed over, as in `attachd.state.modes`.
MAX_SEQUENCE = 4096

_MAX_NUMBER = 9999  #: as in pyte; more than any side

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


class Parser:
    """Bytes in, calls of a screen's methods out."""

    def __init__(self, screen: Screen) -> None:
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


def _bind(screen: Screen, names: dict[str, str]) -> dict[str, _Obey]:
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
