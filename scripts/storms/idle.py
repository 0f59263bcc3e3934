"""idle: hundreds of containers that do nothing cost little each, and never wake up.

Makes containers up to each of ``--steps``, a few at a time, and prints what each of them costs
there: that must be the same for the first and the last. Then one of each kind (a terminal,
stdin that is open, a log that rotates by age, a client that stays attached) is watched. Nothing
of keepers and servers may run in ``--seconds``.

Seen to fail: with a task in ``Shim.run`` that sleeps a second again and again, and with a limit for
the poll in ``keep.watch``. There is no chance in it, and so no seed.
"""

import argparse

import burden
import idling
from harness import Shop
from idling import Cost

ABOUT = "idle containers do not wake up, and each costs the same, however many there are"

#: The last may cost so much more than the first step with ten or more: memory, and time, which
#: is noisy.
MEMORY_GROWTH, TIME_GROWTH = 1.1, 2.0

_HEAD = (
    "count", "make ms", "rm ms", "ls ms", "keeper kB pss/own", "server kB pss/own", "memfd kB",
    "kernel kB", "fds k/s", "procs", "woken",
)  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--steps", default="1,10,50,100,200,300",
        help="how many containers there are (%(default)s)")  # fmt: skip
    parser.add_argument("--at-once", type=int, default=3, help="are made (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0,
        help="in which nothing may wake up (%(default)g)")  # fmt: skip


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Make them and print the table; return whether everything was as it must be."""
    before = burden.kernel_memory()
    print("  ".join(_HEAD))
    costs = []
    for count in map(int, wish.steps.split(",")):
        idling.make(shop, count - len(shop.made), wish.at_once)
        costs.append(idling.measure(shop, shop.made, before, wish.seconds))
        print("  ".join(map(str.rjust, _cells(costs[-1]), map(len, _HEAD))), flush=True)
    wrong = [f"{len(cost.woken)} of {cost.count} woke up" for cost in costs if cost.woken]
    wrong += _not_flat([cost for cost in costs if cost.count >= 10] or costs)
    wrong += _kinds(shop, wish.seconds)
    print("; ".join(wrong) or "quiet, and the same for each")
    return not wrong


def _cells(cost: Cost) -> list[str]:
    return [
        str(cost.count),
        f"{cost.make:.0f}",
        f"{cost.remove:.0f}",
        f"{cost.listed:.0f}",
        f"{cost.keeper.pss}/{cost.keeper.private}",
        f"{cost.server.pss}/{cost.server.private}",
        f"{cost.files:.0f}",
        f"{cost.kernel:.0f}",
        f"{cost.keeper_fds:.0f}/{cost.server_fds:.0f}",
        f"{cost.processes:.1f}",
        str(sum(cost.woken.values())),
    ]


def _not_flat(costs: list[Cost]) -> list[str]:
    """Return which costs of one container grow with their number."""
    first, last = costs[0], costs[-1]
    grown = {
        "keeper": last.keeper.private > first.keeper.private * MEMORY_GROWTH,
        "server": last.server.private > first.server.private * MEMORY_GROWTH,
        "memfd": last.files > first.files * MEMORY_GROWTH,
        "descriptors": last.keeper_fds + last.server_fds > first.keeper_fds + first.server_fds,
        "make": last.make > first.make * TIME_GROWTH,
        "rm": last.remove > first.remove * TIME_GROWTH,
        "ls": last.listed / last.count > first.listed / first.count,
    }
    return [f"{name} costs more for each of many" for name, more in grown.items() if more]


def _kinds(shop: Shop, seconds: float) -> list[str]:
    """Return which kinds of idle containers wake up."""
    with idling.one_of_each(shop) as kinds:
        both = [pid for pair in kinds.values() for pid in pair]
        woken = burden.quiet(both, seconds, idling.SETTLE_SECONDS)
        told = {kind: sum(woken.get(pid, 0) for pid in pair) for kind, pair in kinds.items()}
    print("\n".join(f"{kind}: {count} wake-ups" for kind, count in told.items()))
    return [f"{kind}: woke up" for kind, count in told.items() if count]
