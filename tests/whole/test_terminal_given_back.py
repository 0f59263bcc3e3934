"""Terminals, requirement 3: however it ends, the terminal is given back as it was."""

import os
import signal
import subprocess

import pytest
from harness import wait_for

pytestmark = pytest.mark.runc

#: Modes that programs set, by what tmux tells of them.
WILD = (
    r"printf '\033[?1049h\033[?25l\033[?1000h\033[?1006h\033[?2004h\033[?1h\033='"
    r"; printf '\033[?7l\033[4h\033[5;10r\033[22;0t\033[31mwild'; cat"
)
TAME = {
    "alternate_on": "0", "cursor_flag": "1", "keypad_cursor_flag": "0", "keypad_flag": "0",
    "mouse_any_flag": "0", "mouse_sgr_flag": "0", "insert_flag": "0", "wrap_flag": "1",
    "scroll_region_upper": "0", "scroll_region_lower": "23",
}  # fmt: skip


@pytest.fixture
def wild(shop, panes):
    """Somebody in front of a program that has set everything there is."""
    pane = panes.open()
    before = pane.stty()
    box = shop.name()
    bundle = shop.bundle("sh", "-c", WILD)
    shop.patch(bundle, lambda spec: spec["process"].update(terminal=True))
    shop.call("attachd", "run", "-i", "--bundle", bundle, box)
    pane.enter(f"attach --from start {box}; echo code $?")
    pane.wait(
        lambda _: pane.modes["alternate_on"] == "1" and pane.modes["mouse_any_flag"] == "1"
    )
    pane.wait(lambda rows: any("wild" in row for row in rows))
    assert pane.stty() != before
    return pane, box, before


def is_tame(pane, before: str) -> bool:
    modes = pane.modes
    return pane.stty() == before and all(modes[mode] == value for mode, value in TAME.items())


def check(pane, before: str, code: int) -> None:
    """The shell's own words are readable, and everything is as it was."""
    pane.wait_line(f"code {code}")
    wait_for(lambda: is_tame(pane, before))
    pane.enter("echo plain")
    pane.wait_line("plain")
    assert "\x1b[31m" not in pane.coloured.splitlines()[-1]


def test_after_detach(wild) -> None:
    """Cooked, no mouse, no alternate screen, no hidden cursor; the line says how to come back."""
    pane, box, before = wild
    pane.press("C-p", "C-q")
    check(pane, before, 123)

    assert f"attach: detached from {box}; come back with: attach {box}" in pane.history


def test_after_the_containers_exit(shop, wild) -> None:
    """With the container's code."""
    pane, box, before = wild
    shop.ctl("kill", box)
    check(pane, before, 137)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGUSR1, 138)],
)
def test_after_a_signal_to_attach(shop, wild, number, code) -> None:
    """The container goes on."""
    pane, box, before = wild
    os.kill(pane.process("/attach"), number)
    check(pane, before, code)

    assert b"running" in shop.ctl("ls")


def test_after_the_shim_was_killed(shop, wild) -> None:
    """Keeper and server: a clear line, no waiting for nobody."""
    pane, box, before = wild
    shop.kill_shim(box)
    check(pane, before, 125)

    assert "its shim does not answer" in " ".join(pane.history.split())


def test_kill_9_of_attach_harms_nobody_else(shop, wild, panes) -> None:
    """The container and other clients notice nothing."""
    pane, box, _ = wild
    other = panes.open()
    other.enter(f"attach {box}")
    other.wait(lambda rows: any("wild" in row for row in rows))
    os.kill(pane.process("/attach"), signal.SIGKILL)
    other.enter("still here")
    other.wait(lambda rows: sum("still here" in row for row in rows) >= 1)
    other.press("C-p", "C-q")
    other.wait_line("attach: detached .*")

    assert b"running" in shop.ctl("ls")


def test_a_terminal_that_vanishes_ends_attach(shop, wild, panes) -> None:
    """Between two reads: no loop, no trace; the container goes on."""
    pane, box, _ = wild
    attach = pane.process("/attach")
    panes.open()
    panes.call("kill-session", "-t", "w1")
    wait_for(lambda: not os.path.exists(f"/proc/{attach}"))

    assert b"running" in shop.ctl("ls")


def test_the_title_is_the_persons_again(shop, panes) -> None:
    """What the program called the window is gone after detaching."""
    pane = panes.open()
    pane.type(r"printf '\033]2;mine\007'")
    pane.press("Enter")
    wait_for(lambda: pane.tell("#{pane_title}") == "mine")
    box = shop.name()
    pane.enter(rf"""attachd run -it {box} -- sh -c 'printf "\033]2;its\007"; cat'""")
    wait_for(lambda: pane.tell("#{pane_title}") == "its")
    pane.detach()
    wait_for(lambda: pane.tell("#{pane_title}") == "mine")


def test_stdout_that_is_a_closed_pipe_ends_attach(shop) -> None:
    """As a shell tells SIGPIPE; no traceback."""
    box = shop.run("sh", "-c", "while :; do echo more; done", options=("-t", "-d"))
    process = shop.popen("attach", "--no-stdin", box)
    process.stdout.close()
    with process.stderr as stderr:
        words = stderr.read()

    assert process.wait(60) == 141
    assert words == b""


def test_sigstop_and_sigcont_leave_it_raw(shop, panes) -> None:
    """A shell's job control resets the terminal; attach takes it again."""
    pane = panes.open()
    box = shop.name()
    pane.enter(f"attachd run -it {box} -- cat")
    attach = pane.process("attachd_clients.attach_cmd")
    wait_for(lambda: "-isig" in flags(pane))
    os.kill(attach, signal.SIGSTOP)
    pane.wait(lambda rows: any("Stopped" in row for row in rows))
    wait_for(lambda: "-isig" not in flags(pane))
    pane.enter("fg")
    wait_for(lambda: "-isig" in flags(pane))
    pane.enter("hello")
    pane.wait(lambda rows: rows.count("hello") >= 2)
    pane.detach()


def flags(pane) -> str:
    done = subprocess.run(
        ["stty", "-F", pane.tty, "-a"], capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode()


def test_without_a_keyboard_it_is_given_back_too(shop, panes) -> None:
    """Our stdin is no terminal, our stdout is."""
    pane = panes.open()
    box = shop.run("sh", "-c", r"printf '\033[?25l\033[?1000hset'; cat", options=("-t", "-d"))
    pane.enter(f"attach --from start {box} </dev/null; echo code $?")
    wait_for(lambda: pane.modes["mouse_any_flag"] == "1")
    shop.ctl("kill", box)
    pane.wait(lambda rows: any("code 137" in row for row in rows))
    wait_for(lambda: pane.modes["mouse_any_flag"] == "0" and pane.modes["cursor_flag"] == "1")


def test_a_terminal_that_says_no_size_is_taken_as_it_is(shop, panes) -> None:
    """0x0 is unknown: the container keeps its size, and the screen is painted at that."""
    box = shop.run("sh", "-c", "echo up; cat", options=("-t", "-i", "-d", "--size", "70x20"))
    pane = panes.open()
    pane.enter(f"stty cols 0 rows 0; attach {box}")
    pane.wait_line("up")
    pane.enter("hello")
    pane.wait(lambda rows: rows.count("hello") >= 2)
    pane.detach()
    state = shop.path(box, "terminal.json")
    assert not state.exists() or "70" in state.read_text()
