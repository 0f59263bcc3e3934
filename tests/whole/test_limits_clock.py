"""A clock that jumps kills no container, and lets none live on.

The clock of a machine is nobody's to set in a test. But what a server knows of the past is in
the header: there the start is moved, as if the clock had jumped since.
"""

import json
import mmap
import os
import time
from pathlib import Path

import pytest
from harness import wait_for

from attachd.live.container import run_time
from attachd.state.header import Header

pytestmark = pytest.mark.runc

DAY = 86400 * 10**9


def header_of(pid: int) -> Header:
    """Map the header that a keeper holds."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        if "attachd-header" in os.readlink(path):
            with open(path, "r+b", buffering=0) as file:
                return Header(memoryview(mmap.mmap(file.fileno(), 0)).cast("Q"))
    raise AssertionError("the keeper holds no header")


def move_start(shop, box: str, by: int) -> None:
    """Have the next server believe that the clock has jumped; there is one when this returns."""
    header = header_of(shop.keeper(box))
    header.started = time.time_ns() + by
    server = wait_for(lambda: shop.server(box))
    os.kill(server, 9)
    wait_for(lambda: shop.server(box) not in (0, server))


def test_a_clock_that_jumps_on_ends_no_container(shop) -> None:
    """--timeout is time that has passed, not what the clock says of it."""
    box = shop.run("sleep", "1000", options=("--timeout", "1000"))
    wait_for(lambda: shop.server(box))
    move_start(shop, box, -1000 * DAY)
    for _ in range(3):
        assert json.loads(shop.ctl("stats", box))["phase"] == "running"

    assert not header_of(shop.keeper(box)).timed_out


def test_a_clock_that_jumps_back_ends_it_in_time(shop) -> None:
    """It does not live for a thousand days more."""
    box = shop.run("sleep", "1000", options=("--timeout", "2"))
    wait_for(lambda: shop.server(box))
    move_start(shop, box, 1000 * DAY)

    assert shop.ended(box)["reason"] == "timeout"


def test_how_long_a_container_has_run_is_told_by_a_clock_that_never_jumps() -> None:
    """Whatever the wall's says of its start."""
    header = Header(memoryview(bytearray(8 * 64)).cast("Q"))
    header.started, header.started_clock = 5, 90 * 10**9

    assert run_time(header, lambda: 99 * 10**9) == 9
