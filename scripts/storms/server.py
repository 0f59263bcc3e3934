"""server: the server of one container is killed at random moments while much output flows.

Most moments are places in the output, as the kernel counts it; some come while the server starts,
some when it has been at work for a while, and one when the container ends. A client follows from
the first byte to the exit record, others come to known offsets and leave again; none may see a
gap or an error. In the end both logs, the ring, what ``attach`` shows of it, and the exit record
with its count of restarts must be exact.

It notices bytes that are not counted by the kernel's position (leave out ``_recover`` in
``state/ring.py``; note ``newest`` in the header after each splice, and begin there), a stream or
time that is not noted before the bytes move (leave out ``mark`` in ``live/pump.py``), a log that is
not cut to what was committed (``ftruncate`` in ``live/shelf.py``'s ``adopt``), restarts that
nobody counts (``keeper/keep.py``), and a client that goes on one byte off (``position`` in
``attachd_clients/conversation.py``'s ``hello``).
"""

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
