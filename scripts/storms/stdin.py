"""stdin: many megabytes through ``attachctl send`` while servers are killed at random moments."""

import argparse
import hashlib
import random
import time

from harness import Shop
from storming import Fed, storm

ABOUT = "nothing of stdin is lost or doubled while servers are killed"

#: A keeper waits 5 seconds from the eighth death in a row on; so many containers share them.
KILLS_EACH = 10
AT_ONCE = 5


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--kills", type=int, default=100, help="in all (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=100, help="each (%(default)s)")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm in rounds and tell how each went; return whether everything was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    data = random.Random(seed).randbytes(wish.megabytes * 1_000_000)
    digest, left, exact = hashlib.sha256(data).hexdigest(), wish.kills, True
    while left > 0:
        begun = time.monotonic()
        kills = [KILLS_EACH] * min(AT_ONCE, -(-left // KILLS_EACH))
        fed = storm(shop, data, kills, seed + left)
        left -= sum(kills)
        wrong = [told for told in fed if not _is_exact(told, digest)]
        exact &= not wrong
        told = f"{sum(told.kills for told in fed)} kills, {len(fed)} times {len(data)} bytes"
        print(f"{told}, {time.monotonic() - begun:.0f} s: {wrong or 'exact'}", flush=True)
        shop.ctl("rm", "--force", *shop.made)
        shop.made.clear()
    return exact


def _is_exact(told: Fed, digest: str) -> bool:
    return (told.code, told.words, told.record["exit_code"], told.digest) == (
        0,
        b"",
        0,
        digest,
    )
