"""Terminals, requirement 4: coming back restores the screen, in a terminal of any size."""

import pytest
from harness import wait_for

pytestmark = pytest.mark.runc

SAME, LARGER, SMALLER = (80, 24), (110, 35), (60, 15)


def start(shop, pane, *command: str, setup: str = "") -> str:
    box = shop.name()
    script = f"{setup}; exec {' '.join(command)}" if setup else f"exec {' '.join(command)}"
    pane.enter(f"attachd run -it {box} -- sh -c '{script}'")
    return box


def come_back(panes, box: str, size: tuple[int, int]):
    pane = panes.open(*size)
    pane.enter(f"attach {box}")
    return pane


def leave(pane) -> list[str]:
    """Return what was on the screen, and its modes; then detach and make room."""
    before = pane.screen
    pane.detach()
    return before


@pytest.mark.parametrize("size", [SAME, LARGER, SMALLER])
def test_vi(shop, panes, size) -> None:
    """The text, the status line, the cursor; and the shell's screen when it ends."""
    pane = panes.open()
    box = start(shop, pane, "vi /tmp/f", setup="seq 100 > /tmp/f")
    pane.wait(lambda rows: rows[-1].startswith("- /tmp/f"))
    pane.type("5jix")
    pane.wait(lambda rows: rows[5] == "x6")
    leave(pane)
    other = come_back(panes, box, size)
    other.wait(lambda rows: rows[:6] == ["1", "2", "3", "4", "5", "x6"])
    wait_for(lambda: other.cursor == (1, 5))
    rows = size[1]
    other.wait(lambda seen: seen[rows - 2] == str(rows - 1))
    other.press("Escape")
    other.wait(lambda seen: seen[-1].startswith("- "))
    other.type("dd")
    other.wait(lambda seen: seen[:6] == ["1", "2", "3", "4", "5", "7"])
    other.enter(":q!")
    other.wait_last(r"\$")
    assert other.modes["alternate_on"] == "0"
    assert f"attach {box}" in other.history


@pytest.mark.parametrize("size", [SAME, LARGER, SMALLER])
def test_less(shop, panes, size) -> None:
    """Goes on where it was."""
    pane = panes.open()
    box = start(shop, pane, "less /tmp/f", setup="seq 200 > /tmp/f")
    pane.wait(lambda rows: rows[0] == "1" and rows[22] == "23")
    pane.type(" ")
    pane.wait(lambda rows: rows[0] == "24" and rows[22] == "46")
    leave(pane)
    other = come_back(panes, box, size)
    if size == SAME:
        other.wait(lambda rows: rows[0] == "24" and rows[22] == "46")
    else:
        other.wait(lambda rows: "24" in rows)
    other.type("q")
    other.wait_last(r"\$")


@pytest.mark.parametrize("size", [SAME, LARGER, SMALLER])
def test_top(shop, panes, size) -> None:
    """A program that draws at every tick."""
    pane = panes.open()
    box = start(shop, pane, "top -d 1")
    pane.wait(lambda rows: rows[0].startswith("Mem:"))
    leave(pane)
    other = come_back(panes, box, size)
    other.wait(lambda rows: rows[0].startswith("Mem:") and any("top -d 1" in r for r in rows))
    other.type("q")
    other.wait_last(r"\$")


@pytest.mark.parametrize("size", [SAME, LARGER, SMALLER])
def test_a_shell_with_a_line_half_typed(shop, panes, size) -> None:
    """The screenful above it, and the line goes on where it was."""
    pane = panes.open()
    box = start(shop, pane, "sh")
    pane.wait_last("/ #")
    pane.enter("seq 5")
    pane.wait_line("5")
    pane.type("echo half-")
    pane.wait_last("/ # echo half-")
    before = leave(pane)
    other = come_back(panes, box, size)
    other.wait_last("/ # echo half-")
    lines = [row for row in before if row][1:]  # but for the command that started it
    assert [row for row in other.screen if row][-3:] == lines[-3:]
    other.type("typed")
    other.press("Enter")
    other.wait_line("half-typed")
    other.detach()


