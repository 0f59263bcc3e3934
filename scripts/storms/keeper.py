"""keeper: the keeper and the server of one container are killed in turn, again and again.

The container says numbers all the while. In the end its log must have every one of them, its
exit must be known, each new server counted, and an exec that was there from the beginning must
end with its own code.

It notices an heir that does not watch what it has not made (leave out ``strangers.add`` in
``keeper/heir.py``: the exit is unknown), one that is handed too little (leave out ``kept`` in
``live/guardian.py``: the log ends), a server that nobody starts again, and one that nobody
counts (``keeper/keep.py``).
"""

import argparse
import contextlib
import os
import random
import signal
import time

from harness import Shop, wait_for
from hearing import Heard, Sum, cri_sums

ABOUT = "whoever dies, keeper or server, the other one sees to it"

#: So many numbers are made at a time: there may be hundreds of megabytes of them.
BLOCK = 100_000


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
    wait_for(lambda: shop.reported(box))
    servers = 0
    for _ in range(wish.kills):
        servers += kill(shop, box, chance) == "server_pid"
        time.sleep(chance.uniform(0, 0.1))
    beside.communicate(b"\n", timeout=120)
    shop.ctl("send", box, "")
    record = shop.ended(box)
    found = cri_sums(shop.path(box, "log/container.log"))
    told = (record["exit_code"], beside.returncode, record["restarts"], found)
    wanted = (7, 3, servers, counted(found["stdout"].size))
    seconds = time.monotonic() - begun
    print(
        f"{wish.kills} kills, {record['restarts']} new servers, {record['offset']} bytes,"
        f" {seconds:.0f} s: {'exact' if told == wanted else f'{told}, not {wanted}'}"
    )
    return told == wanted


def counted(size: int) -> dict[str, Sum]:
    """Return the sums of the numbers that take ``size`` bytes, and of the last one by itself."""
    heard, last, end = Heard(), 0, Heard()
    while heard.size < size:
        block = b"".join(b"%d\n" % number for number in range(last + 1, last + 1 + BLOCK))
        block = block[: size - heard.size]
        heard.add(block)
        last += block.count(b"\n")
    end.add(b"%d\n" % last)
    return {"stdout": heard.sum, "stderr": end.sum}


def kill(shop: Shop, box: str, chance: random.Random) -> str:
    """Kill one of the two, wait until there is another one of it, and return which."""
    before = wait_for(lambda: shop.reported(box))
    which = chance.choice(("keeper_pid", "server_pid"))
    with contextlib.suppress(ProcessLookupError):
        os.kill(before[which], signal.SIGKILL)
    wait_for(lambda: (now := shop.reported(box)) and now[which] != before[which])
    return which
