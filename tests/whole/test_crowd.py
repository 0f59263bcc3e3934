"""Many clients of one container that read the same at once. Long: ``scripts/storm crowd``."""

import pytest
from crowding import storm

pytestmark = [pytest.mark.runc, pytest.mark.slow]

CLIENTS, SIZE, SEED = 40, 1_000_000, 3

SMALL = ("--log", "none", "--ring-size", "65536")


def judge(told) -> None:
    """What holds however the clients are treated."""
    assert told.told.wrong == []
    assert told.told.bytes + told.told.missed == CLIENTS * SIZE
    assert told.descriptors[1] <= told.descriptors[0]


@pytest.mark.parametrize("ring", ["2000000", "65536"])
def test_each_of_a_crowd_has_every_byte_from_the_ring_or_the_log(shop, ring) -> None:
    """However many read it, and however slow they are: the log has what the ring forgets."""
    told = storm(shop, CLIENTS, SIZE, ("--ring-size", ring), seed=SEED)
    judge(told)
    assert (told.told.lossless, told.told.gaps) == (CLIENTS, 0)


def test_what_a_crowd_misses_it_is_told_exactly(shop) -> None:
    """Without a log and with a small ring: bytes and gaps together are all that was said."""
    judge(storm(shop, CLIENTS, SIZE, SMALL, seed=SEED))


def test_those_whom_the_container_waits_for_miss_nothing(shop) -> None:
    """Whatever the others miss meanwhile."""
    told = storm(shop, CLIENTS, SIZE, (*SMALL, "--allow-block", "60"), blocking=5, seed=SEED)
    judge(told)
    assert told.told.lossless >= 5
