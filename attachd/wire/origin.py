"""Where a client's output starts: the grammar of ``hello.since``."""

from typing import NamedTuple

from attachd.errors import Refused
from attachd.wire.messages import MAX_INT


class Origin(NamedTuple):
    """``start``, ``live``, ``none``, or ``tail`` and ``offset`` with a number."""

    kind: str
    number: int = 0


def parse_origin(text: str) -> Origin:
    """Return the origin that ``text`` names; raise Refused when it names none."""
    kind, colon, digits = text.partition(":")
    if kind in ("start", "live", "none") and not colon:
        return Origin(kind)
    if kind in ("tail", "offset") and digits.isascii() and digits.isdigit():
        if len(digits) < 20 and int(digits) <= MAX_INT:
            return Origin(kind, int(digits))
    raise Refused(
        "bad_request", f"{text!r:.80} is none of start, live, none, tail:LINES, offset:BYTES"
    )
