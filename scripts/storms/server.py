"""server: the server of one container is killed at random moments while much output flows."""

import argparse
import random

from harness import Shop
from torrent import storm

ABOUT = "output is exact, and clients see a pause, while the server is killed"

#: kills and bytes, without a terminal and with one
DEFAULTS = {False: (1000, 1e9), True: (300, 1e8)}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--terminal", action="store_true", help="through a terminal, not pipes"
    )
    parser.add_argument("--kills", type=int, help="in all (1000, with a terminal 300)")
    parser.add_argument("--bytes", type=float, help="of output (1e9, with a terminal 1e8)")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    kills, size = DEFAULTS[wish.terminal]
    told = storm(
        shop,
        terminal=wish.terminal,
        size=int(wish.bytes or size),
        kills=wish.kills or kills,
        seed=seed,
    )
    print(told)
    return not told.wrong
