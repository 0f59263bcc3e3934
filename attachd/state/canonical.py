"""The line that a terminal in canonical mode is collecting: how long it is, and what is cut.

The kernel gives a program nothing of a line before its end, and keeps at most MAX_LINE bytes
of it: what is typed beyond is thrown away, with nothing but a bell for whoever sits there
(termios(3), "Canonical and noncanonical mode"). The gauge counts along, so that it can be told.
"""

import re
from typing import NamedTuple

#: N_TTY_BUF_SIZE less the line's end: a line has at most 4096 bytes with it (termios(3)).
MAX_LINE = 4095


class LineRules(NamedTuple):
    """What of a terminal's settings matters; characters as one byte each, or empty."""

    canonical: bool
    ends: bytes  #: VEOF, VEOL, VEOL2, newline, and carriage return where it becomes one
    drops: bytes  #: VKILL, and VINTR, VQUIT, VSUSP, which flush the line
    erase: bytes  #: VERASE


#: Stands for a byte of the open line that is known to be no special one: 0 never is.
_SOME_BYTE = b"\0"


class LineGauge:
    """The bytes typed since the last newline, all in canonical mode.

    Nearly always there are few of them, and nothing needs to be counted. VWERASE and VLNEXT are
    not followed: they only make a line shorter than it seems.
    """

    def __init__(self) -> None:
        self._typed = b""
        self._told = False

    def feed(self, data: bytes, rules: LineRules) -> int | None:
        """Take what is typed; return where in ``data`` a line first grows too long, or None.

        Each line is told once: with the byte that is the first to be thrown away.
        """
        if not rules.canonical:
            self._typed, self._told = b"", False
            return None
        known, typed = len(self._typed), self._typed + data
        if len(typed) <= MAX_LINE and not self._told:
            self._typed = typed[typed.rfind(b"\n") + 1 :]
            return None
        lost = self._judge(typed, rules)
        return None if lost is None else lost - known

    def _judge(self, typed: bytes, rules: LineRules) -> int | None:
        """Follow the kernel through ``typed``; return where a line first lost a byte."""
        special = re.compile(b"[" + re.escape(rules.ends + rules.drops + rules.erase) + b"]")
        length, at, lost = 0, 0, None
        for match in [*special.finditer(typed), None]:
            stop = match.start() if match else len(typed)
            full = at + MAX_LINE - length
            if full < stop and not self._told:
                self._told = True
                lost = full if lost is None else lost
            length = min(MAX_LINE, length + stop - at)
            if match:
                length, at = self._after(match[0], length, rules), match.end()
        self._typed = _SOME_BYTE * length
        return lost

    def _after(self, special: bytes, length: int, rules: LineRules) -> int:
        """Return how long the line is after a special character."""
        if special == rules.erase:
            return max(0, length - 1)
        self._told = False
        return 0
