"""Moments: what a person may write, and what it means."""

import pytest
from attachd_clients.moments import parse_moment
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.state.times import rfc3339

SECOND = 1_000_000_000
NOW = 1_714_564_800 * SECOND  # 2024-05-01T12:00:00Z


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2024-05-01T12:00:00Z", NOW),
        ("2024-05-01T12:00:00.000000001Z", NOW + 1),
        ("2024-05-01T14:00:00+02:00", NOW),
        ("2024-05-01T12:00:00", NOW),
        ("2024-05-01T12:00:00.25", NOW + SECOND // 4),
        ("2024-05-01T12:00", NOW),
        ("2024-05-01", NOW - 12 * 3600 * SECOND),
        ("1714564800", NOW),
        ("1714564800.000000001", NOW + 1),
        ("1714564800.", NOW),
        ("0", 0),
        ("10m", NOW - 600 * SECOND),
        ("1h30m", NOW - 5400 * SECOND),
        ("2d", NOW - 2 * 86400 * SECOND),
        ("1.5h", NOW - 5400 * SECOND),
        ("250ms", NOW - SECOND // 4),
        ("0s", NOW),
        ("9999w", 0),
        ("2999-01-01", 2**63 - 1),
        ("9" * 30, 2**63 - 1),
    ],
)
def test_a_moment_is_what_a_person_means(text, meant) -> None:
    """A time, a date, seconds, or a duration back from now; never before the epoch."""
    assert parse_moment(text, NOW) == meant


@given(st.integers(0, 4_000_000_000 * SECOND))
def test_what_is_printed_can_be_given_back(moment) -> None:
    """The times in ``logs -t`` and seconds with nine digits, to the nanosecond."""
    assert parse_moment(rfc3339(moment), NOW) == moment
    assert parse_moment(f"{moment // SECOND}.{moment % SECOND:09d}", NOW) == moment


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "10 m", "-10m", "10x", "m", "2024-13-01", "12:00", "1e3", "0x9",
     "10m ago", "٣m", "-5", "2024-05-01T12:00:00.5.5"],
)  # fmt: skip
def test_nonsense_is_told_in_one_line(text) -> None:
    """With what could be said instead."""
    with pytest.raises(UsageError, match="is no time") as caught:
        parse_moment(text, NOW)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_a_usage_error(text) -> None:
    """Nothing else escapes."""
    try:
        assert parse_moment(text, NOW) >= 0
    except UsageError:
        pass
