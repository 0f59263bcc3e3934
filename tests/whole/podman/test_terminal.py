"""Terminals: ``-t``, in a real one."""

import pytest
from podman_host import IMAGE

pytestmark = pytest.mark.runc

SHELL = "env PS1='in> ' sh"

#: One key: Podman sees its usual two only if each comes in a read of its own, as from a hand.
DETACH = "--detach-keys ctrl-x"


def start(podman, pane) -> str:
    """Run a shell in a container, which says ``in>``, and return the container's name."""
    name = podman.name()
    pane.enter(f"{podman.program} run -it {DETACH} --name {name} {IMAGE} {SHELL}")
    pane.wait_line("in>")
    return name


def left_with(pane, code: int) -> None:
    """Wait for the outer shell, as a person does: what is typed before goes to Podman."""
    pane.wait_last(r"(in> )?\$")
    pane.enter("echo code: $?")
    pane.wait_line(f"code: {code}")


def sees_size(pane, columns: int, rows: int) -> None:
    """Ask for the size until it is that: a program learns of it some time after tmux."""
    size = f"{rows} {columns}"
    pane.enter(f"clear; until test \"$(stty size)\" = '{size}'; do sleep 0.1; done; stty size")
    pane.wait_line(size)


def test_a_terminal_has_its_size_from_the_first(podman, panes) -> None:
    """The program's first question is answered with the size of the terminal it is seen on."""
    pane = panes.open(81, 23)
    pane.enter(f"{podman.program} run --rm -it {IMAGE} sh -c 'stty size; tty'")
    pane.wait_line("23 81")
    pane.wait_line("/dev/pts/0")
    left_with(pane, 0)


def test_the_terminal_follows_the_window(podman, panes) -> None:
    pane = panes.open(80, 24)
    start(podman, pane)
    for columns, rows in ((100, 30), (61, 17)):
        pane.resize(columns, rows)
        sees_size(pane, columns, rows)


def test_who_detaches_can_come_back_to_the_same_shell(podman, panes) -> None:
    """From a terminal of another size, too."""
    pane = panes.open(80, 24)
    name = start(podman, pane)
    pane.enter("kept=treasure; clear; echo kept")
    pane.wait_last("in>")
    pane.press("C-x")
    left_with(pane, 0)
    assert podman.state(name)["Running"]

    second = panes.open(90, 20)
    second.enter(f"{podman.program} attach {name}")
    sees_size(second, 90, 20)
    second.enter("echo $kept")
    second.wait_line("treasure")
    second.enter("exit 5")
    second.wait_last(r"\$")
    assert podman.ended(name) == 5


def test_two_terminals_show_the_same_shell(podman, panes) -> None:
    pane, other = panes.open(), panes.open()
    name = start(podman, pane)
    other.enter(f"{podman.program} attach {name}")
    other.press("Enter")
    other.wait_line("in>")
    other.enter("echo $((40 + 2))")
    for either in (pane, other):
        either.wait_line("42")


def test_keys_reach_the_program_through_its_terminal(podman, panes) -> None:
    """An interrupt ends what runs there, and an end of file the shell itself."""
    pane = panes.open()
    name = start(podman, pane)
    pane.enter("echo ready; cat")
    pane.wait_line("ready")
    pane.enter("echoed")
    pane.wait(lambda rows: rows.count("echoed") == 2)
    pane.press("C-c")
    pane.enter("echo code: $?")
    pane.wait_line("code: 130")
    pane.press("C-d")
    left_with(pane, 0)
    assert podman.ended(name) == 0


def test_an_exec_has_a_terminal_of_its_own(podman, panes) -> None:
    """With the size of the one it is seen on, that it follows, and with its exit code."""
    name = podman.run("sleep", "1000")
    pane = panes.open(85, 25)
    pane.enter(f"{podman.program} exec -it {name} {SHELL}")
    pane.wait_line("in>")
    pane.enter("clear; stty size")
    pane.wait_line("25 85")
    pane.resize(70, 20)
    sees_size(pane, 70, 20)
    pane.enter("exit 6")
    left_with(pane, 6)
    assert podman.state(name)["Running"]


def test_lines_of_a_terminal_end_as_a_terminals_do(podman) -> None:
    """A terminal container's output has its stream and its carriage returns in the log."""
    name = podman.run("sh", "-c", "echo out; echo err >&2", options=("-t",))
    assert podman.ended(name) == 0
    assert podman.call("logs", name).stdout == b"out\r\nerr\r\n"
