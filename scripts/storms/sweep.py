"""sweep: keeper and server are killed at once, again and again, and ``attachd recover`` mends it.

The container says numbered lines all the while, and does not know. In the end its exit is known,
and its log has its lines in order, none of them twice; what is missing was in the ring and not in
the log at the moment of a sweep, so there is at most one hole for each. With ``--quiet`` the sweep
waits until the log has what the ring has, and the container for the next line: then nothing may
be missing at all.

Seen to fail: with a container that does not hold its own pipes (what it says after a sweep is
lost), and with 0 from ``base_of`` in ``recovery/logs.py`` (the record's offset is not that of the
log).
"""

import argparse
import itertools
import os
import random
import signal
import time

from harness import Shop, is_alive, wait_for

ABOUT = "whatever of ours is killed, the container lives, and is taken up again"

LINE = b"%09d\n"
SCRIPT = 'i=0; until [ -e /end ]; do i=$((i+1)); printf "%09d\\n" $i; $0; done; exit 7'


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--sweeps", type=int, default=50, help="(%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="sweep when nothing is under way")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was as it must be."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    chance, begun = random.Random(seed), time.monotonic()
    box = shop.run("sh", "-c", SCRIPT, "usleep 1000000" if wish.quiet else ":")
    init = shop.state(box)["pid"]
    for _ in range(wish.sweeps):
        report = wait_for(lambda: shop.reported(box))
        if wish.quiet:
            report = wait_for(lambda: at_rest(shop, box))
        else:
            time.sleep(chance.uniform(0, 0.3))
        sweep(report)
        time.sleep(chance.uniform(0, 0.2))
        if not is_alive(init):
            print("the container has died of it")
            return False
        shop.call("attachd", "recover", box)
    (shop.root / box / "bundle/rootfs/end").touch()
    record = shop.ended(box)
    return judge(shop, box, record, wish, time.monotonic() - begun)


def judge(
    shop: Shop, box: str, record: dict[str, object], wish: argparse.Namespace, seconds: float
) -> bool:
    """Look at what is there in the end."""
    said = shop.output(box)
    numbers = [
        int(x) for x in said.split(b"\n") if len(x) == len(LINE % 0) - 1 and x.isdigit()
    ]
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    holes, missing = sum(step > 1 for step in steps), sum(max(0, step - 1) for step in steps)
    exact = (
        (record["exit_code"], record["recovered"], record["offset"])
        == (7, wish.sweeps, len(said))
    ) and min(steps) > 0
    good = exact and holes <= (0 if wish.quiet else wish.sweeps)
    print(
        f"{wish.sweeps} sweeps, {len(said)} bytes, {holes} holes of {missing} lines in all,"
        f" {seconds:.0f} s: {'as it must be' if good else record}"
    )
    return good


def sweep(report: dict[str, int]) -> None:
    """Kill keeper and server; neither has the time to start the other again."""
    pids = (report["keeper_pid"], report["server_pid"])
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def at_rest(shop: Shop, box: str) -> dict:
    """Return a report when the log has all that has arrived."""
    report = shop.reported(box)
    rests = report and report["logs"][0]["written"] == report["newest"]
    return report if rests else {}
