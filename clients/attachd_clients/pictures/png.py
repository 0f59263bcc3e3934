"""A picture as PNG. Pillow draws it, in JetBrains Mono: both come with ``attachd[pictures]``."""

import importlib.resources
import io
from typing import TYPE_CHECKING, NamedTuple

from attachd.errors import UsageError
from attachd_clients.pictures.cells import Picture, Run
from attachd_clients.pictures.colours import BACKGROUND
from attachd_clients.pictures.looks import Look

if TYPE_CHECKING:
    from PIL import ImageDraw, ImageFont

#: Pixels: twice what SVG has, for screens of two pixels to a point.
_FONT, _EDGE = 28, 24

#: Of the font's axis ``wght``.
_REGULAR, _BOLD = 400, 700

_PACKAGE = "fontpkg_jetbrains_mono"
_FACES = {False: "JetBrainsMono[wght].ttf", True: "JetBrainsMono-Italic[wght].ttf"}


class _Cell(NamedTuple):
    """A cell's size, and where the foot of its text is, in pixels."""

    width: int
    height: int
    base: int


def png(picture: Picture, font: str | None = None) -> bytes:
    """Return the file; ``font`` is that of a monospaced font (TrueType, OpenType).

    Raises UsageError when Pillow or the font is not there.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise _needs("Pillow") from None
    fonts = _Fonts(font)
    cell = fonts.cell
    columns, rows = picture.size
    size = (columns * cell.width + 2 * _EDGE, rows * cell.height + 2 * _EDGE)
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(picture.rows):
        for run in row:
            _draw(draw, run, number, fonts)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _draw(draw: "ImageDraw.ImageDraw", run: Run, row: int, fonts: "_Fonts") -> None:
    """Draw a run; each character stands in its own cell, whatever the font says."""
    cell, look = fonts.cell, run.look
    left, top = _EDGE + run.column * cell.width, _EDGE + row * cell.height
    right, bottom = left + run.width * cell.width - 1, top + cell.height - 1
    if look.background != BACKGROUND:
        draw.rectangle((left, top, right, bottom), fill=look.background)
    face = fonts.face(look)
    for number, character in enumerate(run.cells):
        if character != " ":
            place = (left + number * cell.width, top + cell.base)
            draw.text(place, character, fill=look.foreground, font=face, anchor="ls")
    heights = {
        top + cell.base + 4: look.underline,
        top + cell.height // 2: look.strike,
        top: look.overline,
    }
    for height, is_there in heights.items():
        if is_there:
            draw.line((left, height, right, height), fill=look.foreground, width=2)


class _Fonts:
    """The faces of one font, made when they are wanted."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._faces: dict[tuple[bool, bool], ImageFont.FreeTypeFont] = {}
        plain = self.face(Look())
        above, below = plain.getmetrics()
        self.cell = _Cell(round(plain.getlength("M")), above + below, above)

    def face(self, look: Look) -> "ImageFont.FreeTypeFont":
        """Return the face for a look; a font of the user's has only one."""
        key = (look.bold, look.italic) if self._path is None else (False, False)
        if key not in self._faces:
            self._faces[key] = self._load(*key)
        return self._faces[key]

    def _load(self, bold: bool, italic: bool) -> "ImageFont.FreeTypeFont":
        from PIL import ImageFont

        try:
            if self._path is not None:
                return ImageFont.truetype(self._path, _FONT)
            files = importlib.resources.files(_PACKAGE) / "files"
            with (files / _FACES[italic]).open("rb") as file:
                face = ImageFont.truetype(io.BytesIO(file.read()), _FONT)
        except ModuleNotFoundError:
            raise _needs("the font JetBrains Mono") from None
        except OSError as error:
            raise UsageError(f"cannot read the font {self._path}: {error}") from None
        face.set_variation_by_axes([_BOLD if bold else _REGULAR])
        return face


def _needs(what: str) -> UsageError:
    return UsageError(f"a PNG needs {what}: pip install 'attachd[pictures]'; an SVG does not")
