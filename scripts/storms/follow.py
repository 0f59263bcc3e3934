"""follow: a manager that follows a container into files is killed at random moments.

It keeps a cursor, with the files' sizes in its memo, and saves it after each write: in the end
both files must be exact.
"""

import argparse
import random

from followed import storm
from harness import Shop

ABOUT = "a follower that is killed has every line in its file exactly once"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--kills", type=int, default=200, help="in all (%(default)s)")
    parser.add_argument("--bytes", type=float, default=1e9, help="of output (%(default)g)")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    told = storm(shop, int(wish.bytes), wish.kills, seed)
    speed = told.size / told.seconds / 1e6
    print(
        f"{told.kills} kills, {told.size} bytes, {told.seconds:.0f} s, {speed:.0f} MB/s: "
        f"{told.wrong or 'exact'}"
    )
    return not told.wrong
