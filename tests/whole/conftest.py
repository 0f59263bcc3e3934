"""What every end-to-end test is held to, on top of the harness: no zombie is ever left."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Shop, wait_for


@pytest.fixture
def shop(shop: Shop) -> Iterator[Shop]:
    """The harness's shop; what its keepers were parents of is reaped when they are gone."""
    yield shop
    family = {pid for box in shop.made for pid in _family(shop, box)}
    shop.close()
    wait_for(lambda: not any(_is_unreaped(pid) for pid in family))


def _family(shop: Shop, box: str) -> set[int]:
    """Return the pids of the container and of its keeper's children.

    Not of the keeper: its parent is the system's init, which reaps when it likes.
    """
    try:
        state = json.loads(shop.path(box, "state.json").read_text())
        keeper = state["keeper_pid"]
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    except (OSError, ValueError):
        return set()
    return {state["pid"] or 0, *map(int, children)} - {0}


def _is_unreaped(pid: int) -> bool:
    """True for a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return status[0] == "Z"
