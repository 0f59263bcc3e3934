"""A manager that follows a container into files, and a storm in which it is killed all the time.

    python followed.py ROOT ID CURSOR FILE [--trio]

Run as a program it is the manager: each stream goes to FILE.STREAM. It does what
`attachd_clients.cursor` promises to whoever keeps in the memo how much was written.
"""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import trio
from attachd_clients import Cursor, Line, follow, follow_blocking

#: A manager that was told of a gap: it cannot be exact any more.
GAPPED = 3

STREAMS = ("stdout", "stderr")

#: Behind each number; with it a line has 100 bytes.
PAD = b" the quick brown fox jumps over the lazy dog" * 2 + b"..\n"
LINE_BYTES = 9 + len(PAD)

_BATCH_LINES = 10_000
_POLL_SECONDS = 0.001

#: A kill comes so long at most after the moment that was drawn for it.
_LATE_SECONDS = 0.01


class Files:
    """One file for each stream; their sizes are the memo."""

    def __init__(self, base: str, cursor: Cursor) -> None:
        self._cursor = cursor
        self._sizes = cursor.memo or dict.fromkeys(STREAMS, 0)
        self._fds = {}
        for stream in STREAMS:
            fd = os.open(f"{base}.{stream}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.ftruncate(fd, self._sizes[stream])
            self._fds[stream] = fd

    def take(self, records: list[object], position: object) -> None:
        """Write lines, then commit; leave at a gap."""
        for stream, fd in self._fds.items():
            data = b"".join(
                record.text if record.partial else record.text + b"\n"
                for record in records
                if isinstance(record, Line) and record.stream == stream
            )
            os.write(fd, data)
            self._sizes[stream] += len(data)
        if any(hasattr(record, "start") for record in records):
            sys.exit(GAPPED)
        self._cursor.save(position, self._sizes)


def manage(root: str, box: str, cursor_path: str, base: str) -> None:
    """Follow to the end, without Trio."""
    cursor = Cursor(cursor_path)
    files = Files(base, cursor)
    follower = follow_blocking(box, root=root, from_=cursor)
    for records in follower.batches():
        files.take(records, follower.position)


async def manage_with_trio(root: str, box: str, cursor_path: str, base: str) -> None:
    """Follow to the end, with Trio."""
    cursor = Cursor(cursor_path)
    files = Files(base, cursor)
    async with follow(box, root=root, from_=cursor) as follower:
        while records := await follower.batch():
            files.take(records, follower.position)


class Outcome(NamedTuple):
    """How a storm went."""

    kills: int
    size: int  #: bytes of both streams
    seconds: float
    wrong: str  #: empty when every byte was there, once


def storm(shop: object, size: int, kills: int, seed: int) -> Outcome:
    """Follow ``size`` bytes of two streams with managers that are killed at random moments."""
    chance, begun = random.Random(seed), time.monotonic()
    lines = size // LINE_BYTES // len(STREAMS)
    talk = f"seq -w {10**8} {10**8 + lines - 1} | sed 's/$/{PAD[:-1].decode()}/'"
    box = shop.run("sh", "-c", f"({talk}) >&2 & {talk}; wait")
    base = shop.scratch / "followed"
    moments = sorted(chance.randrange(size) for _ in range(kills))
    killed = sum(_kill_at(shop, box, base, moment, chance) for moment in moments)
    code = _manager(shop, box, base, chance).wait()
    wrong = f"the last manager ended with {code}" if code else _compare(base, lines)
    return Outcome(killed, lines * LINE_BYTES * len(STREAMS), time.monotonic() - begun, wrong)


def _manager(
    shop: object, box: str, base: Path, chance: random.Random
) -> subprocess.Popen[bytes]:
    words = [sys.executable, __file__, str(shop.root), box, f"{base}.cursor", str(base)]
    return subprocess.Popen(words + ["--trio"] * chance.randrange(2))


def _kill_at(shop: object, box: str, base: Path, moment: int, chance: random.Random) -> bool:
    """Have a manager follow up to about ``moment`` bytes, and kill it; False when it ended."""
    manager = _manager(shop, box, base, chance)
    while manager.poll() is None and _written(base) < moment:
        time.sleep(_POLL_SECONDS)
    time.sleep(chance.uniform(0, _LATE_SECONDS))
    manager.kill()
    return manager.wait() == -signal.SIGKILL


def _written(base: Path) -> int:
    files = [Path(f"{base}.{stream}") for stream in STREAMS]
    return sum(file.stat().st_size for file in files if file.exists())


def _compare(base: Path, lines: int) -> str:
    """Return what is wrong with a file; empty when nothing is."""
    expected = hashlib.sha256()
    for piece in _expected(lines):
        expected.update(piece)
    for stream in STREAMS:
        with open(f"{base}.{stream}", "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected.hexdigest():
                return f"{stream}: {file.tell()} bytes, not the {lines * LINE_BYTES} expected"
    return ""


def _expected(lines: int) -> Iterator[bytes]:
    for first in range(0, lines, _BATCH_LINES):
        numbers = range(10**8 + first, 10**8 + min(first + _BATCH_LINES, lines))
        yield b"".join(b"%d%s" % (number, PAD) for number in numbers)


if __name__ == "__main__":
    if sys.argv[5:] == ["--trio"]:
        trio.run(manage_with_trio, *sys.argv[1:5])
    else:
        manage(*sys.argv[1:5])
