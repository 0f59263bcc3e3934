"""A socket under siege: nobody who is hostile or many keeps the shim from its work.

The long form is ``scripts/storm peers``. Seen to fail: see there.
"""

import json
import random

import pytest
from siege import Besieged, charge, fill

pytestmark = pytest.mark.runc

SEED = 7


def test_each_kind_of_hostile_peer_is_let_go_and_disturbs_nobody(shop) -> None:
    """Half-open, one byte a second, 4 GB, deep nesting, unread: the follower misses no byte."""
    print(f"seed {SEED}")
    besieged = Besieged(shop)
    wrong, peak = charge(besieged, 90, random.Random(SEED))
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
