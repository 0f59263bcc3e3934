"""Real terminals: panes of a private tmux, seen and typed into as a person would."""

import contextlib
import os
import re
import secrets
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness import BIN, PATIENCE, Shop, wait_for

#: What tmux tells of a pane's terminal (tmux(1), FORMATS).
MODES = (
    "alternate_on", "cursor_flag", "keypad_cursor_flag", "keypad_flag", "mouse_any_flag",
    "mouse_sgr_flag", "insert_flag", "origin_flag", "wrap_flag", "scroll_region_upper",
    "scroll_region_lower",
)  # fmt: skip


class Panes:
    """One tmux server of a test's own."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self._name = f"attachd-{os.getpid()}-{secrets.token_hex(3)}"
        self._opened = 0

    def call(self, *words: object) -> str:
        argv = ["tmux", "-L", self._name, "-f", os.devnull, *map(str, words)]
        env = {k: v for k, v in os.environ.items() if not k.startswith("TMUX")}
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
            env=env,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"{argv}: {done.stderr.decode()}")
        return done.stdout.decode()

    def open(self, columns: int = 80, rows: int = 24) -> "Pane":
        """Return a pane with a shell that knows our programs and says ``$``."""
        self._opened += 1
        name = f"w{self._opened}"
        settings = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ATTACHD_ROOT": str(self.shop.root),
            "PS1": "$ ",
            "USER": "tester",
        }
        words = shlex.join(
            [
                "env",
                *(f"{k}={v}" for k, v in settings.items()),
                "bash",
                "--norc",
                "--noprofile",
                "-i",
            ]
        )
        self.call("new-session", "-d", "-s", name, "-x", columns, "-y", rows, words)
        self.call("set", "-t", name, "status", "off")
        self.call("resize-window", "-t", name, "-x", columns, "-y", rows)
        pane = Pane(self, name)
        pane.wait_line(r"\$")
        return pane

    def close(self) -> None:
        with contextlib.suppress(AssertionError):
            self.call("kill-server")


class Pane:
    """One terminal."""

    def __init__(self, panes: Panes, name: str) -> None:
        self._panes = panes
        self._name = name

    def type(self, text: str) -> None:
        """Type text as it is."""
        self._panes.call("send-keys", "-t", self._name, "-l", "--", text)

    def press(self, *keys: str) -> None:
        """Press keys by tmux's names: Enter, C-p, Escape."""
        self._panes.call("send-keys", "-t", self._name, *keys)

    def enter(self, line: str) -> None:
        """Type a line."""
        self.type(line)
        self.press("Enter")

    def detach(self) -> None:
        self.press("C-p", "C-q")
        self.wait_line(r"attach: detached from .*")

    def resize(self, columns: int, rows: int) -> None:
        self._panes.call("resize-window", "-t", self._name, "-x", columns, "-y", rows)

    @property
    def screen(self) -> list[str]:
        """The rows as a person sees them, without blanks at their ends."""
        text = self._panes.call("capture-pane", "-p", "-t", self._name)
        return [row.rstrip() for row in text.split("\n")[:-1]]

    @property
    def coloured(self) -> str:
        """The rows with their attributes."""
        return self._panes.call("capture-pane", "-p", "-e", "-t", self._name)

    @property
    def history(self) -> str:
        """Everything, from the beginning of the scrollback."""
        return self._panes.call("capture-pane", "-p", "-S", "-", "-t", self._name)

    @property
    def cursor(self) -> tuple[int, int]:
        return tuple(map(int, self.tell("#{cursor_x} #{cursor_y}").split()))

    @property
    def modes(self) -> dict[str, str]:
        told = self.tell(" ".join(f"#{{{mode}}}" for mode in MODES))
        return dict(zip(MODES, told.split(" "), strict=True))

    def tell(self, template: str) -> str:
        return self._panes.call("display-message", "-p", "-t", self._name, template).rstrip(
            "\n"
        )

    @property
    def tty(self) -> str:
        return self.tell("#{pane_tty}")

    def stty(self) -> str:
        """The settings of the terminal, from outside."""
        done = subprocess.run(
            ["stty", "-F", self.tty, "-g"], capture_output=True, timeout=PATIENCE, check=True
        )
        return done.stdout.decode()

    def wait(self, what: Callable[[list[str]], object]) -> list[str]:
        """Return the screen that fulfils ``what``; fail with the last one."""
        seen: list[str] = []

        def look() -> bool:
            seen[:] = self.screen
            return bool(what(seen))

        try:
            wait_for(look)
        except AssertionError:
            raise AssertionError("\n".join(["the screen shows:", *seen])) from None
        return seen

    def wait_line(self, pattern: str) -> str:
        """Return the first row that matches wholly, as soon as there is one."""
        rows = self.wait(lambda rows: any(re.fullmatch(pattern, row) for row in rows))
        return next(row for row in rows if re.fullmatch(pattern, row))

    def wait_last(self, pattern: str) -> list[str]:
        """Return the screen when its last row with anything in it matches."""
        return self.wait(
            lambda rows: re.fullmatch(pattern, next(filter(None, rows[::-1]), ""))
        )

    def process(self, program: str) -> int:
        """Return the pid of a program that runs in this pane, once it does."""
        shell = int(self.tell("#{pane_pid}"))

        def find() -> int:
            return next((p for p in _descendants(shell) if _is(p, program)), 0)

        return int(wait_for(find))


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [p for child in map(int, children) for p in (child, *_descendants(child))]


def _is(pid: int, program: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.decode(errors="replace").endswith(program) for word in words)
