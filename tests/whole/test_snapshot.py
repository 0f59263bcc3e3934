"""``attachctl snapshot``: a picture of a terminal, whatever it shows and whether it still runs."""

import xml.etree.ElementTree as ET

import pytest
from harness import wait_for
from PIL import Image

pytestmark = pytest.mark.runc

DRAW = r"printf '\033[2J\033[H\033[1;31mred\033[m <&> \033[7mżółw\033[m\r\n\033[4;2Hbox'"


def drawn(shop, *options: object, then: str = "read x") -> str:
    box = shop.run(
        "sh", "-c", f"stty -echo; {DRAW}; {then}", options=("-itd", "--size", "40x6", *options)
    )
    wait_for(lambda: b"box" in shop.log(box))
    return box


def refused(shop, *words: object) -> str:
    """Return the one line with which it fails."""
    done = shop.call("attachctl", "snapshot", *words, check=False)
    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode()


def test_a_picture_is_text_unless_something_else_is_wanted(shop) -> None:
    """What a person reads, on our stdout or in a file."""
    box, text = drawn(shop), "red <&> żółw\n\n\n box\n"

    assert shop.ctl("snapshot", box).decode() == text
    shop.ctl("snapshot", box, "-o", shop.scratch / "x.txt")
    assert (shop.scratch / "x.txt").read_text() == text


def test_a_picture_has_the_size_of_now(shop) -> None:
    """Also where nothing was written since it changed."""
    box = drawn(shop)
    shop.ctl("resize", box, "60x9")
    svg = ET.fromstring(shop.ctl("snapshot", box, "--format", "svg"))

    assert float(svg.get("width")) == pytest.approx(60 * 8.4 + 24)


def test_svg_and_png_are_made_by_their_names(shop) -> None:
    """An SVG is text in its place; a PNG has as many pixels as it should."""
    box = drawn(shop)
    for name in ("x.svg", "x.PNG"):
        shop.ctl("snapshot", box, "-o", shop.scratch / name)
    svg = ET.parse(shop.scratch / "x.svg").getroot()

    words = [x.text for x in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert words[:4] == ["red", "<&>", "żółw", "box"]
    with Image.open(shop.scratch / "x.PNG") as image:
        assert image.format == "PNG"
        assert (image.width - 48) % 40 == 0
    assert shop.ctl("snapshot", box, "--format", "png")[:4] == b"\x89PNG"


def test_an_ended_container_still_has_its_last_screen(shop) -> None:
    """From its shim, and from its files when that is gone."""
    box = drawn(shop, "--linger", "2", then="printf '\\033[5;1Hlast'")
    shop.ended(box)
    text = "red <&> żółw\n\n\n box\nlast\n"
    assert shop.ctl("snapshot", box).decode() == text
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    assert shop.ctl("snapshot", box).decode() == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "x.jpg"), "what is it to be? end its name with .svg, .png or .txt"),
        (("-o", "svg"), "what is it to be?"),
        (("-o", "/nowhere/x.svg"), "cannot write /nowhere/x.svg: No such file"),
        (("--format", "gif"), "invalid choice"),
        (("--font", "x.ttf"), "--font is for a PNG"),
        (("-o", "x.png", "--font", "/none.ttf"), "cannot read the font /none.ttf"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(shop, words, told) -> None:
    """Nothing is written then."""
    assert told in refused(shop, drawn(shop), *words)


def test_without_a_terminal_there_is_no_screen(shop) -> None:
    """And without a container nothing at all."""
    box = shop.run("echo", "x")
    assert "has no terminal, and so no screen" in refused(shop, box)
    assert "no container 'none'" in refused(shop, "none")
