"""Words of ours for a person: on stderr, set off from a program's output where colour is wanted."""

import os
import select
import sys

PATIENCE_SECONDS = 1.0

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def remark(text: str, *, on_new_line: bool = False) -> None:
    """Say one line; on a new one where the cursor may be anywhere in somebody else's.

    A terminal that takes nothing any more does not keep us: then nothing is said.
    """
    line = f"attach: {text}"
    begin = "\n" if on_new_line else ""
    if select.select([], [2], [], PATIENCE_SECONDS)[1]:
        print(
            f"{begin}{_DIM}{line}{_PLAIN}" if wants_colour() else begin + line, file=sys.stderr
        )


def wants_colour() -> bool:
    """Return whether stderr is a terminal that takes colour, and NO_COLOR is not set.

    Source: no-color.org.
    """
    capable = os.environ.get("TERM", "dumb") != "dumb"
    return sys.stderr.isatty() and capable and not os.environ.get("NO_COLOR")
