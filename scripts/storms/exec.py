"""exec: many at once, and many one after another, with what the shim costs before and after.

First a crowd of ``attachctl exec`` at once, each with stdin of its own that must come back byte
for byte with the exit code that it was promised; then a queue, one after another, every tenth
with a terminal. Afterwards server and keeper must have the descriptors and children that they had
before; the crowd may leave with the allocator what it had at once (``--peak``), and the queue must
not add to that (``--slack``).

It notices a descriptor or a mapping that is not closed with its exec (leave out one
``os.close`` of ``live/exec.py``), an exec that is not forgotten (leave out ``let_go``), a zombie
at the keeper (return before ``os.waitpid`` in ``Keeper._reap``), and output that goes to another
exec's client (close a ring's descriptor while a client still reads).
"""

import argparse
import json
import os
import random
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from attachd_clients import attach_blocking
from harness import Shop, wait_for

from attachd.wire import messages as say

ABOUT = "many execs at once and in a row leave nothing behind"

#: A client is a process of some 30 MB that is mostly start-up: so many are there at once, while
#: the execs themselves all live at the same time.
HANDS = 24

PATIENCE = 300.0


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--at-once", type=int, default=200, help="(%(default)s)")
    parser.add_argument("--in-a-row", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--peak", type=float, default=16.0,
        help="MB that the crowd may leave with the allocator (%(default)g)")  # fmt: skip
    parser.add_argument("--slack", type=float, default=2.0,
        help="MB that each of the two may grow by during the queue (%(default)g)")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of an earlier storm, to have it again")


class Cost(NamedTuple):
    """What one process has."""

    memory: float  #: MB, resident
    descriptors: int
    children: int

    @classmethod
    def of(cls, pid: int) -> "Cost":
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        memory = pages * os.sysconf("SC_PAGESIZE") / 1e6
        return cls(memory, len(os.listdir(f"/proc/{pid}/fd")), len(children))

    def __str__(self) -> str:
        return (
            f"{self.memory:.1f} MB, {self.descriptors} descriptors, {self.children} children"
        )


def run(shop: Shop, wish: argparse.Namespace) -> bool:
    """Storm, and tell how it went; return whether everything was exact and nothing was left."""
    seed = random.SystemRandom().randrange(1 << 32) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    box = shop.run("sleep", "100000")
    _queue(shop, box, 10, random.Random(seed))  # what is loaded once is loaded
    pids = {"server": shop.server(box), "keeper": shop.keeper(box)}
    before = _settled(shop, box, pids)
    for who, cost in before.items():
        print(f"before: {who} {cost}", flush=True)
    wrong = _crowd(shop, box, wish.at_once, random.Random(seed))
    between = _settled(shop, box, pids)
    wrong += _compare("at once", before, between, wish.peak)
    wrong += _queue(shop, box, wish.in_a_row, random.Random(seed + 1))
    wrong += _compare("in a row", between, _settled(shop, box, pids), wish.slack)
    if shop.server(box) != pids["server"]:
        wrong.append("the server has died")
    print("; ".join(wrong) or "exact, and nothing is left")
    return not wrong


def _crowd(shop: Shop, box: str, count: int, chance: random.Random) -> list[str]:
    """Have ``count`` execs live at the same time; return what was wrong."""
    begun = time.monotonic()
    data = [chance.randbytes(chance.randrange(1, 50_000)) for _ in range(count)]
    spec = {"argv": [], "stdin": True, "stdin_eof": "any", "allow_block": 1000}

    def make(number: int) -> None:
        argv = ["sh", "-c", f"cat; exit {number % 120}"]
        with attach_blocking(box, root=str(shop.root), exec=f"crowd{number}",
                             spec=spec | {"argv": argv}, since="none"):  # fmt: skip
            pass

    def feed(number: int) -> str:
        got, record = b"", {}
        with attach_blocking(box, root=str(shop.root), exec=f"crowd{number}",
                             since="start", flow="block") as client:  # fmt: skip
            client.send(data[number], PATIENCE)
            client.send_eof(PATIENCE)
            while (event := client.receive(PATIENCE)) is not None:
                got += event.data if isinstance(event, say.Output) else b""
                record = event.record if isinstance(event, say.Exit) else record
        exact = (got, record.get("exit_code")) == (data[number], number % 120)
        return "" if exact else f"crowd{number}: {len(got)} bytes, {record.get('exit_code')}"

    with ThreadPoolExecutor(HANDS) as pool:
        list(pool.map(make, range(count)))
        made = time.monotonic() - begun
        alive = sum(told["phase"] == "running" for told in _execs(shop, box))
        wrong = [word for word in pool.map(feed, range(count)) if word]
    took = time.monotonic() - begun
    print(f"{count} at once: {alive} ran in {made:.1f} s, all ended after {took:.1f} s")
    return wrong + ([] if alive == count else [f"only {alive} ran at once"])


def _queue(shop: Shop, box: str, count: int, chance: random.Random) -> list[str]:
    """Have ``count`` execs one after another; return what was wrong."""
    begun, wrong = time.monotonic(), []
    for number in range(count):
        code, word = chance.randrange(120), chance.randbytes(8).hex()
        spec = {
            "argv": ["sh", "-c", f"echo {word}; exit {code}"],
            "terminal": number % 10 == 0,
            "allow_block": 1000,
        }
        got, record = b"", {}
        with attach_blocking(box, root=str(shop.root), spec=spec, since="start") as client:
            while (event := client.receive(PATIENCE)) is not None:
                got += event.data if isinstance(event, say.Output) else b""
                record = event.record if isinstance(event, say.Exit) else record
        if (got.strip(), record.get("exit_code")) != (word.encode(), code):
            wrong.append(f"number {number}: {got!r}, {record.get('exit_code')}")
    took = time.monotonic() - begun
    print(
        f"{count} in a row: {took:.1f} s, {took / max(1, count) * 1000:.0f} ms each",
        flush=True,
    )
    return wrong


def _execs(shop: Shop, box: str) -> list[dict]:
    return json.loads(shop.ctl("stats", box))["execs"]


def _settled(shop: Shop, box: str, pids: dict[str, int]) -> dict[str, Cost]:
    """Return what server and keeper have when the last exec was forgotten, and its client."""
    wait_for(lambda: not _execs(shop, box))
    listed = subprocess.run(["runc", "ps", box, "-q"], capture_output=True, check=False).stdout
    if len(listed.split()) > 1:
        print(f"processes in the container: {len(listed.split())}")
    time.sleep(0.5)  # the counting client has gone, too
    return {who: Cost.of(pid) for who, pid in pids.items()}


def _compare(
    what: str, before: dict[str, Cost], after: dict[str, Cost], slack: float
) -> list[str]:
    wrong = []
    for who, then in before.items():
        now = after[who]
        print(f"after those {what}: {who} {now}", flush=True)
        if now[1:] != then[1:] or now.memory > then.memory + slack:
            wrong.append(f"the {who} had {then}, and has {now}")
    return wrong
