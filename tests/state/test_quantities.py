"""Sizes and durations mean what people expect; everything else is refused in one line."""

import pytest

from attachd.errors import UsageError
from attachd.state.quantities import parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("64k", 65536), ("10m", 10 << 20), ("10MB", 10 << 20),
     (" 1G ", 1 << 30), ("2t", 2 << 40), ("7b", 7)],
)  # fmt: skip
def test_sizes(text, size) -> None:
    """Powers of 1024, as docker reads them."""
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "b", "m", "-1", "1.5m", "10 m", "10q", "10bb", "0x10", "\u0663", "9" * 30]
)
def test_what_is_no_size(text) -> None:
    """The line says what to write."""
    with pytest.raises(UsageError, match="is not a size: write 4096"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90", 90), ("30s", 30), ("1.5h", 5400), ("1h30m", 5400), ("7d", 604800),
     ("2W", 1209600)],
)  # fmt: skip
def test_durations(text, seconds) -> None:
    """Units add up."""
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "h", "-5", "1..5", "nan", "inf", "5y", "1e3", "9" * 40]
)
def test_what_is_no_duration(text) -> None:
    """The line says what to write."""
    with pytest.raises(UsageError, match="is not a time: write 90"):
        parse_seconds(text)
