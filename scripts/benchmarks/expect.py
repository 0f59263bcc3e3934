"""Expect: a word at the end of 50 MB of output, awaited by `attachd_clients.script` and pexpect.

A container prints lines and then the word, attachd's session and pexpect wait for it, in turns;
the best counts. pexpect gets the same lines from a program of its own, through the terminal
that it always has; so does a container of attachd's, and there is one with pipes. pexpect
gets a hundredth, too: its time grows with the square.
"""

import importlib.util
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.place import VENV, Failed, Place

HEADER = ("what", "attachd", "beside it", "ratio")

#: pexpect is given up after so long; it then counts with what it was awaited for.
PATIENCE_SECONDS = 60.0

_LINE = "x" * 71


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield a row for each size."""
    if importlib.util.find_spec("pexpect") is None:
        subprocess.run(
            [str(VENV / "bin" / "pip"), "install", "--quiet", "pexpect"], check=True
        )
    for size in (500_000, 5_000_000) if quick else (500_000, 5_000_000, 50_000_000):
        rounds = 1 if quick else 2
        ours = {
            terminal: min(_attachd(place, size, terminal=terminal) for _ in range(rounds))
            for terminal in (False, True)
        }
        theirs = min(_pexpect(size) for _ in range(rounds if size < 50_000_000 else 1))
        late = "over " if theirs >= PATIENCE_SECONDS else ""
        for terminal, seconds in ours.items():
            kind = "a terminal" if terminal else "pipes"
            yield (
                f"a word after {size / 1e6:g} MB awaited, {kind}",
                f"{seconds:.2f} s",
                f"pexpect {late}{theirs:.2f} s",
                f"{late}{theirs / seconds:.1f}",
            )


def _command(size: int) -> list[str]:
    count = size // (len(_LINE) + 1)
    return ["sh", "-c", f"read go; yes {_LINE} | head -n {count}; echo END 42; sleep 1000"]


def _attachd(place: Place, size: int, *, terminal: bool) -> float:
    from attachd_clients.script.blocking import open_container

    root = str(Path(place.directory) / "attachd")
    with open_container(_command(size), terminal=terminal, root=root) as box:
        with box.session(timeout=PATIENCE_SECONDS) as session:
            begun = time.perf_counter()
            session.send_line("go")
            match = session.expect(r"END (\d+)")
            seconds = time.perf_counter() - begun
    if match[1] != "42" or len(match.before) < size * 0.99:
        raise Failed(f"attachd matched {match[0]!r} after {len(match.before)}")
    return seconds


def _pexpect(size: int) -> float:
    import pexpect  # type: ignore[import-untyped]

    words = _command(size)
    child = pexpect.spawn(words[0], words[1:], timeout=PATIENCE_SECONDS, echo=False)
    try:
        begun = time.perf_counter()
        child.sendline("go")
        found = child.expect([r"END (\d+)", pexpect.TIMEOUT])
        seconds = time.perf_counter() - begun
        if found == 0 and len(child.before) < size * 0.99:
            raise Failed(f"pexpect matched after {len(child.before)}")
        return seconds
    finally:
        child.close(force=True)
