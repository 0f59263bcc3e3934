"""Cursors: what a follower finds of itself, also when it was killed while saving."""

import json
import os
from pathlib import Path

import pytest
from attachd_clients.cursor import Cursor
from attachd_clients.lines import Position
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError

OFFSETS = st.integers(0, 2**63 - 1)
POSITIONS = st.none() | st.builds(
    Position, OFFSETS, st.dictionaries(st.sampled_from(["stdout", "stderr"]), OFFSETS)
)
MEMOS = st.none() | st.integers() | st.text() | st.dictionaries(st.text(), st.integers())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cursors") / "web"


@given(POSITIONS, MEMOS, st.booleans())
def test_what_was_saved_is_found(path, position, memo, sync) -> None:
    """Position, stream and memo, as they were; nothing lies beside them."""
    cursor = Cursor(path)
    cursor.adopt("stream")
    cursor.save(position, memo, sync=sync)
    found = Cursor(path)

    assert (found.stream_id, found.position, found.memo) == ("stream", position, memo)
    assert os.listdir(path.parent) == ["web"]


def test_without_a_file_nothing_was_handled(tmp_path) -> None:
    """And none is made before the first save."""
    cursor = Cursor(tmp_path / "web")

    assert (cursor.stream_id, cursor.position, cursor.memo) == ("", None, None)
    assert not os.listdir(tmp_path)


def test_another_stream_begins_at_its_start_and_the_sink_goes_on(tmp_path) -> None:
    """The position is forgotten, the memo is not; its own stream changes nothing."""
    cursor = Cursor(tmp_path / "web")
    cursor.adopt("one")
    cursor.save(Position(7), 700)
    cursor.adopt("one")
    assert cursor.position == Position(7)
    cursor.adopt("two")

    assert (cursor.stream_id, cursor.position, cursor.memo) == ("two", None, 700)


def test_one_who_was_killed_while_saving_left_the_old_cursor(tmp_path) -> None:
    """What it had begun to write is removed by the next."""
    cursor = Cursor(tmp_path / "web")
    cursor.save(Position(7))
    (tmp_path / "web.new").write_text('{"schema": 1, "stre')

    assert Cursor(tmp_path / "web").position == Position(7)
    assert os.listdir(tmp_path) == ["web"]


def test_a_cursor_that_cannot_be_saved_is_still_the_old_one(tmp_path) -> None:
    """The error is the caller's; the file is whole."""
    cursor = Cursor(tmp_path / "web")
    cursor.save(Position(7))
    (tmp_path / "web.new").mkdir()
    with pytest.raises(OSError, match=r"web\.new"):
        cursor.save(Position(8))
    (tmp_path / "web.new").rmdir()

    assert Cursor(tmp_path / "web").position == Position(7)


GOOD = {"schema": 1, "stream_id": "s", "offset": 1, "ahead": {}, "memo": None}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "7", "null", "\xff\xfe", '"x"', '{"schema": 1}', "{}"]
    + [
        json.dumps(GOOD | change)
        for change in (
            {"schema": 2},
            {"offset": -1},
            {"offset": "1"},
            {"offset": True},
            {"offset": 1.5},
            {"ahead": {"stdin": 1}},
            {"ahead": {"stdout": -1}},
            {"ahead": 7},
        )
    ],
)
def test_a_foreign_file_is_told_in_one_line(tmp_path, text) -> None:
    """It is not overwritten: somebody may need it."""
    (tmp_path / "web").write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="is no cursor") as caught:
        Cursor(tmp_path / "web")

    assert "\n" not in str(caught.value)
    assert (tmp_path / "web").read_text(encoding="latin-1") == text


def test_a_cursor_that_may_not_be_read_is_told_in_one_line(tmp_path) -> None:
    """Like a directory of that name."""
    (tmp_path / "web").mkdir()
    with pytest.raises(UsageError, match="cannot read the cursor"):
        Cursor(tmp_path / "web")
