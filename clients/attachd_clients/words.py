"""Words of ours for a person: on stderr, set off from a program's output where colour is wanted."""

import os
import sys

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def remark(text: str) -> None:
    """Say one line."""
    line = f"attach: {text}"
    print(f"{_DIM}{line}{_PLAIN}" if wants_colour() else line, file=sys.stderr)


def wants_colour() -> bool:
    """Return whether stderr is a terminal that takes colour, and NO_COLOR is not set.

    Source: no-color.org.
    """
    capable = os.environ.get("TERM", "dumb") != "dumb"
    return sys.stderr.isatty() and capable and not os.environ.get("NO_COLOR")
