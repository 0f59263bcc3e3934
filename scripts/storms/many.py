"""many: many containers that talk all the time, and one follower of all of them.

Each of ``--containers`` says ``--rate`` bytes a second in numbered lines for ``--seconds``. The
follower (``--way``: ``attachctl follow-all`` into files, or a program on the library) must have
each line exactly once and in order. Printed is how far behind it was: what the shims have, as
their pongs tell, less what it has handled.

A machine that cannot keep up is no failure: then the follower needs longer than the containers
do, and nothing may be lost either.

The seed draws when each begins. Seen to fail, with both followers: with a byte told twice
(``cursor.offset -= 1`` once in ``_next_step``).
"""

import argparse
import random

import talking
from harness import Shop

ABOUT = "one follower of many containers that talk has every line of each once"

_HEAD = (
    "way", "MB", "said in s", "followed in s", "MB/s", "lag kB median", "max", "all max",
    "at the end", "shims %", "follower %", "shims cpu s", "follower cpu s",
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--containers", type=int, default=100, help="(%(default)s)")
    parser.add_argument("--rate", type=int, default=1_000_000,
        help="bytes a second of each (%(default)s)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60.0, help="(%(default)g)")
    parser.add_argument("--way", choices=("follow-all", "library", "both"), default="both",
        help="who follows (%(default)s)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm with each follower, and print a line for it; return whether all was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}\n{'  '.join(_HEAD)}", flush=True)
    talk, wrong = talking.talk_of(wish.rate, wish.seconds), []
    for way in ("follow-all", "library") if wish.way == "both" else (wish.way,):
        told = talking.storm(shop, wish.containers, talk, way, seed)
        print("  ".join(map(str.rjust, _cells(way, told), map(len, _HEAD))), flush=True)
        wrong += told.wrong
        shop.ctl("rm", "--force", *shop.made)
        shop.made.clear()
    print("; ".join(wrong) or "exact")
    return not wrong


def _cells(way: str, told: talking.Figures) -> list[str]:
    lags = (told.lag_median, told.lag_max, told.lag_all, told.lag_end)
    return [
        way,
        f"{told.bytes / 1e6:.0f}",
        f"{told.said:.1f}",
        f"{told.followed:.1f}",
        f"{told.bytes / told.followed / 1e6:.1f}",
        *(f"{lag / 1e3:.0f}" for lag in lags),
        f"{told.shims:.0%}",
        f"{told.follower:.0%}",
        f"{told.shims_all:.1f}",
        f"{told.follower_all:.1f}",
    ]
