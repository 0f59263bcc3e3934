"""What conman reads: the report and the exit file, to the byte."""

import json

import pytest

from attachd.doors.shimmy.formats import exit_file, report_of_error, report_of_pid
from attachd.errors import AttachdError, RuntimeFailed

AT = "2020-01-26T14:56:03.000000001Z"


def test_a_pid_is_reported_as_shimmy_does() -> None:
    """No space, no newline: conman reads up to the end of the pipe."""
    assert report_of_pid(4711) == b'{"kind":"container_pid","pid":4711}'


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (1, "Runtime Exited with code 1."),
        (3, "Runtime Exited with code 3."),
        (128, "Runtime Exited with code 128."),
        (137, "Runtime Received signal SIGKILL."),
        (255, "Runtime Exited with code 255."),
    ],
)
def test_a_runtimes_end_is_told_in_shimmys_words(status, told) -> None:
    """What the runtime said comes as it was said, its newlines too."""
    error = RuntimeFailed("create", status, "one line", 'many\n"lines"\n')

    assert json.loads(report_of_error(error)) == {
        "kind": "runtime_abnormal_termination",
        "status": told,
        "stderr": 'many\n"lines"\n',
    }


def test_of_a_silent_runtime_our_own_words_are_told() -> None:
    """One that cannot be executed, or was too slow, has said nothing."""
    error = RuntimeFailed("exec", 126, "cannot run /x: Permission denied", "")

    assert json.loads(report_of_error(error))["stderr"] == "cannot run /x: Permission denied"


def test_a_failure_of_ours_is_no_failure_of_the_runtime() -> None:
    """conman takes a kind that it does not know for a failure, and shows the status."""
    told = json.loads(report_of_error(AttachdError("the disk is full")))

    assert told == {"kind": "shim_failure", "status": "the disk is full", "stderr": ""}


@pytest.mark.parametrize(
    ("code", "number", "told"),
    [
        (0, None, f'{{"at": "{AT}", "reason": "exited", "exitCode": 0}}'),
        (255, None, f'{{"at": "{AT}", "reason": "exited", "exitCode": 255}}'),
        (None, 9, f'{{"at": "{AT}", "reason": "signaled", "signal": 9}}'),
        (None, None, f'{{"at": "{AT}", "reason": "unknown"}}'),
    ],
)
def test_the_exit_file_tells_code_or_signal(code, number, told) -> None:
    """Only the one that there is; one that nobody knows is not made up."""
    record = {"finished_at": AT, "exit_code": code, "signal": number}

    assert exit_file(record) == told.encode()
