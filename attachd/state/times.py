"""Times as text: RFC 3339 with nanoseconds, in UTC."""

from datetime import UTC, datetime

_SECOND = 1_000_000_000


def rfc3339(ns: int) -> str:
    """Return ``2024-05-01T12:00:00.000000001Z`` for nanoseconds since the Unix epoch.

    The format of CRI logs (Kubernetes, "CRI logging format"): RFC 3339, nine digits.
    """
    seconds, rest = divmod(ns, _SECOND)
    whole = datetime.fromtimestamp(seconds, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def parse_rfc3339(text: str) -> int:
    """Return nanoseconds since the epoch; raise ValueError for anything else.

    Takes any number of fraction digits and any UTC offset, as logs of other programs have.
    """
    whole, dot, tail = text.partition(".")
    if not dot:
        return _seconds(text) * _SECOND
    digits = len(tail) - len(tail.lstrip("0123456789"))
    fraction = int(tail[:digits].ljust(9, "0")[:9])
    return _seconds(whole + tail[digits:]) * _SECOND + fraction


def _seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r:.80} has no UTC offset")
    return int(moment.timestamp())
