"""Colours of a terminal as red, green and blue.

The first 16 are VGA's as xterm has them, softened; a terminal's owner chooses them. The others
are fixed: a cube of 6x6x6, and 24 greys (xterm, 256colres.pl).
"""

from typing import NamedTuple


class Colour(NamedTuple):
    """Each part from 0 to 255."""

    red: int
    green: int
    blue: int

    @property
    def hex(self) -> str:
        """As CSS and SVG have it."""
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"


def _of(text: str) -> tuple[Colour, ...]:
    return tuple(Colour(*bytes.fromhex(word)) for word in text.split())


#: What is written with and on where nothing else was asked for.
FOREGROUND, BACKGROUND = _of("d0d0d0 1b1d21")

_FIRST = _of(
    "000000 cd3131 3fae4f c9a227 3b78ff b05fd0 2fa7b8 c7c7c7"
    " 767676 f14c4c 5fd774 f2d45c 6ea1ff d78bea 5fd3e0 ffffff"
)
_STEPS = (0, 95, 135, 175, 215, 255)


def palette(number: int) -> Colour:
    """Return the colour of a number from 0 to 255."""
    if number < 16:
        return _FIRST[number]
    if number < 232:
        red, rest = divmod(number - 16, 36)
        green, blue = divmod(rest, 6)
        return Colour(_STEPS[red], _STEPS[green], _STEPS[blue])
    grey = 8 + 10 * (number - 232)
    return Colour(grey, grey, grey)


def faint(colour: Colour, background: Colour) -> Colour:
    """Return a colour half way to the background."""
    return Colour(*((a + b) // 2 for a, b in zip(colour, background, strict=True)))
