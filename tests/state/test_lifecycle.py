"""The phases, by their own table."""

import itertools

import pytest

from attachd.errors import LifecycleError
from attachd.state.lifecycle import STEPS, Phase, Step, advance, phase_of


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(Phase, Step)))
def test_a_step_leads_where_the_table_says_or_is_refused(phase, step) -> None:
    """And the refusal names both."""
    if step in STEPS[phase]:
        assert advance(phase, step) is STEPS[phase][step]
    else:
        with pytest.raises(LifecycleError, match=f"cannot {step} a container that is {phase}"):
            advance(phase, step)


def test_the_headers_words_tell_the_phase() -> None:
    """The end wins over everything."""
    assert phase_of(0, 0, 0) is Phase.CREATING
    assert phase_of(1, 0, 0) is Phase.CREATED
    assert phase_of(1, 5, 0) is Phase.RUNNING
    assert phase_of(1, 0, 1) is Phase.STOPPED
