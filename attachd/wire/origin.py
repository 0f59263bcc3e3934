"""Where a client's output starts: the grammar of ``hello.since``."""

from typing import NamedTuple

from attachd.errors import Refused
from attachd.wire.messages import MAX_INT


class Origin(NamedTuple):
    """A word, or ``tail``, ``offset`` or ``time`` with a number."""

    kind: str
    number: int = 0


def parse_origin(text: str) -> Origin:
    """Return the origin that ``text`` names; raise Refused when it names none."""
    kind, colon, digits = text.partition(":")
    if kind in ("start", "live", "none", "screen") and not colon:
        return Origin(kind)
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1
    if kind in ("tail", "offset", "time") and 0 <= number <= MAX_INT:
        return Origin(kind, number)
    raise Refused(
        "bad_request",
        f"{text!r:.80} is none of start, live, none, screen, tail:LINES, offset:BYTES, time:NS",
    )
