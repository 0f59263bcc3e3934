"""What a manager finds when a container has ended."""

import os

import pytest

from attachd.doors.conmon.duties import note_oom, status_of, write_status


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"exit_code": 0}, 0),
        ({"exit_code": 255, "signal": None}, 255),
        ({"exit_code": None, "signal": 9}, 137),
        ({"exit_code": None, "signal": 15, "timed_out": False}, 143),
        ({"exit_code": None, "signal": 9, "timed_out": True}, -1),
        ({"exit_code": None, "signal": None}, -1),
        ({}, -1),
        ({"exit_code": 3, "timed_out": True}, 3),
    ],
)
def test_an_ending_is_one_number(record, status) -> None:
    """-1 for what nobody knows, or whose time was over."""
    assert status_of(record) == status


def test_the_status_is_written_whole_without_a_newline(tmp_path) -> None:
    """A place that is not there keeps none from the other."""
    paths = [tmp_path / "missing" / "exit", tmp_path / "exit"]
    (tmp_path / "exit").write_text("an old and longer one")
    write_status([str(path) for path in paths], -1)
    assert os.listdir(tmp_path) == ["exit"]
    assert (tmp_path / "exit").read_text() == "-1"
    assert os.stat(tmp_path / "exit").st_mode & 0o777 == 0o644


def test_a_kill_for_want_of_memory_leaves_an_empty_file(tmp_path) -> None:
    """Again and again the same."""
    for _ in range(2):
        note_oom([str(tmp_path / "missing"), str(tmp_path)])
    assert (tmp_path / "oom").read_bytes() == b""
