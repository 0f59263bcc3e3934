"""Sizes and durations as people write them: ``10m``, ``7d``."""

from attachd.errors import UsageError

#: As docker reads them (go-units, RAMInBytes): powers of 1024, with or without a b.
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_MAX = 1 << 62


def parse_bytes(text: str) -> int:
    """Return the bytes in ``4096``, ``64k``, ``10mb``; raises UsageError for anything else."""
    plain = text.strip().lower()
    unit = plain.lstrip("0123456789").removesuffix("b")
    digits = plain[: len(plain) - len(plain.lstrip("0123456789"))]
    if not digits.isascii() or not digits or unit not in _BYTES or len(digits) > 18:
        raise UsageError(f"{text!r:.40} is not a size: write 4096, 64k, 10m or 1g")
    return min(int(digits) * _BYTES[unit], _MAX)


def parse_seconds(text: str) -> float:
    """Return the seconds in ``90``, ``1.5h``, ``7d``, ``1h30m``; raises UsageError."""
    total, number = 0.0, ""
    for character in text.strip().lower() + " ":
        if character in "0123456789.":
            number += character
            continue
        unit = character.strip()
        try:
            if number or unit:
                total += float(number) * _SECONDS[unit]
        except (KeyError, ValueError):
            raise UsageError(
                f"{text!r:.40} is not a time: write 90, 30s, 1h30m or 7d"
            ) from None
        number = ""
    if not text.strip() or total > _MAX:
        raise UsageError(f"{text!r:.40} is not a time: write 90, 30s, 1h30m or 7d")
    return total
