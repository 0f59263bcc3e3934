"""Idle containers: nothing of ours runs while nothing happens, and each costs the same.

The long form is ``scripts/storm idle``. Seen to fail: with ``trio.sleep(1)`` in a loop among the
tasks of ``Shim.run``, and with a limit for the poll in ``keep.watch``.
"""

import burden
import idling
import pytest

pytestmark = [pytest.mark.runc, pytest.mark.slow]

#: In which nothing may wake up.
SECONDS = 10.0

COUNT = 6


def test_no_idle_container_wakes_up(shop) -> None:
    """Whatever it has: a terminal, stdin that is open, a log with an age, attached clients."""
    with idling.one_of_each(shop) as kinds:
        woken = burden.quiet(
            [pid for pair in kinds.values() for pid in pair], SECONDS, idling.SETTLE_SECONDS
        )
    assert {kind: pair for kind, pair in kinds.items() if woken.keys() & set(pair)} == {}


def test_each_of_many_has_as_many_processes_and_descriptors_as_one(shop) -> None:
    """And in memfds as much memory; what a process has of its own is measured by the storm."""
    idling.make(shop, 1, 1)
    first = _counts(shop, shop.made[0])
    idling.make(shop, COUNT - 1, 2)

    assert [_counts(shop, box) for box in shop.made] == [first] * COUNT


def _counts(shop, box: str) -> tuple[int, ...]:
    """Return descriptors of keeper and server and kB in memfds, as soon as that is at rest."""
    pair = burden.pair(shop, box)
    burden.quiet(pair, 0.5, idling.SETTLE_SECONDS)
    return (*map(burden.descriptors, pair), burden.files_in_memory(pair))
