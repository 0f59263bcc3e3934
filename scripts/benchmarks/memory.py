"""Memory: what the shims of idle containers take, each.

Proportional set size (proc(5), smaps_rollup): a process's own pages, and its share of those that
it has in common with others. Beside it conmon, whose containers are made in turn with ours. Of
ours keeper and server count.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.place import STEP_SECONDS, WATCHES, Failed, Place, attachd, conmon

HEADER = ("what", "attachd", "beside it", "ratio")


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row for one container, and one for many."""
    bundle = place.bundle("memory", "sleep", "1000")
    made: dict[str, list[tuple[str, int]]] = {"attachd": [], "conmon": []}
    for count in (1, 4 if quick else 20):
        while len(made["conmon"]) < count:
            for contestant in (attachd, conmon):
                container, name = place.name(), contestant.__name__
                contestant(place, container, bundle, place.logs / f"{container}.log")
                WATCHES[name](place, container)
                made[name].append((container, _shim(place, container, name)))
        ours = _kilobytes([pid for _, keeper in made["attachd"] for pid in _both(keeper)])
        other = _kilobytes([pid for _, pid in made["conmon"]])
        yield (
            f"memory of each of {count} idle shims" if count > 1 else "memory of an idle shim",
            f"{ours / count / 1024:.1f} MB",
            f"conmon {other / count / 1024:.1f} MB",
            f"{ours / other:.0f}",
        )
    for container, _ in (*made["attachd"], *made["conmon"]):
        place.delete(container)


def _shim(place: Place, container: str, name: str) -> int:
    """Return the pid of a container's keeper, or conmon."""
    own = place.directory / "attachd" / container / "keeper.pid"
    return int((own if name == "attachd" else place.directory / "conmon.pid").read_text())


def _both(keeper: int) -> tuple[int, int]:
    """Return the keeper, and its server as soon as that is at rest."""
    server = _wait(lambda: _server(keeper))
    _wait(lambda: _is_at_rest(server))
    return keeper, server


def _server(keeper: int) -> int:
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    words = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return next((pid for pid, said in words.items() if b"attachd.live" in said), 0)


def _is_at_rest(pid: int) -> bool:
    """True when it has not run for half a second."""
    status = Path(f"/proc/{pid}/status")
    before = status.read_text().partition("voluntary_ctxt_switches")[2]
    time.sleep(0.5)
    return status.read_text().partition("voluntary_ctxt_switches")[2] == before


def _wait(what: Callable[[], int]) -> int:
    deadline = time.monotonic() + STEP_SECONDS
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise Failed("a server did not start, or does not come to rest")


def _kilobytes(pids: list[int]) -> int:
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    lines = [line for text in texts for line in text.splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