def test_a_full_screen_in_colours_is_the_same_to_the_cell(shop, panes) -> None:
    """Attributes, a full last column, wide characters, what stands below the cursor."""
    pane = panes.open()
    draw = (
        r"printf '\\033[2J\\033[H\\033[1;31mred\\033[0m\\033[5;10H\\033[48;5;22m  green  \\033[0m';"
        r"printf '\\033[7;1H%080d' 7; printf '\\033[9;1Hwide: \\343\\203\\206 end';"
        r"printf '\\033[20;5Hbelow\\033[10;3H\\033[4munder'; cat"
    )
    box = shop.name()
    pane.enter(f'attachd run -it {box} -- sh -c "{draw}"')
    pane.wait(lambda rows: "below" in rows[19] and "under" in rows[9])
    before, where = pane.coloured, pane.cursor
    pane.detach()
    other = come_back(panes, box, SAME)
    other.wait(lambda rows: "below" in rows[19] and "under" in rows[9])
    wait_for(lambda: other.cursor == where)

    assert other.coloured == before


def test_modes_are_set_again(shop, panes) -> None:
    """Mouse, cursor keys, keypad, hidden cursor, alternate screen; and undone when we leave."""
    pane = panes.open()
    modes = r"\\033[?1049h\\033[?1000h\\033[?1006h\\033[?1h\\033=\\033[?25l\\033[3;9r"
    box = shop.name()
    pane.enter(f"""attachd run -it {box} -- sh -c "printf '{modes}'; echo set; cat" """)
    pane.wait_line("set")
    before = pane.modes
    assert before["mouse_any_flag"] == before["alternate_on"] == "1"
    pane.detach()
    assert pane.modes["mouse_any_flag"] == pane.modes["alternate_on"] == "0"
    other = come_back(panes, box, SAME)
    wait_for(lambda: other.modes == before)
    other.detach()


def test_what_the_person_had_on_the_screen_is_in_the_scrollback(shop, panes) -> None:
    """Nothing of ours is painted over what was there."""
    box = shop.run("sh", "-c", "echo up; cat", options=("-t", "-i", "-d"))
    pane = panes.open()
    pane.enter("echo precious")
    pane.wait_line("precious")
    pane.enter(f"attach {box}")
    pane.wait_line("up")
    assert "precious" in pane.history
    pane.detach()


def test_questions_of_long_ago_are_not_asked_again(shop, panes) -> None:
    """The terminal's answers would be keys for a program that no longer waits for them."""
    draw = r"printf 'x\\033[6n\\033[c\\033]11;?\\007y'; cat -v"
    box = shop.run("sh", "-c", draw.replace("\\\\", "\\"), options=("-t", "-i", "-d"))
    for options in ("", "--from start "):
        pane = panes.open()
        pane.enter(f"attach {options}{box}")
        pane.wait(lambda rows: any("xy" in row for row in rows))
        pane.enter("quiet")
        pane.wait(lambda rows: sum("quiet" in row for row in rows) >= 2)
        assert not any("[" in row for row in pane.screen if "attach" not in row)
        pane.detach()


def test_an_old_screen_is_drawn_anew_by_its_program(shop, panes) -> None:
    """Drawn more than 256 KiB of output ago: a change of size and back has it redrawn."""
    draw = (
        r"printf '\033[?1049h'; paint() { printf '\033[1;1Hframe'; }; paint; trap paint WINCH;"
        r" i=0; while [ $i -lt 30000 ]; do printf '\033[5;1Hnumber %d' $i; i=$((i+1)); done;"
        r" printf '\033[6;1Hdone'; while :; do sleep 0.1; done"
    )
    box = shop.run("sh", "-c", draw, options=("-t", "-i", "-d"))
    wait_for(lambda: b"done" in shop.output(box))
    pane = come_back(panes, box, SAME)
    pane.wait(lambda rows: rows[0] == "frame" and rows[4] == "number 29999")
    pane.detach()


def test_an_ended_container_shows_its_last_screen(shop, panes) -> None:
    """From its log, and with its code; the terminal is given back."""
    script = "printf '%0120d\\033[?25l\\r\\nbye\\r\\n' 7; exit 4"
    box = shop.run("sh", "-c", script, options=("-t", "-d", "--size", "120x30"))
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    pane = panes.open(120, 30)
    pane.enter(f"attach {box}; echo code $?")
    pane.wait_line("bye")
    assert "0" * 119 + "7" in pane.screen
    pane.wait_line("code 4")
    assert "had ended before: exited with 4" in pane.history
    wait_for(lambda: pane.modes["cursor_flag"] == "1")
