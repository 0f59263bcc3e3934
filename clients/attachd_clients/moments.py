"""Moments as a person says them: a time, a date, seconds since the epoch, or how long ago.

Pure: what time it is now is an argument. Times without a UTC offset are UTC, as all times that
attachd prints.
"""

import re
from datetime import UTC, datetime

from attachd.errors import UsageError
from attachd.state.times import parse_rfc3339
from attachd.wire.messages import MAX_INT

_SECOND = 1_000_000_000

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
    "d": 86400 * _SECOND,
    "w": 7 * 86400 * _SECOND,
}
_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ns|us|ms|s|m|h|d|w)")
_SECONDS = re.compile(r"([0-9]+)(?:\.([0-9]*))?")


def parse_moment(text: str, now: int) -> int:
    """Return the nanoseconds since the epoch that ``text`` means at ``now``, 0 to MAX_INT.

    It is RFC 3339 (``2024-05-01T12:00:00Z``), a date (its beginning), seconds since the epoch
    (``1714564800.5``), or a duration back from now (``10m``, ``1h30m``, ``2d``). Raises
    UsageError for anything else.
    """
    try:
        return min(max(0, _moment(text, now)), MAX_INT)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r:.80} is no time: say 2024-05-01T12:00:00Z, 2024-05-01, 1714564800 or 10m"
        ) from None


def _moment(text: str, now: int) -> int:
    if seconds := _SECONDS.fullmatch(text):
        return _scaled(seconds[1], seconds[2], _SECOND)
    ago = _duration(text)
    return now - ago if ago is not None else _time(text)


def _duration(text: str) -> int | None:
    """Return the nanoseconds of ``1h30m``; None when it is no duration."""
    if _PART.sub("", text) or not text:
        return None
    parts = _PART.findall(text)
    return sum(_scaled(whole, digits, _UNITS[unit]) for whole, digits, unit in parts)


def _scaled(whole: str, digits: str | None, unit: int) -> int:
    """Return ``whole.digits`` times ``unit``, without floating point's errors."""
    fraction = digits or ""
    return int(whole + fraction) * unit // int(10 ** len(fraction))


def _time(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        return parse_rfc3339(text)
    whole = moment.replace(tzinfo=UTC, microsecond=0)
    _, _, digits = text.partition(".")
    return int(whole.timestamp()) * _SECOND + int(digits.ljust(9, "0")[:9] or 0)
