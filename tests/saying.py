"""What containers in a storm say: each line that they read is one part of what is in their files.

Whoever knows the lines knows every byte.
"""

import random
from pathlib import Path
from typing import NamedTuple, Protocol

STREAMS = ("stdout", "stderr")

#: What the container says before it reads: a terminal shows no line of ours from then on.
READY = "ready"

CODE = 7  #: the container's exit code

POOL_BYTES = 16 << 20

#: What dd reads and writes at once.
BLOCKS = (512, 4096, 65536)


class Part(NamedTuple):
    """What one line has the container say."""

    line: bytes
    stdout: bytes
    stderr: bytes = b""


class Cut(NamedTuple):
    """A piece of a file, as dd(1) is told."""

    block: int
    skip: int
    count: int

    @classmethod
    def draw(cls, size: int, chance: random.Random) -> "Cut":
        """Return one of about ``size`` bytes, and of one block at least."""
        block = chance.choice(BLOCKS)
        count = min(max(1, size // block), POOL_BYTES // block)
        return cls(block, chance.randrange(POOL_BYTES // block - count + 1), count)

    def of(self, pool: bytes) -> bytes:
        return pool[self.block * self.skip : self.block * (self.skip + self.count)]

    def __str__(self) -> str:
        return f"{self.block} {self.skip} {self.count}"


class Source(Protocol):
    """A container's program, and what it says."""

    options: tuple[str, ...]
    terminal: bool
    script: str
    ready: bytes

    def fill(self, rootfs: Path) -> None:
        """Put its files there."""

    def part(self, number: int, size: int) -> Part:
        """Return a part of about ``size`` bytes."""


class Pipes:
    """Both streams at once: bytes of any value, lines, and a line that does not end."""

    options = ("-i",)
    terminal = False
    ready = f"{READY}\n".encode()
    script = f"""
        echo {READY}
        while read number a b c d e f; do
            (echo part $number; exec dd if=/stdout bs=$a skip=$b count=$c 2>/dev/null) &
            dd if=/stderr bs=$d skip=$e count=$f >&2 2>/dev/null
            wait
        done
        exit {CODE}"""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._pools = {stream: self._make_pool(stream) for stream in STREAMS}

    def fill(self, rootfs: Path) -> None:
        for stream, pool in self._pools.items():
            (rootfs / stream).write_bytes(pool)

    def part(self, number: int, size: int) -> Part:
        share = self._chance.uniform(0.1, 0.9)
        cuts = [Cut.draw(int(size * part), self._chance) for part in (share, 1 - share)]
        line = f"{number} {cuts[0]} {cuts[1]}\n".encode()
        out, err = (cut.of(pool) for cut, pool in zip(cuts, self._pools.values(), strict=True))
        return Part(line, b"part %d\n" % number + out, err)

    def _make_pool(self, stream: str) -> bytes:
        half, quarter = POOL_BYTES // 2, POOL_BYTES // 4
        lines = (b"%s %d\r\n" % (stream.encode(), number) for number in range(quarter))
        text = b"".join(line for line, _ in zip(lines, range(quarter // 12), strict=False))
        return (self._chance.randbytes(half) + text + b"-" * POOL_BYTES)[:POOL_BYTES]


class Screen:
    """A terminal's one stream: text that it translates, and bytes that it does not touch."""

    options = ("-i", "-t", "-d")
    terminal = True
    ready = f"{READY}\r\n".encode()
    script = f"""
        stty -echo; echo {READY}
        while read number mode a b c; do
            stty $mode
            echo part $number; dd if=/pool bs=$a skip=$b count=$c 2>/dev/null
        done
        exit {CODE}"""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        text = b"".join(b"the quick brown fox %d\n" % n for n in range(POOL_BYTES // 40))
        self._pool = (text + chance.randbytes(POOL_BYTES))[:POOL_BYTES]

    def fill(self, rootfs: Path) -> None:
        (rootfs / "pool").write_bytes(self._pool)

    def part(self, number: int, size: int) -> Part:
        cut, cooked = Cut.draw(size, self._chance), self._chance.random() < 0.5
        line = f"{number} {'opost' if cooked else '-opost'} {cut}\n".encode()
        said = b"part %d\n" % number + cut.of(self._pool)
        return Part(line, said.replace(b"\n", b"\r\n") if cooked else said)
