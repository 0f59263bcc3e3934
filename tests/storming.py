"""stdin under fire: a container is fed while its server is killed again and again.

A keeper waits longer before each new server, so the kills are shared out among containers that
run at the same time.
"""

import hashlib
import os
import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from harness import PATIENCE, Shop, wait_for

#: What reads: each tells exactly what it has read.
READERS = (("sh", "-c", "cat >/out"), ("sha256sum",))


class Fed(NamedTuple):
    """How one container has fared."""

    code: int  #: the sender's
    words: bytes  #: what it said
    record: dict  #: the container's
    digest: str  #: SHA-256 of what the container has read
    kills: int


def kill_server(shop: Shop, box: str) -> bool:
    """Kill the server there is, at whatever it does; return whether there was one."""
    server = shop.server(box)
    if server:
        os.kill(server, signal.SIGKILL)
    return bool(server)


def storm(shop: Shop, data: bytes, kills: list[int], seed: int) -> list[Fed]:
    """Feed ``data`` to as many containers at once as there are kills, and return how they fared.

    Number N of ``kills`` is how often that container's server is killed.
    """
    boxes = [
        shop.run(*READERS[number % len(READERS)], options=("-i", "--linger", "30"))
        for number in range(len(kills))
    ]
    with ThreadPoolExecutor(len(boxes)) as pool:
        ends = [
            pool.submit(_feed, shop, box, data, count, random.Random(f"{seed} {number}"))
            for number, (box, count) in enumerate(zip(boxes, kills, strict=True))
        ]
        return [end.result() for end in ends]


def _feed(shop: Shop, box: str, data: bytes, kills: int, chance: random.Random) -> Fed:
    """Send all of ``data``, and its end, killing the server at random moments on the way.

    A write returns when at most a window and a pipe are under way: this is what a kill hits.
    The last kill is at the end of stdin.
    """
    cuts = [*sorted(chance.randrange(len(data)) for _ in range(kills - 1)), len(data)]
    sender = shop.popen("attachctl", "send", box, "-", "--eof", stdin=subprocess.PIPE)
    killed = 0
    for start, end in zip([0, *cuts], cuts, strict=False):
        _write(sender, data[start:end])
        if end == len(data):
            sender.stdin.close()
        time.sleep(chance.uniform(0, 0.01))
        wait_for(lambda: sender.poll() is not None or kill_server(shop, box))
        killed += sender.poll() is None
    sender.stdin = None
    _, words = sender.communicate(timeout=PATIENCE)
    record = shop.ended(box)
    return Fed(sender.returncode, words, record, _read_by(shop, box), killed)


def _write(sender: subprocess.Popen[bytes], data: bytes) -> None:
    """Write all, however little each write takes; a sender that has given up tells why itself."""
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[sender.stdin.write(rest) :]
    except BrokenPipeError:
        pass


def _read_by(shop: Shop, box: str) -> str:
    """Return the SHA-256 of what the container has read."""
    path = Path(shop.state(box)["bundle"]) / "rootfs/out"
    if path.exists():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return shop.output(box).split()[0].decode()
