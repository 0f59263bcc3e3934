"""RFC 3339, there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.times import parse_rfc3339, rfc3339


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_a_time_survives_its_text(ns) -> None:
    """To the nanosecond."""
    assert parse_rfc3339(rfc3339(ns)) == ns


def test_other_programs_times_are_read() -> None:
    """With an offset, fewer digits, or none."""
    assert rfc3339(1) == "1970-01-01T00:00:00.000000001Z"
    assert parse_rfc3339("1970-01-01T01:00:00.5+01:00") == 500_000_000
    assert parse_rfc3339("1970-01-01T00:00:02Z") == 2_000_000_000
    with pytest.raises(ValueError, match="yesterday"):
        parse_rfc3339("yesterday")


@given(st.text(alphabet="0123456789-:.+TZ ", max_size=32) | st.text(max_size=20))
def test_any_text_is_a_time_or_a_value_error(text) -> None:
    """A broken log line ends in ValueError and in nothing else."""
    try:
        assert isinstance(parse_rfc3339(text), int)
    except ValueError:
        pass


@pytest.mark.parametrize(
    "text", ["2024-05-01", "2024-05-01T12:00:00", "2024-05-01T12:00:00.5"]
)
def test_a_time_without_an_offset_is_refused(text) -> None:
    """RFC 3339 demands one; without it the answer would depend on where we run."""
    with pytest.raises(ValueError, match=text[:10]):
        parse_rfc3339(text)
