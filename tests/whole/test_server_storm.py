"""Output while the server is killed again and again: every byte is where it belongs, once.

The long form is ``scripts/storm server``.
"""

import pytest
from torrent import storm

pytestmark = [pytest.mark.runc, pytest.mark.slow]

SEED = 20261125

KILLS = 15


@pytest.mark.parametrize(("terminal", "size"), [(False, 15_000_000), (True, 5_000_000)])
def test_a_storm_of_deaths_is_a_pause_and_nothing_else(shop, terminal, size) -> None:
    """Logs, ring, the exit record with its count of restarts, and clients who come and go."""
    print(f"seed {SEED}")
    told = storm(shop, terminal=terminal, size=size, kills=KILLS, seed=SEED)
    print(told)

    assert told.wrong == []
    assert told.size >= size
    assert told.working + told.starting == KILLS + 1
