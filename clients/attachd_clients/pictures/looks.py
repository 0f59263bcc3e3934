"""How a cell looks: the SGR parameters that the emulator keeps, as colours and manners.

Source: XTerm Control Sequences (ctlseqs), "Character Attributes (SGR)"; with colons as ISO
8613-6 has it.
"""

import functools
import re

import attrs

from attachd_clients.pictures.colours import (
    BACKGROUND,
    FOREGROUND,
    Colour,
    faint,
    palette,
)

#: One attribute with what belongs to it, as in `attachd_clients.emulator.styles`.
_ATTRIBUTE = re.compile(r"[345]8;5;\d*|[345]8;2;\d*;\d*;\d*|\d[\d:]*")


@attrs.frozen
class Look:
    """What is written with, and on."""

    foreground: Colour = FOREGROUND
    background: Colour = BACKGROUND
    bold: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    overline: bool = False

    @property
    def is_lined(self) -> bool:
        """A blank is seen, too."""
        return self.underline or self.strike or self.overline

    def reversed(self) -> "Look":
        """Return what is under a cursor."""
        return attrs.evolve(self, foreground=self.background, background=self.foreground)


@functools.lru_cache(4096)
def look_of(foreground: str, background: str, *, reverse: bool = False) -> Look:
    """Return the look of a cell whose style the emulator tells so.

    ``reverse``: the whole screen is shown in reverse.
    """
    found = dict(map(_split, _ATTRIBUTE.findall(foreground)))
    front = _colour(found.get(38, "")) or FOREGROUND
    back = _colour(background) or BACKGROUND
    if (7 in found) != reverse:
        front, back = back, front
    if 2 in found:
        front = faint(front, back)
    return Look(
        foreground=back if 8 in found else front,
        background=back,
        bold=1 in found,
        italic=3 in found,
        underline=4 in found,
        strike=9 in found,
        overline=53 in found,
    )


def _split(attribute: str) -> tuple[int, str]:
    """Return what an attribute is about (38 for any colour of the text), and the attribute."""
    code = int(re.split("[;:]", attribute)[0])
    if 30 <= code <= 37 or 90 <= code <= 97:
        return 38, attribute
    return (4 if code == 21 else code), attribute


def _colour(attribute: str) -> Colour | None:
    """Return the colour that an attribute sets; None for the default."""
    numbers = [int(word or 0) for word in re.split("[;:]", attribute)]
    code = numbers[0]
    if code in (38, 48):
        return _extended(numbers[1:], has_space=attribute.count(":") >= 5)
    if code >= 90:
        return palette(8 + code % 10)
    if code >= 30:
        return palette(code % 10)
    return None


def _extended(numbers: list[int], *, has_space: bool) -> Colour | None:
    """Return the colour of what follows 38 or 48; colons may bring a colour space first."""
    if numbers[:1] == [5] and len(numbers) > 1:
        return palette(min(numbers[1], 255))
    parts = numbers[2:5] if has_space else numbers[1:4]
    if numbers[:1] != [2] or len(parts) < 3:
        return None
    red, green, blue = (min(part, 255) for part in parts)
    return Colour(red, green, blue)
