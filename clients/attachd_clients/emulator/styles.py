"""Cells and their styles. A style is kept as the SGR parameters that make it.

pyte's names for colours and attributes know no palette, no faint and no curly underline.
Source: XTerm Control Sequences (ctlseqs), "Character Attributes (SGR)".
"""

import functools
import re

from pyte.screens import Char

_MAX_ATTRIBUTE = 40  #: the longest in use is 58:2::255:255:255

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

BLANK = Char(" ", "", "")

#: One row of cells; the one after a wide character is empty.
Row = list[Char]


def part(row: Row, at: int) -> None:
    """Let no wide character stand on both sides of a border: its halves become blanks."""
    if 0 < at < len(row) and not row[at].data:
        row[at - 1 : at + 1] = [cell._replace(data=" ") for cell in row[at - 1 : at + 1]]


def style_of(cell: Char) -> tuple[str, str]:
    return cell.fg, cell.bg


@functools.lru_cache(1024)
def sgr(foreground: str, background: str) -> str:
    """Return what sets this style and no other.

    What has colons gets a sequence of its own: a terminal that knows none ignores all of it.
    """
    attributes = [*filter(None, _ATTRIBUTE.findall(f"{foreground};{background}"))]
    plain = ["0"] + [attribute for attribute in attributes if ":" not in attribute]
    others = [f"\x1b[{attribute}m" for attribute in attributes if ":" in attribute]
    return f"\x1b[{';'.join(plain) if plain[1:] else ''}m" + "".join(others)


def _code(attribute: str) -> int:
    digits = attribute.replace(":", ";").partition(";")[0]
    return int(digits or 0)


@functools.lru_cache(4096)
def styled(foreground: str, background: str, parameters: str) -> tuple[str, str]:
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
