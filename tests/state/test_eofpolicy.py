"""Who may close a container's stdin."""

import pytest

from attachd.state.eofpolicy import POLICIES, STATES, why_not


@pytest.mark.parametrize(
    ("policy", "holds", "allowed"),
    [
        ("any", False, True),
        ("any", True, True),
        ("once", False, True),
        ("once", True, True),
        ("owner", False, False),
        ("owner", True, True),
        ("never", False, False),
        ("never", True, False),
    ],
)
def test_who_may_close_stdin(policy, holds, allowed) -> None:
    """Everybody, the holder of the lease, or nobody; a refusal names the option."""
    if allowed:
        assert why_not(policy, holds=holds) == ""
    else:
        assert f"--stdin-eof {policy}" in why_not(policy, holds=holds)


def test_each_policy_has_a_name_in_a_welcome() -> None:
    """And it is never that of a closed stdin."""
    assert set(STATES) == set(POLICIES)
    assert "closed" not in STATES.values()
    assert len(set(STATES.values())) == len(POLICIES)
