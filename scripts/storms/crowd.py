"""crowd: a thousand clients of one container read all that it says, at the same time.

The container says ``--bytes`` at once when all of them are attached, in four ways: with a ring
that holds everything; with the default ring, so that who is overtaken reads from the log; with
a small ring and no log, where each gap must be told exactly; and the same with ``--blocking`` of
the clients having the container wait for them (``--allow-block``). Each client judges every byte
by its offset. Printed is what the server took, and how long the container needed; afterwards the
server must have no descriptor more than before, and less memory than ``--memory`` at any time.

The seed draws how much may be under way to each client. Seen to fail: with a gap that is one
byte too short in ``_gap``, with a byte told twice (``cursor.offset -= 1`` in ``_next_step``),
and with a Recall that is not closed in ``Speaker.end``.
"""

import argparse
import random
import resource

import crowding
from harness import Shop

ABOUT = "a thousand clients at once each have every byte, or are told which they have not"

_SMALL = ("--log", "none", "--ring-size", 64 * 1024)

_HEAD = (
    "how", "GB told", "s", "server s", "MB before", "peak", "after", "container s",
    "gaps", "GB missed", "lossless",
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--clients", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--bytes", type=int, default=10_000_000, help="(%(default)s)")
    parser.add_argument("--blocking", type=int, default=20,
        help="have the container wait, the last time (%(default)s)")  # fmt: skip
    parser.add_argument("--only", choices=("ring", "log", "gaps", "block"), help="one way")
    parser.add_argument("--memory", type=float, default=1000.0,
        help="MB that the server may take (%(default)g)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm in each way, and print a line for it; return whether all was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (ours, ours))
    print(f"seed {seed}\n{'  '.join(_HEAD)}", flush=True)
    size, wrong = wish.bytes // crowding.LINE_BYTES * crowding.LINE_BYTES, []
    ways = {
        "ring": (("--ring-size", 2 * size), 0),
        "log": ((), 0),
        "gaps": (_SMALL, 0),
        "block": ((*_SMALL, "--allow-block", 60), wish.blocking),
    }
    for way in (wish.only,) if wish.only else ways:
        options, blocking = ways[way]
        told = crowding.storm(shop, wish.clients, size, options, blocking=blocking, seed=seed)
        print("  ".join(map(str.rjust, _cells(way, told), map(len, _HEAD))), flush=True)
        wrong += [f"{way}: {why}" for why in judge(told, wish.clients, size, wish.memory)]
        lossless = wish.clients if way in ("ring", "log") else blocking
        wrong += (
            [f"{way}: somebody has missed something"] if told.told.lossless < lossless else []
        )
    print("; ".join(wrong) or "exact")
    return not wrong


def judge(told: crowding.Figures, clients: int, size: int, memory: float) -> list[str]:
    """Return what is wrong with how it went."""
    had, has = told.descriptors
    whole = told.told.bytes + told.told.missed == clients * size
    return [
        *told.told.wrong,
        *([] if whole else ["bytes and gaps together are not all that was said"]),
        *([] if has <= had else [f"{has} descriptors are left of {had}"]),
        *([] if told.peak <= memory else [f"it took {told.peak:.0f} MB"]),
    ]


def _cells(way: str, told: crowding.Figures) -> list[str]:
    return [
        way,
        f"{told.told.bytes / 1e9:.2f}",
        f"{told.seconds:.1f}",
        f"{told.busy:.1f}",
        f"{told.before:.0f}",
        f"{told.peak:.0f}",
        f"{told.after:.0f}",
        f"{told.waited:.2f}",
        str(told.told.gaps),
        f"{told.told.missed / 1e9:.2f}",
        str(told.told.lossless),
    ]
