"""stdin while the server is killed again and again: nothing is lost or doubled on its way.

A keeper waits longer before each new server, so the kills are shared out among containers that
run at the same time. The long form is ``scripts/storm stdin``.
"""

import hashlib
import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import PATIENCE, wait_for

pytestmark = [pytest.mark.runc, pytest.mark.slow]

SEED = 20
SIZE = 20_000_000

#: What the container runs, and how often its server is killed: 25 times in all.
STORMS = [
    (("sh", "-c", "cat >/out"), 7),
    (("sh", "-c", "cat >/out"), 6),
    (("sha256sum",), 6),
    (("sha256sum",), 6),
]


def kill_server(shop, box: str) -> bool:
    """Kill the server there is, at whatever it does; return whether there was one."""
    server = shop.server(box)
    if server:
        os.kill(server, signal.SIGKILL)
    return bool(server)


def send_through(shop, box: str, data: bytes, kills: int, chance: random.Random) -> int:
    """Send all of ``data``, and its end, killing the server on the way; return the exit code.

    A write returns when at most a window and a pipe are under way: this is what a kill hits.
    The last kill is at the end of stdin.
    """
    cuts = [*sorted(chance.randrange(len(data)) for _ in range(kills - 1)), len(data)]
    sender = shop.popen("attachctl", "send", box, "-", "--eof", stdin=subprocess.PIPE)
    with os.fdopen(os.dup(sender.stdin.fileno()), "wb") as pipe:
        sender.stdin.close()
        for start, end in zip([0, *cuts], cuts, strict=False):
            pipe.write(data[start:end])
            pipe.flush()
            if end == len(data):
                pipe.close()
            time.sleep(chance.uniform(0, 0.01))
            wait_for(lambda: sender.poll() is not None or kill_server(shop, box))
    sender.stdin = None
    _, words = sender.communicate(timeout=PATIENCE)
    assert words == b""
    return sender.returncode


def read_by(shop, box: str) -> str:
    """Return the SHA-256 of what the container has read."""
    path = Path(shop.state(box)["bundle"]) / "rootfs/out"
    if path.exists():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return shop.output(box).split()[0].decode()


def test_a_storm_of_deaths_loses_and_doubles_nothing(shop) -> None:
    """20 MB each into files and into sha256sum: exact, with exit code 0."""
    print(f"seed {SEED}")
    data = random.Random(SEED).randbytes(SIZE)
    boxes = [shop.run(*words, options=("-i", "--linger", "30")) for words, _ in STORMS]
    with ThreadPoolExecutor(len(STORMS)) as pool:
        ends = [
            pool.submit(send_through, shop, box, data, kills, random.Random(SEED + number))
            for number, (box, (_, kills)) in enumerate(zip(boxes, STORMS, strict=True))
        ]
        codes = [end.result() for end in ends]
    records = [shop.ended(box) for box in boxes]

    assert codes == [0] * len(STORMS)
    assert [record["exit_code"] for record in records] == [0] * len(STORMS)
    assert {read_by(shop, box) for box in boxes} == {hashlib.sha256(data).hexdigest()}
    # The last death, at the end of stdin, may come after the record.
    assert sum(record["restarts"] for record in records) >= 25 - len(STORMS)
