"""A picture as the bytes of a file, in the form that its name asks for."""

import os

from attachd.errors import UsageError
from attachd_clients.pictures.cells import Picture
from attachd_clients.pictures.png import png
from attachd_clients.pictures.svg import svg
from attachd_clients.pictures.text import text

FORMS = ("txt", "svg", "png")


def form_of(path: str) -> str:
    """Return what a file of this name is to be; raises UsageError when the name does not say."""
    suffix = os.path.splitext(path)[1].lower().removeprefix(".")
    if suffix not in FORMS:
        raise UsageError(f"{path}: what is it to be? end its name with .svg, .png or .txt")
    return suffix


def draw(picture: Picture, form: str, title: str, font: str | None = None) -> bytes:
    """Return the file; ``font`` is for a PNG. Raises UsageError as `png` does."""
    if form == "svg":
        return svg(picture, title).encode()
    return png(picture, font) if form == "png" else text(picture).encode()
