"""peers: thousands of hostile connections to one container, and an honest follower beside them.

First come ``--peers`` of all kinds at once (``tests/siege.py`` has them): half-open, one byte a
second, 4 GB announced, deep nesting, frames that are cut or not finished, reports asked for and
output granted that nobody reads, and odd words. Whoever must be let go must be let go in time,
and the server may not take more than ``--memory``. Then the house is filled with clients that
say hello and stay: the last are told that there are too many, an honest one waits until there is
room, and the container ends while it is full. The follower and the log must have every byte that
the container has said, from the same server.

Seen to fail: with True returned from ``Door.enter`` whatever happens, and with a search for the
leaving client among all others in ``Writers.leave``. Meant to notice besides: unread batches and
unfinished frames (return from ``Door.hold``; return BATCH_BYTES from ``_batch_bytes``), reports
that wait (leave out ``_miss_reading``), a peer that is not let go (leave out HELLO_SECONDS), and
output that is lost or doubled (``cursor.offset -= 1`` in ``_next_step``).
"""

import argparse
import json
import random
import resource
import time

from harness import Shop, wait_for
from siege import Besieged, charge, fill

ABOUT = "thousands of hostile connections disturb nobody, and take no more than they may"

#: Of our own descriptors; and of those that come beyond the server's room.
SPARE, BEYOND = 200, 300

#: The follower, and the client that counts.
ALONE = 2


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--peers", type=int, default=10_000, help="at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--memory", type=float, default=600.0,
        help="MB that the server may take (%(default)g)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was as it must be."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (ours, ours))
    peers = min(wish.peers, ours - SPARE)
    print(f"seed {seed}, {peers} peers", flush=True)
    besieged = Besieged(shop)
    print(
        f"before: {besieged.memory:.1f} MB, {besieged.descriptors} descriptors, "
        f"room for {besieged.room}"
    )
    wrong = []
    for number in range(wish.rounds):
        wrong += _charge(besieged, peers, wish.memory, random.Random(seed + number))
        wait_for(lambda: _connected(shop, besieged) == ALONE)
        print(f"afterwards: {besieged.memory:.0f} MB, {besieged.descriptors} descriptors")
    wrong += _fill(shop, besieged, min(besieged.room + BEYOND, ours - SPARE))
    told = besieged.end()
    print(f"the follower had {told.size} bytes")
    wrong += [told.wrong] if told.wrong else []
    print("; ".join(wrong) or "exact, and nobody was disturbed")
    return not wrong


def _connected(shop: Shop, besieged: Besieged) -> int:
    return int(json.loads(shop.ctl("stats", besieged.box))["connected"])


def _charge(besieged: Besieged, peers: int, most: float, chance: random.Random) -> list[str]:
    begun, busy = time.monotonic(), besieged.seconds
    wrong, peak = charge(besieged, peers, chance)
    print(
        f"{peers} of all kinds: {time.monotonic() - begun:.1f} s, of a processor "
        f"{besieged.seconds - busy:.1f} s, {peak:.0f} MB at most",
        flush=True,
    )
    return wrong + ([f"it took {peak:.0f} MB"] if peak > most else [])


def _fill(shop: Shop, besieged: Besieged, count: int) -> list[str]:
    begun, busy = time.monotonic(), besieged.seconds
    crowd = fill(besieged, count)
    print(
        f"{len(crowd)} of {count} were let in: {time.monotonic() - begun:.1f} s, of a processor "
        f"{besieged.seconds - busy:.1f} s, {besieged.memory:.0f} MB",
        flush=True,
    )
    full = count > besieged.room
    wrong = (
        [] if len(crowd) == min(count, besieged.room - 1) else [f"{len(crowd)} were let in"]
    )
    asked = shop.call("attachctl", "stats", besieged.box, check=False).returncode
    wrong += [] if bool(asked) == full else [f"an honest client got {asked}"]
    crowd.close()
    shop.ctl("stats", besieged.box)
    fill(besieged, count)  # stays, and is there when the container ends
    return wrong
