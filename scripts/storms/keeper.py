"""keeper: the keeper and the server of one container are killed in turn, again and again.

The container says numbers all the while. In the end its log must have every one of them, its
exit must be known, and an exec that was there from the beginning must end with its own code.

It notices an heir that does not watch what it has not made (leave out ``strangers.add`` in
``keeper/heir.py``: the exit is unknown), one that is handed too little (leave out ``kept`` in
``live/guardian.py``: the log ends), and a server that nobody starts again.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import time

from harness import Shop, wait_for

ABOUT = "whoever dies, keeper or server, the other one sees to it"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--kills", type=int, default=200, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was exact."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    chance, begun = random.Random(seed), time.monotonic()
    script = "i=0; until read -t 0.0 x; do i=$((i+1)); echo $i; done; echo $i >&2; exit 7"
    box = shop.run("sh", "-c", script, options=("-i",))
    beside = shop.popen("attachctl", "exec", "-i", box, "sh", "-c", "read x; exit 3", stdin=-1)
    wait_for(lambda: pids(shop, box))
    for _ in range(wish.kills):
        kill(shop, box, chance)
        time.sleep(chance.uniform(0, 0.1))
    beside.communicate(b"\n", timeout=120)
    shop.ctl("send", box, "")
    record = shop.ended(box)
    said = shop.output(box)
    count = int(said.splitlines()[-1])
    wanted = hashlib.sha256(b"".join(b"%d\n" % i for i in range(1, count + 1))).digest()
    told = (record["exit_code"], beside.returncode, hashlib.sha256(said).digest())
    exact = told == (7, 3, wanted)
    seconds = time.monotonic() - begun
    print(
        f"{wish.kills} kills, {record['restarts']} new servers, {len(said)} bytes,"
        f" {seconds:.0f} s: {'exact' if exact else told}"
    )
    return exact


def kill(shop: Shop, box: str, chance: random.Random) -> None:
    """Kill one of the two, and wait until there is another one of it."""
    before = wait_for(lambda: pids(shop, box))
    which = chance.choice(("keeper_pid", "server_pid"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(before[which], signal.SIGKILL)
    wait_for(lambda: (now := pids(shop, box)) and now[which] != before[which])


def pids(shop: Shop, box: str) -> dict[str, int]:
    """Return who is there; nothing while nobody answers."""
    done = shop.call("attachctl", "stats", box, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}
