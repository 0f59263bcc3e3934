"""A picture has every cell in its place and with its look, and is whole whatever it shows."""

import builtins
import io
import re
import xml.etree.ElementTree as ET

import pytest
from attachd_clients.emulator import Emulator
from attachd_clients.pictures.cells import Picture, Sight
from attachd_clients.pictures.colours import BACKGROUND, FOREGROUND, Colour, palette
from attachd_clients.pictures.looks import Look, look_of
from attachd_clients.pictures.png import png
from attachd_clients.pictures.svg import svg
from attachd_clients.pictures.text import text
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from attachd.errors import UsageError
from attachd.state.sizes import Size

SIZE = Size(12, 4)
RED = palette(1)

WORDS = [
    "a", "b ", "  ", "żółw", "日本", "e\u0301", "\r\n", "\t", "\x1b[31m", "\x1b[1;4m", "\x1b[7m",
    "\x1b[48;5;99m", "\x1b[m", "\x1b[2;7H", "\x1b[K", "\x1b[?25l", "\x1b[?5h", "<&>\"'",
    "\ufffe", "\uffff", "\x00", "\x85", "\U0001f600", "\U000e0001",
]  # fmt: skip

words = st.lists(st.sampled_from(WORDS), max_size=20).map("".join)


def seen(data: str, size: Size = SIZE) -> Picture:
    sight = Sight(size)
    sight.feed(data.encode())
    return sight.picture()


def first(data: str) -> Look:
    """Return the look of the first cell; the cursor is not on it."""
    return seen(data + "x").rows[0][0].look


# Cells


@given(words)
def test_runs_cover_each_row_from_end_to_end(data) -> None:
    """With every character in its column, as the emulator has it."""
    emulator = Emulator(*SIZE)
    emulator.feed(data.encode())
    picture = seen(data)

    assert list(picture.lines) == emulator.text()
    for row, line in zip(picture.rows, emulator.text(), strict=True):
        assert "".join(cell for run in row for cell in run.cells).rstrip(" ") == line
        at = 0
        for run in row:
            assert (run.column, run.width % len(run.cells)) == (at, 0)
            at += run.width
        assert at == SIZE.columns


def test_cells_that_look_alike_are_one_run() -> None:
    """A wide character stands alone, so that it can be given its two columns."""
    row = seen("\x1b[?25lab\x1b[31mcd日").rows[0]

    assert [(run.column, run.width, run.cells) for run in row] == [
        (0, 2, ("a", "b")), (2, 2, ("c", "d")), (4, 2, ("日",)), (6, 6, (" ",) * 6),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "column", "cell"),
    [("ab", 2, " "), ("ab\x1b[1;1H", 0, "a"), ("日\x1b[1;2H", 0, "日"), ("x" * 12, 11, "x")],
)
def test_the_cursor_is_a_cell_in_reverse(data, column, cell) -> None:
    """Also on either half of a wide character, and behind a full row."""
    (found,) = [run for run in seen(data).rows[0] if run.look.background == FOREGROUND]
    assert (found.column, found.cells, found.look.foreground) == (column, (cell,), BACKGROUND)


def test_a_hidden_cursor_is_not_there() -> None:
    """As full-screen programs have it."""
    assert [run.look for run in seen("ab\x1b[?25l").rows[0]] == [Look()]


def test_a_screen_in_reverse_is_shown_so() -> None:
    """All of it (DECSCNM)."""
    look = seen("\x1b[?25l\x1b[?5h").rows[0][0].look
    assert (look.foreground, look.background) == (BACKGROUND, FOREGROUND)


def test_a_terminal_that_was_resized_has_its_new_size() -> None:
    """The same size again changes nothing."""
    sight = Sight(SIZE, b"\x1b[?25l")
    sight.feed(b"abcdef\r\n\x1b[2;3r")
    sight.resize(SIZE)
    sight.resize(Size(4, 2))
    picture = sight.picture()

    assert picture.size == Size(4, 2)
    assert picture.lines == ("abcd", "")


def test_a_terminal_of_absurd_size_is_no_larger_than_memory() -> None:
    """Its program may have chosen it."""
    picture = seen("x", Size(0, 0))
    assert picture.size == Size(1, 1)
    assert Sight(Size(10_000, 10_000)).picture().size == Size(10_000, 100)


# Looks


@pytest.mark.parametrize(
    ("sgr", "colour"),
    [
        ("31", RED), ("91", palette(9)), ("38;5;208", palette(208)), ("38:5:208", palette(208)),
        ("38;2;1;2;3", Colour(1, 2, 3)), ("38:2:1:2:3", Colour(1, 2, 3)),
        ("38:2::1:2:3", Colour(1, 2, 3)), ("38;2;999;0;0", Colour(255, 0, 0)),
        ("38;5;999", palette(255)), ("39", FOREGROUND), ("31;0", FOREGROUND),
        ("38:2:1", FOREGROUND), ("38:9:1", FOREGROUND), ("38:5", FOREGROUND),
    ],
)  # fmt: skip
def test_each_way_to_say_a_colour_is_known(sgr, colour) -> None:
    """For the text, and for what is behind it; what is incomplete says nothing."""
    assert first(f"\x1b[{sgr}m").foreground == colour
    back = re.sub("^3", "4", re.sub("^9", "10", sgr))
    if colour != FOREGROUND:
        assert first(f"\x1b[{back}m").background == colour


