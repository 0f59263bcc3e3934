"""Exec with a terminal, as a person sees it: a shell beside the container's own program."""

import os
import signal
import subprocess

import pytest
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc

IDLE = ("sleep", "1000")


def box_of(shop) -> str:
    return shop.run(*IDLE)


def test_the_size_is_there_before_the_program_starts(shop, panes) -> None:
    """The first program of all sees the window as it is; and it has a TERM."""
    box, pane = box_of(shop), panes.open(97, 21)
    pane.enter(f"attachctl exec -it {box} sh -c 'stty size; echo $TERM; exit 6'; echo code $?")
    pane.wait_line("code 6")

    assert "21 97" in pane.screen
    assert "xterm" in pane.screen


def test_a_shell_is_left_and_found_again(shop, panes) -> None:
    """The detach keys leave with 123 and say how to come back; the screen is as it was."""
    box, pane = box_of(shop), panes.open(120, 24)
    pane.enter(f"attachctl exec -it --name shell {box} sh; echo code $?")
    pane.wait_last("/ #")
    pane.enter("x=kept; echo before")
    pane.wait_line("before")
    pane.press("C-p", "C-q")
    again = pane.wait_line("attach: detached from .*").partition("come back with: ")[2]
    pane.wait_line("code 123")
    assert again == f"attach --exec shell {box}"
    other = panes.open(100, 30)
    other.enter(f"{again}; echo code $?")
    other.wait_line("before")
    other.enter("echo $x; stty size")
    other.wait_line("kept")
    other.wait_line("30 100")
    other.enter("exit 5")
    other.wait_line("code 5")


def test_two_windows_share_one_and_a_viewer_only_looks(shop, panes) -> None:
    """What one types both see; --read-only types nothing; the window's size follows."""
    box, first, second = box_of(shop), panes.open(80, 24), panes.open(70, 20)
    first.enter(f"attachctl exec -it --name sh {box} sh")
    first.wait_last("/ #")
    second.enter(f"attach --read-only --exec sh {box}; echo code $?")
    second.wait_last("/ #")
    second.type("typed by the viewer")
    first.enter("echo $((6 * 7))")
    second.wait_line("42")
    assert "typed by the viewer" not in first.history
    first.resize(90, 25)
    first.enter("stty size")
    first.wait_line("25 90")
    first.enter("exit 3")
    second.wait_line("code 3")


@pytest.mark.parametrize("keys", ["option", "environment"])
def test_other_keys_may_leave_it(shop, panes, keys) -> None:
    """Then ctrl-p ctrl-q are keys like others, and ctrl-C is always one."""
    box, pane = box_of(shop), panes.open()
    before, option = {
        "option": ("", "--detach-keys ctrl-x,d"),
        "environment": ("ATTACHD_DETACH_KEYS=ctrl-x,d ", ""),
    }[keys]
    pane.enter(f"{before}attachctl exec -it {option} {box} sh; echo code $?")
    pane.wait_last("/ #")
    pane.enter("sleep 1000")
    pane.press("C-p", "C-q", "C-c")
    pane.enter("echo still $((40 + 2))")
    pane.wait_line("still 42")
    pane.press("C-x", "d")
    pane.wait_line("code 123")


def test_it_survives_the_servers_death_under_a_persons_hands(shop, panes) -> None:
    """vi goes on where it was."""
    box, pane = box_of(shop), panes.open()
    pane.enter(f"attachctl exec -it {box} vi /text; echo code $?")
    pane.wait(lambda rows: rows.count("~") > 10)
    pane.type("ibefore ")
    pane.wait_line("before")
    server = wait_for(lambda: shop.server(box))
    os.kill(server, signal.SIGKILL)
    pane.type("and after")
    pane.wait_line("before and after")
    pane.press("Escape")
    pane.wait_line(r"- /text.*")
    pane.enter(":wq")
    pane.wait_line("code 0")


def test_without_a_terminal_of_ours_it_is_a_filter_with_one(shop) -> None:
    """The program has a terminal, we have none: its output comes, ctrl-D is typed at the end."""
    box = box_of(shop)
    words = ("exec", "-it", box, "sh", "-c", "stty size; read x; echo got $x; cat; exit 4")
    done = shop.call("attachctl", *words, input=b"line\n", check=False)

    assert done.returncode == 4
    assert done.stdout.splitlines()[0] in (b"24 80", b"line")  # its echo may come first
    assert b"24 80\r\n" in done.stdout
    assert b"got line" in done.stdout


def test_the_terminal_is_given_back_when_the_container_ends(shop, panes) -> None:
    """Killed with its container: 137, and the window's settings are as before."""
    box, pane = box_of(shop), panes.open()
    before = pane.stty()
    pane.enter(f"attachctl exec -it --name x {box} sh; echo code $?")
    pane.wait_last("/ #")
    shop.ctl("kill", box)
    pane.wait_line(".*code 137")

    assert pane.stty() == before


def test_a_window_that_is_closed_leaves_the_program_alone(shop, panes) -> None:
    """With a terminal it goes on, and is found again by its name."""
    box, pane = box_of(shop), panes.open()
    pane.enter(f"attachctl exec -it --name x {box} sh")
    pane.wait_last("/ #")
    client = pane.process("attachctl")
    os.kill(client, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{client}"))
    done = subprocess.run(
        shop.argv("attach", "--exec", "x", box),
        input=b"exit 8\n",
        capture_output=True,
        timeout=PATIENCE,
        env=os.environ | {"ATTACHD_ROOT": str(shop.root)},
        check=False,
    )

    assert done.returncode == 8
