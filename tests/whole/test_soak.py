"""The soak in short: users, killers and enemies at once, and everything that must be true is.

The long form is ``scripts/soak``, which tells with which faults it was seen to fail.
"""

import pytest
import trio
from soaking.boxes import roles
from soaking.directing import Soak, Wish, plan

SEED = 11

pytestmark = [pytest.mark.runc, pytest.mark.slow]


def test_whatever_is_done_to_containers_every_byte_and_every_end_is_exact(shop) -> None:
    """Random actors on all kinds of containers: nothing is lost, doubled, or left behind."""
    soak = Soak(shop, Wish(seconds=5, seed=SEED, containers=5))
    trio.run(soak.run)
    print(f"seed {SEED}", *soak.log, sep="\n")

    assert soak.wrong == []
    assert soak.counts


def test_the_same_seed_has_the_same_decisions() -> None:
    """What step N does, to whom, and with which chances depends on the seed and N alone."""

    def decisions(seed: int) -> list[tuple[str, int, float]]:
        steps = [plan(seed, number, roles(5)) for number in range(200)]
        return [(step.name, step.box, step.chance.random()) for step in steps]

    assert decisions(1) == decisions(1) != decisions(2)
