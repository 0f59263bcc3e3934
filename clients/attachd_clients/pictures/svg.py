"""A picture as SVG, drawn by hand: each run of cells stands at its exact place.

Source: https://www.w3.org/TR/SVG11/text.html (``textLength`` holds a run to its columns,
whatever font the viewer has), https://www.w3.org/TR/xml/#charsets.
"""

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from attachd_clients.pictures.cells import Picture, Run
from attachd_clients.pictures.colours import BACKGROUND
from attachd_clients.pictures.looks import Look

#: Pixels. A monospaced font's characters are about 0.6 of its size wide.
_FONT, _WIDTH, _HEIGHT, _BASE, _EDGE = 14, 8.4, 17, 13, 12

_FAMILY = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"

#: What XML 1.0 does not take, and control characters, which it does not want.
_FORBIDDEN = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(picture: Picture, title: str = "") -> str:
    """Return the whole document; ``title`` is for those who cannot see it, and for mice."""
    width = _number(picture.size.columns * _WIDTH + 2 * _EDGE)
    height = picture.size.rows * _HEIGHT + 2 * _EDGE
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
            f' viewBox="0 0 {width} {height}" font-family="{_FAMILY}" font-size="{_FONT}"'
            ' xml:space="preserve">',
            *([f"<title>{_safe(title)}</title>"] if title else []),
            f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND.hex}"/>',
            *(
                line
                for number, row in enumerate(picture.rows)
                for line in (*_grounds(row, number), *_texts(row, number))
            ),
            "</svg>",
            "",
        ]
    )


def _grounds(row: tuple[Run, ...], number: int) -> Iterator[str]:
    for run in row:
        if run.look.background != BACKGROUND:
            yield (
                f'<rect x="{_x(run.column)}" y="{_EDGE + number * _HEIGHT}"'
                f' width="{_number(run.width * _WIDTH)}" height="{_HEIGHT}"'
                f' fill="{run.look.background.hex}" shape-rendering="crispEdges"/>'
            )


def _texts(row: tuple[Run, ...], number: int) -> Iterator[str]:
    y = _EDGE + number * _HEIGHT + _BASE
    for run in row:
        run = run if run.look.is_lined else _stripped(run)
        if run.cells:
            yield (
                f'<text x="{_x(run.column)}" y="{y}"'
                f' textLength="{_number(run.width * _WIDTH)}" lengthAdjust="spacingAndGlyphs"'
                f"{_manners(run.look)}>{_safe(''.join(run.cells))}</text>"
            )


def _stripped(run: Run) -> Run:
    """Return a run without the blanks around it, which nobody sees."""
    seen = [number for number, cell in enumerate(run.cells) if cell != " "]
    if not seen or len(seen) == len(run.cells):
        return run if seen else run._replace(cells=())
    first, last = seen[0], seen[-1]
    cells = run.cells[first : last + 1]
    return run._replace(column=run.column + first, width=len(cells), cells=cells)


def _manners(look: Look) -> str:
    lines = {
        "underline": look.underline, "line-through": look.strike, "overline": look.overline,
    }  # fmt: skip
    wanted = " ".join(name for name, is_there in lines.items() if is_there)
    return (
        f' fill="{look.foreground.hex}"'
        + (' font-weight="bold"' if look.bold else "")
        + (' font-style="italic"' if look.italic else "")
        + (f' text-decoration="{wanted}"' if wanted else "")
    )


def _safe(text: str) -> str:
    """Return text that XML takes: whatever a program has printed, it is only text here."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def _x(column: int) -> str:
    return _number(_EDGE + column * _WIDTH)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
