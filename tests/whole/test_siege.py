"""A socket under siege: nobody who is hostile or many keeps the shim from its work.

The long form is ``scripts/storm peers``. Seen to fail: with True returned from ``Door.enter``.
"""

import json
import random
import time

import hostile
import pytest
from harness import PATIENCE
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    rule,
    run_state_machine_as_test,
)
from siege import KINDS, Besieged, Crowd, Peer, charge, fill

from attachd.live.door import UNREAD_BYTES
from attachd.live.speaker import ANSWER_BYTES

pytestmark = pytest.mark.runc

SEED = 7

chances = st.randoms(use_true_random=False)


def test_each_kind_of_hostile_peer_is_let_go_and_disturbs_nobody(shop) -> None:
    """Half-open, one byte a second, 4 GB, deep nesting, unread: the follower misses no byte."""
    print(f"seed {SEED}")
    besieged = Besieged(shop)
    wrong, peak = charge(besieged, 100, random.Random(SEED))
    print(f"{peak:.0f} MB")

    assert wrong == []
    assert besieged.lives
    assert besieged.end().wrong == ""


def test_when_it_is_full_the_container_can_still_end(shop) -> None:
    """Who comes is told so, gets in when there is room, and our own descriptors are left."""
    besieged = Besieged(shop, descriptors=300)
    crowd = fill(besieged, besieged.room + 50)
    assert len(crowd) == besieged.room - 1  # the follower is there, too
    late = shop.call("attachctl", "stats", besieged.box, check=False)
    assert b"too many are connected" in late.stderr
    crowd.close()
    report = json.loads(shop.ctl("stats", besieged.box))
    assert report["server_pid"] == besieged.server
    assert report["clients"][0]["name"] == "honest"
    again = fill(besieged, besieged.room + 50)
    assert len(again) == besieged.room - 1

    assert besieged.end().wrong == ""
    again.close()


@pytest.mark.slow
def test_answers_that_nobody_reads_have_one_bound_for_all(shop) -> None:
    """Each asks for as much as it may; who has most is cut off, and nobody who reads is."""
    besieged = Besieged(shop)
    crowd = Crowd()
    peers = [KINDS["cunning"][0](besieged.path, random.Random(SEED)) for _ in range(300)]
    for peer in peers:
        crowd.add(peer)
    few = UNREAD_BYTES // (
        500 * ANSWER_BYTES
    )  # the socket has some of what each has asked for
    assert few < len(peers)
    deadline = time.monotonic() + PATIENCE
    while len(crowd) > few and time.monotonic() < deadline:
        crowd.act(100)

    assert 0 < len(crowd) <= few
    report = json.loads(shop.ctl("stats", besieged.box))
    assert report["server_pid"] == besieged.server
    assert report["clients"][0]["name"] == "honest"
    crowd.close()
    assert besieged.end().wrong == ""


class Visitors(RuleBasedStateMachine):
    """Peers come, say things in any order, and hang up; each of them is over soon after that."""

    besieged: Besieged
    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd()
        self.all: list[Peer] = []

    @rule(target=peers, chance=chances, odd=st.booleans())
    def one_comes(self, chance: random.Random, odd: bool) -> Peer:
        """It says hello, perhaps an odd one."""
        return self.keep(Peer(self.besieged.path, hostile.hello(chance, odd=odd)))

    @rule(target=peers, data=st.binary(max_size=40))
    def one_comes_and_makes_noise(self, data: bytes) -> Peer:
        return self.keep(Peer(self.besieged.path, data))

    @rule(peer=peers, chance=chances)
    def one_speaks(self, peer: Peer, chance: random.Random) -> None:
        self.crowd.say(peer, hostile.words(chance))
        self.crowd.act(0)

    @rule(peer=peers)
    def one_hangs_up(self, peer: Peer) -> None:
        self.crowd.finish(peer)
        self.crowd.act(0)

    def keep(self, peer: Peer) -> Peer:
        self.all.append(peer)
        self.crowd.add(peer)
        return peer

    def teardown(self) -> None:
        """Everybody hangs up, and is let go."""
        for peer in self.all:
            self.crowd.finish(peer)
        deadline = time.monotonic() + PATIENCE
        while len(self.crowd) and time.monotonic() < deadline:
            self.crowd.act(100)
        left = len(self.crowd)
        self.crowd.close()
        assert left == 0
        assert self.besieged.lives


def test_visitors_who_say_anything_in_any_order_are_answered_or_let_go(shop) -> None:
    """And the follower beside them misses no byte."""
    Visitors.besieged = Besieged(shop)
    run_state_machine_as_test(
        Visitors, settings=settings(max_examples=15, stateful_step_count=25)
    )

    assert Visitors.besieged.end().wrong == ""
