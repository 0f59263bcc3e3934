"""upgrade: a running container changes between two versions of attachd, while keepers are killed.

It says numbers all the while, an exec runs from the beginning to the end, and each second upgrade
has its keeper killed at a random moment: before, in, or after the change. Where that leaves the
container without any process of ours, since the old server had stopped already, it is recovered.
In the end its log must have every number, and both exits must be known.

Seen to fail: with ``kept`` left out in ``Server.table`` of ``keeper/server.py``, an heir that
forgets what it was handed. A server that stops before the log has what the ring has is noticed by
`test_a_keeper_that_is_killed_when_the_old_server_has_stopped_loses_nothing`, and here by chance.
"""

import argparse
import contextlib
import hashlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from copies import Copy
from harness import Shop, wait_for

ABOUT = "from one version to the other and back, with deaths in between"

SCRIPT = "i=0; until [ -e /end ]; do i=$((i+1)); echo $i; done; echo $i >&2; exit 7"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--upgrades", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    chance, begun = random.Random(seed), time.monotonic()
    box = shop.run("sh", "-c", SCRIPT)
    beside = shop.popen("attachctl", "exec", "-i", box, "sh", "-c", "read x; exit 3", stdin=-1)
    wait_for(lambda: shop.reported(box).get("execs"))
    done = killed = recovered = 0
    with tempfile.TemporaryDirectory(prefix="upgrade-") as place:
        codes = [Copy(Path(place) / name) for name in ("one", "two")]
        codes[1].edit("attachd/__init__.py", '__version__ = "', '__version__ = "9')
        for number in range(wish.upgrades):
            kill = number % 2 == 1
            done += change(
                shop, box, codes[number % 2], chance.uniform(0, 1.5) if kill else -1
            )
            killed += kill
            recovered += bring_back(shop, box)
    beside.communicate(b"\n", timeout=120)
    (shop.root / box / "bundle/rootfs/end").touch()
    record, said = shop.ended(box), shop.output(box)
    count = said.count(b"\n")
    digest = hashlib.sha256()
    for first in range(1, count + 1, 100_000):
        last = min(first + 100_000, count + 1)
        digest.update(b"".join(b"%d\n" % i for i in range(first, last)))
    codes_known = (
        beside.returncode == 3 or recovered > 0
    )  # an exec's pipes cannot be recovered
    exact = record["exit_code"] == 7 and digest.digest() == hashlib.sha256(said).digest()
    print(
        f"{wish.upgrades} upgrades ({done} done), {killed} keepers killed, {recovered} recovered,"
        f" {len(said)} bytes, {time.monotonic() - begun:.0f} s:"
        f" {'exact' if exact and codes_known else (record, beside.returncode)}"
    )
    return exact and codes_known


def change(shop: Shop, box: str, code: Copy, kill_after: float) -> bool:
    """Upgrade to ``code``; kill the keeper so many seconds later, unless that is negative."""
    keeper = shop.keeper(box)

    def kill() -> None:
        time.sleep(kill_after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(keeper, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    if kill_after >= 0:
        killer.start()
    told = code.call(shop, "attachd_clients.ctl", "upgrade", box, check=False)
    if kill_after >= 0:
        killer.join()
    elif told.returncode:
        print(told.stderr.decode(), file=sys.stderr)
    return told.returncode == 0


def bring_back(shop: Shop, box: str) -> bool:
    """Return when the container has a shim that answers; return True if it was recovered."""
    recovered = False

    def answers() -> bool:
        nonlocal recovered
        if shop.call("attachd", "recover", box, check=False).returncode == 0:
            recovered = True
        return bool(shop.reported(box))

    wait_for(answers)
    return recovered
