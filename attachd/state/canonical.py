"""The line that a terminal in canonical mode is collecting: how long it is, and what is cut.

The kernel gives a program nothing of a line before its end, and keeps at most MAX_LINE bytes
of it: what is typed beyond is thrown away, with nothing but a bell for whoever sits there
(termios(3), "Canonical and noncanonical mode"). The gauge counts along, so that it can be told.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

#: N_TTY_BUF_SIZE less the line's end: a line has at most 4096 bytes with it (termios(3)).
MAX_LINE = 4095


class LineRules(NamedTuple):
    """What of a terminal's settings matters; characters as one byte each, or empty."""

    canonical: bool
    ends: bytes  #: VEOF, VEOL, VEOL2, newline, and carriage return where it becomes one
    drops: bytes  #: VKILL, and VINTR, VQUIT, VSUSP, which flush the line
    erase: bytes  #: VERASE


class LineGauge:
    """The bytes typed since the last newline.

    Nearly always there are few of them; then the terminal's rules do not matter, and nobody
    has to ask for them at each key.
    """

    def __init__(self) -> None:
        self._typed = b""

    def feed(self, data: bytes, ask: Callable[[], LineRules]) -> int | None:
        """Take what is typed; return where in ``data`` a line first grows too long, or None.

        Each line is told once: with the byte that is the first to be thrown away.
        """
        known, typed = len(self._typed), self._typed + data
        if len(typed) <= MAX_LINE:
            self._typed = typed[typed.rfind(b"\n") + 1 :]
            return None
        rules = ask()
        lost, self._typed = _judge(typed, known, rules) if rules.canonical else (None, b"")
        return None if lost is None else lost - known


def _judge(typed: bytes, known: int, rules: LineRules) -> tuple[int | None, bytes]:
    """Return where, from ``known`` on, a line's first byte is lost, and what is still open."""
    special = re.compile(b"[" + re.escape(rules.ends + rules.drops + rules.erase) + b"]")
    length, at, lost = 0, 0, None
    begin = 0  # of the open line
    for match in [*special.finditer(typed), None]:
        stop = match.start() if match else len(typed)
        full = at + MAX_LINE - length
        if lost is None and known <= full < stop:
            lost = full
        length, at = length + stop - at, match.end() if match else stop
        if match and match[0] == rules.erase:
            length = max(0, length - 1)
        elif match:
            length, begin = 0, at
    # Of a line that was told to be too long, no more than shows that it is.
    return lost, typed[begin : begin + MAX_LINE + 1]
