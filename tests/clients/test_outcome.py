"""A container's end, for a shell and for a person."""

import pytest
from attachd_clients.outcome import UNKNOWN, sentence, shell_code

from attachd.state import exitrecord
from attachd.state.exitrecord import CLD_DUMPED, CLD_EXITED, CLD_KILLED, CLD_UNKNOWN, Ending

BEGAN = Ending(
    code=CLD_EXITED,
    status=0,
    finished=2,
    started=1,
    oom_kills=0,
    timed_out=False,
    drained=True,
    streams={"stdout": 0, "stderr": 0},
    log_offset=0,
    log_dropped=0,
    restarts=0,
)

ENDS = [
    (BEGAN, 0, "exited with 0"),
    (BEGAN._replace(status=7), 7, "exited with 7"),
    (BEGAN._replace(status=255), 255, "exited with 255"),
    (BEGAN._replace(code=CLD_KILLED, status=15), 143, "killed by signal 15"),
    (BEGAN._replace(code=CLD_DUMPED, status=11), 139, "killed by signal 11"),
    (BEGAN._replace(code=CLD_KILLED, status=9, oom_kills=1), 137, "killed by signal 9 (oom)"),
    (
        BEGAN._replace(code=CLD_KILLED, status=9, timed_out=True),
        137,
        "killed by signal 9 (timeout)",
    ),
    (BEGAN._replace(status=3, timed_out=True), 3, "exited with 3"),
    (BEGAN._replace(code=CLD_UNKNOWN, status=0), UNKNOWN, "ended, nobody knows how"),
]


@pytest.mark.parametrize(("end", "code", "words"), ENDS, ids=[words for *_, words in ENDS])
def test_every_end_has_a_code_and_a_sentence(end, code, words) -> None:
    """From the record as the shim writes it: a code, 128+n, or 125 when nobody knows."""
    record = exitrecord.exit_record("web", "00", end)

    assert shell_code(record) == code
    assert sentence(record) == words


def test_a_record_that_says_nothing_is_unknown() -> None:
    """A damaged file is no reason to claim success."""
    assert shell_code({}) == UNKNOWN
    assert shell_code({"exit_code": None, "signal": None}) == UNKNOWN
