"""The record of the end."""

import json

import pytest

from attachd.keeper.files import RECORD_BYTES
from attachd.state.exitrecord import (
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_UNKNOWN,
    CLD_UNSEEN,
    Ending,
    exit_record,
    to_json,
)


def record(code: int, status: int, **changes: object) -> dict:
    ending = Ending(code, status, 2, 1, 0, False, True, {"stdout": 3, "stderr": 4}, 7, 0, 0)
    return exit_record("box", "s", ending._replace(**changes))


@pytest.mark.parametrize(
    ("found", "reason", "code", "signal"),
    [
        (record(CLD_EXITED, 7), "exited", 7, None),
        (record(CLD_KILLED, 9), "signaled", None, 9),
        (record(CLD_DUMPED, 11), "signaled", None, 11),
        (record(CLD_KILLED, 9, oom_kills=1), "oom", None, 9),
        (record(CLD_KILLED, 15, oom_kills=1), "signaled", None, 15),
        (record(CLD_EXITED, 1, oom_kills=1), "exited", 1, None),
        (record(CLD_KILLED, 9, timed_out=True), "timeout", None, 9),
        (record(CLD_UNKNOWN, 0), "unknown", None, None),
        (record(CLD_UNSEEN, 0), "unknown", None, None),
    ],
)
def test_the_reason_and_exactly_one_number(found, reason, code, signal) -> None:
    """A code is never made up."""
    assert (found["reason"], found["exit_code"], found["signal"]) == (reason, code, signal)
    assert bool(found["unknown_because"]) == (reason == "unknown")


def test_a_container_that_never_started_has_no_start() -> None:
    """null, and the file is JSON with a newline."""
    found = record(CLD_KILLED, 9, started=0)
    assert found["started_at"] is None
    assert found["offset"] == 7
    assert json.loads(to_json(found)) == found
    assert to_json(found).endswith(b"}\n")


def test_the_longest_record_fits_into_the_room_that_is_kept_for_it() -> None:
    """It has no path in it: its counts are at their largest, its names at their longest."""
    most = 2**64 - 1
    ending = Ending(
        CLD_DUMPED, most, most, most, most, True, True,
        {"stdout": most, "stderr": most}, most, most, most,
    )  # fmt: skip
    found = exit_record("x" * 128, "f" * 32, ending, execution="y" * 128)

    assert len(to_json(found)) < RECORD_BYTES
