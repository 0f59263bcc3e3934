"""The manager's pipes: their numbers, and the lines that are told there."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.manager import Manager, Wanted
from attachd.doors.conmon.pipes import Pipes, line, tell
from attachd.errors import AttachdError, RuntimeFailed
from attachd.keeper import console
from attachd.keeper.runtime import TIMEOUT


def test_numbers_become_descriptors_that_nobody_inherits() -> None:
    """What is not named, or is 0, is not there."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    assert Pipes.of({"_OCI_SYNCPIPE": str(read), "_OCI_STARTPIPE": "0"}) == (read, -1, -1)
    assert not os.get_inheritable(read)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("text", ["x", "-1", "3.0", " 3", "٣", "1048575", "9" * 40])
def test_what_is_no_open_descriptor_is_refused_by_its_name(text) -> None:
    """In one line."""
    with pytest.raises(AttachdError, match="_OCI_SYNCPIPE"):
        Pipes.of({"_OCI_SYNCPIPE": text})


def test_a_line_is_as_managers_parse_it() -> None:
    """One space after colon and comma, a newline at the end."""
    assert line("data", 7) == b'{"data": 7}\n'
    assert line("pid", -1, 'no "x"\n') == b'{"pid": -1, "message": "no \\"x\\"\\n"}\n'


def test_nobody_who_reads_is_no_error() -> None:
    """Nor is a pipe that was not given."""
    read, write = os.pipe()
    os.close(read)
    tell(write, b"x")
    tell(-1, b"x")
    os.close(write)


def told(error: AttachdError, **wanted: bool) -> dict:
    """Return what a manager reads of a failure."""
    read, write = os.pipe2(os.O_NONBLOCK)
    made = Manager(Pipes(sync=write), Wanted(failure_key="data", **wanted), -1, ())
    made.tell_failure(error)
    os.close(write)
    data = os.read(read, 65536)
    os.close(read)
    assert len(data) <= 4096
    found: dict = json.loads(data)
    assert found["data"] == -1
    return found


@given(st.text(max_size=3000), st.integers(1, 6))
def test_whatever_a_runtime_has_said_its_beginning_can_be_read(words, times) -> None:
    """Within what Podman reads: 4096 bytes of JSON. An empty one is none."""
    words *= times
    found = told(RuntimeFailed("create", 1, "it failed", words)).get("message", "")
    clean = words.encode(errors="replace").decode()
    assert clean.startswith(found)
    assert found or not words
    if len(json.dumps(clean, ensure_ascii=False).encode()) < 4000:
        assert found == clean


@pytest.mark.parametrize(
    "character", ["\x01", '"', "\\", "\u00e9", "\U0001f600", "\udcff", "x"]
)
def test_the_longest_words_still_say_something(character) -> None:
    """However many bytes each character takes."""
    assert told(RuntimeFailed("create", 1, "", character * 40_000))["message"]


@pytest.mark.parametrize(
    ("error", "wanted", "message"),
    [
        (RuntimeFailed("create", 1, "silently", ""), {}, None),
        (RuntimeFailed("exec", 1, "silently", ""), {"own_words": True}, "silently"),
        (RuntimeFailed(TIMEOUT, 137, "not done", ""), {}, "not done"),
        (AttachdError(console.NOT_SET_UP), {}, "Runtime did not set up terminal"),
        (AttachdError("no room"), {}, "no room"),
    ],
)
def test_who_says_nothing_is_spoken_for_where_conmon_does(error, wanted, message) -> None:
    """And not where a manager has other sources."""
    assert told(error, **wanted).get("message") == message


def test_failed_lets_go_what_the_next_call_may_need_and_runs_the_command(tmp_path) -> None:
    """In this order: what was held is closed, the line is told, the pipe ends, the command runs."""
    read, write = os.pipe2(os.O_NONBLOCK)
    held, other = os.pipe2(os.O_NONBLOCK)
    command = ("/bin/sh", "-c", f"echo $WORD >{tmp_path}/told")
    made = Manager(
        Pipes(sync=write), Wanted(failure_key="data", exit_command=command), -1, (other,)
    )
    made.failed(AttachdError("no"), {"WORD": "from the manager"})
    assert os.read(held, 1) == b""
    assert os.read(read, 100) == b'{"data": -1, "message": "no"}\n'
    assert os.read(read, 100) == b""
    assert (tmp_path / "told").read_text() == "from the manager\n"
    os.close(read)
    os.close(held)