def test_each_manner_is_known() -> None:
    """Alone, together, and undone."""
    assert first("\x1b[1;3;4;9;53m") == Look(
        bold=True, italic=True, underline=True, strike=True, overline=True
    )
    assert first("\x1b[4:3m").underline
    assert first("\x1b[21m").underline
    assert not first("\x1b[4m\x1b[4:0m").underline
    assert first("\x1b[31;7m") == Look(BACKGROUND, RED)
    assert first("\x1b[31;8m").foreground == BACKGROUND
    assert first("\x1b[2m").foreground == Colour(
        *((a + b) // 2 for a, b in zip(FOREGROUND, BACKGROUND, strict=True))
    )
    assert look_of("7", "", reverse=True) == Look()


def test_the_palette_is_xterms() -> None:
    """A cube, and greys; the first sixteen are anybody's."""
    assert palette(16).hex == "#000000"
    assert palette(208).hex == "#ff8700"
    assert palette(231).hex == "#ffffff"
    assert [palette(232).hex, palette(255).hex] == ["#080808", "#eeeeee"]
    assert len({palette(number) for number in range(16)}) == 16


# SVG


def texts(document: str) -> list[ET.Element]:
    return list(ET.fromstring(document).iter("{http://www.w3.org/2000/svg}text"))


@given(words, st.text(max_size=9))
def test_an_svg_is_whole_whatever_it_shows(data, title) -> None:
    """Every character that XML takes is in its place, and no control character is there."""
    document = svg(seen(data), title)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]", document)
    root = ET.fromstring(document)
    assert [root.get(side) for side in ("width", "height")] == ["124.8", "92"]

    rows = [[" "] * SIZE.columns for _ in range(SIZE.rows)]
    for element in texts(document):
        column = round((float(element.get("x")) - 12) / 8.4)
        row = round((float(element.get("y")) - 13 - 12) / 17)
        width = round(float(element.get("textLength")) / 8.4)
        rows[row][column : column + width] = [element.text, *[""] * (width - 1)]
    shown = ["".join(row).rstrip() for row in rows]
    assert shown == [re.sub("[\ufffe\uffff]", "\ufffd", line) for line in seen(data).lines]


def test_an_svg_has_the_looks() -> None:
    """Colours, weight, slope and lines; blanks with a line are seen, others not."""
    document = svg(seen("\x1b[?25l \x1b[1;3;31mx \x1b[m\x1b[4;9;53m \x1b[m\x1b[44m "))
    one, other = texts(document)

    assert (one.text, one.get("x")) == ("x", "20.4")
    assert [one.get(x) for x in ("fill", "font-weight", "font-style")] == [
        RED.hex, "bold", "italic",
    ]  # fmt: skip
    assert (other.text, other.get("text-decoration")) == (
        " ",
        "underline line-through overline",
    )
    (behind,) = re.findall(
        r'<rect x="([\d.]+)" y="12" width="8.4"[^>]*fill="(#\w+)"', document
    )
    assert behind == ("45.6", palette(4).hex)


# PNG and text


@given(words)
def test_a_png_shows_every_cell(data) -> None:
    """Of the size that its cells make, with each cell's background."""
    picture = seen(data)
    with Image.open(io.BytesIO(png(picture))) as image:
        wide, high = (image.width - 48) // 12, (image.height - 48) // 4
        assert image.size == (12 * wide + 48, 4 * high + 48)
        for number, row in enumerate(picture.rows):
            for run in row:
                corner = image.getpixel((24 + run.column * wide, 24 + number * high))
                assert corner == run.look.background or run.look.overline or "x" in data


def test_a_png_has_letters_and_lines() -> None:
    """Where there is something, some pixels differ from what is behind it."""
    pictures = [
        seen(f"\x1b[?25l{data}") for data in ("", "x", "\x1b[1mx", "\x1b[3mx", "\x1b[4mx")
    ]
    found = [png(picture) for picture in pictures]
    assert len(set(found)) == len(found)


def test_without_pillow_one_line_says_what_to_install(monkeypatch) -> None:
    """And an SVG needs nothing."""
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("PIL"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match=r"needs Pillow: pip install 'attachd\[pictures\]'"):
        png(seen("x"))


def test_a_font_that_is_none_is_told(tmp_path, monkeypatch) -> None:
    """By its path; and one that is not installed by its name."""
    (tmp_path / "x.ttf").write_text("none")
    for path in (tmp_path / "x.ttf", tmp_path / "none"):
        with pytest.raises(UsageError, match=f"cannot read the font {path}"):
            png(seen("x"), str(path))
    monkeypatch.setattr("attachd_clients.pictures.png._PACKAGE", "no_such_font")
    with pytest.raises(UsageError, match="needs the font JetBrains Mono"):
        png(seen("x"))


def test_text_ends_with_the_last_row_that_has_something() -> None:
    """An empty screen is nothing."""
    assert text(seen("a \r\n\r\nb  ")) == "a\n\nb\n"
    assert text(seen("")) == ""
