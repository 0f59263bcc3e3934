"""Containers that talk all the time, and one follower of all. Long: ``scripts/storm many``."""

import pytest
from talking import storm, talk_of

pytestmark = [pytest.mark.runc, pytest.mark.slow]

COUNT, RATE, SECONDS, SEED = 5, 1_000_000, 2.0, 4


@pytest.mark.parametrize("way", ["follow-all", "library"])
def test_a_follower_of_many_has_each_line_once_and_in_order(shop, way) -> None:
    """Also when it cannot keep up: then the shims' rings and logs wait for it."""
    talk = talk_of(RATE, SECONDS)
    told = storm(shop, COUNT, talk, way, SEED)
    assert told.wrong == []
    assert told.bytes == COUNT * talk.size
