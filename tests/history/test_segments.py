"""Lists and names: which files a log has, when all is well and when somebody was there."""

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.history import segments
from attachd.history.segments import (
    Rotated,
    Segment,
    packing_of,
    parse_rotated_name,
    rotated_name,
    segments_of,
)


class Shelf:
    """A state directory, and another one with log files."""

    def __init__(self, path: Path) -> None:
        self.state, self.logs = path / "web", path / "logs"
        self.state.mkdir()
        self.logs.mkdir()
        self.path = self.logs / "c.log"

    def file(self, name: str) -> int:
        """Make a file; return its inode."""
        (self.logs / name).write_bytes(b"")
        return os.stat(self.logs / name).st_ino

    def list(self, *files: tuple[str, int, int, int]) -> None:
        """Write ``log0.json``: name, first, start and inode of each file."""
        keys = ("name", "first", "start", "inode")
        listed = [dict(zip(keys, file, strict=True)) for file in files]
        record = {"schema": 1, "path": str(self.path), "format": "cri", "files": listed}
        (self.state / "log0.json").write_text(json.dumps(record))

    def segment(self, name: str, *rest: object) -> Segment:
        """Return a segment of the file ``name``."""
        return Segment(str(self.logs / name), *rest)


@pytest.fixture
def shelf(tmp_path) -> Shelf:
    """Both directories, empty."""
    return Shelf(tmp_path)


# Names


@given(first=st.integers(0, 10**20), again=st.integers(0, 99))
def test_a_name_says_what_was_put_into_it(first, again) -> None:
    """With and without a number and a packing."""
    name = rotated_name("c.log", first, again)

    assert parse_rotated_name("c.log", name) == Rotated(first, again, "")
    for packing in ("gz", "zst"):
        assert parse_rotated_name("c.log", f"{name}.{packing}") == Rotated(
            first, again, packing
        )
        assert packing_of(f"{name}.{packing}") == packing


def test_names_are_those_of_the_page() -> None:
    """docs/logs.md, "Files"; a base may be a path, and have dots."""
    assert rotated_name("c.log", 12345678) == "c.log.000000012345678"
    assert rotated_name("/a.b/c", 0, 2) == "/a.b/c.000000000000000-2"


@pytest.mark.parametrize(
    "name",
    [
        "c.log",
        "c.log.1",
        "c.log.00000001234567",
        "c.log.000000012345678.xz",
        "c.log.000000012345678-",
        "c.log.000000012345678\n",
        "c.log.00000001234567\u0661",
        "d.log.000000012345678",
        "c.log.000000012345678.gz.gz",
    ],
)
def test_other_names_are_no_rotated_files(name) -> None:
    """Whoever removes old files must not take somebody else's."""
    assert parse_rotated_name("c.log", name) is None


def test_only_two_suffixes_are_packings() -> None:
    """Anything else is read as it is."""
    assert packing_of("c.log") == packing_of("c.gzip") == packing_of("c.gz.1") == ""


# logN.json


def test_files_follow_each_other(shelf) -> None:
    """Each ends where the next begins, and nobody knows where the last one ends."""
    gz, plain, active = map(shelf.file, ["c.log.0.gz", "c.log.1", "c.log"])
    shelf.list(("c.log.0.gz", 0, 7, gz), ("c.log", 20, 3, active), ("c.log.1", 10, 0, plain))

    assert segments_of(str(shelf.state), 0) == (
        "cri",
        [
            shelf.segment("c.log.0.gz", 0, 7, None, 10, gz, "gz"),
            shelf.segment("c.log.1", 10, 0, None, 20, plain),
            shelf.segment("c.log", 20, 3, None, None, active),
        ],
    )


def test_a_file_that_is_gone_is_left_out(shelf) -> None:
    """The one before it still ends where it began."""
    old, new = shelf.file("c.log.0"), shelf.file("c.log")
    shelf.list(("c.log.0", 0, 0, old), ("c.log.1", 10, 0, 1), ("c.log", 20, 0, new))
    found = segments_of(str(shelf.state), 0)[1]

    assert [(s.first, s.end) for s in found] == [(0, 10), (20, None)]


def test_the_last_file_is_listed_also_when_it_is_gone(shelf) -> None:
    """Its reader is to be told, as nobody else knows how much was in it."""
    shelf.list(("c.log", 20, 0, 1))

    assert segments_of(str(shelf.state), 0)[1] == [
        shelf.segment("c.log", 20, 0, None, None, 1)
    ]


def test_a_file_that_was_renamed_is_found_by_its_inode(shelf) -> None:
    """Packed as its old name says, also when another file has that name now."""
    inode = shelf.file("c.log.0.gz")
    (shelf.logs / "c.log.0.gz").rename(shelf.logs / "saved")
    shelf.list(("c.log.0.gz", 0, 0, inode), ("c.log", 5, 0, shelf.file("c.log")))
    expected = shelf.segment("saved", 0, 0, None, 5, inode, "gz")

    assert segments_of(str(shelf.state), 0)[1][0] == expected
    shelf.file("c.log.0.gz")
    assert segments_of(str(shelf.state), 0)[1][0] == expected


def test_an_inode_is_trusted_only_while_the_list_is_the_same(shelf, monkeypatch) -> None:
    """A file that was removed may have left its inode to a new one."""
    new, active = shelf.file("c.log.1.new"), shelf.file("c.log")
    shelf.list(("c.log.0", 0, 0, new), ("c.log", 9, 0, active))
    look = segments._find_inode

    def look_while_it_is_removed(directory: str, inode: int) -> str | None:
        found = look(directory, inode)
        shelf.list(("c.log", 9, 0, active))
        return found

    monkeypatch.setattr(segments, "_find_inode", look_while_it_is_removed)

    assert segments_of(str(shelf.state), 0)[1] == [
        shelf.segment("c.log", 9, 0, None, None, active)
    ]


@pytest.mark.parametrize("name", ["c.log", "c.log.0"])
def test_a_file_whose_inode_a_later_one_has_is_gone(shelf, name) -> None:
    """Whatever it was called: what is in the later one is at other offsets."""
    new = shelf.file("c.log")
    shelf.list((name, 0, 7, new), ("c.log", 9, 7, new))

    assert segments_of(str(shelf.state), 0)[1] == [
        shelf.segment("c.log", 9, 7, None, None, new)
    ]


def test_a_file_that_is_gone_on_in_later_is_there_twice(shelf) -> None:
    """Somebody has moved it away, and back."""
    back, between = shelf.file("c.log"), shelf.file("c.log.1")
    shelf.list(("c.log", 0, 0, back), ("c.log.1", 4, 0, between), ("c.log", 9, 70, back))

    assert segments_of(str(shelf.state), 0)[1] == [
        shelf.segment("c.log", 0, 0, None, 4, back),
        shelf.segment("c.log.1", 4, 0, None, 9, between),
        shelf.segment("c.log", 9, 70, None, None, back),
    ]


def test_a_file_is_not_gone_because_nobody_could_look(shelf, monkeypatch) -> None:
    """Without descriptors, say: then it is told why, and not that output is missing."""
    shelf.list(("c.log.0", 0, 0, 1), ("c.log", 9, 0, shelf.file("c.log")))

    def fail(_: str) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(segments.os, "scandir", fail)
    with pytest.raises(UsageError, match="Too many open files"):
        segments_of(str(shelf.state), 0)


def test_a_list_that_never_rests_is_taken_as_it_is(shelf, monkeypatch) -> None:
    """After some tries: a reader must not be kept for ever."""
    times = 0

    def look(directory: str, inode: int) -> None:
        nonlocal times
        times += 1
        shelf.list(("c.log.0", 0, 0, 1), ("c.log", times, 0, 1))

    shelf.list(("c.log.0", 0, 0, 1), ("c.log", 0, 0, 1))
    monkeypatch.setattr(segments, "_find_inode", look)

    assert len(segments_of(str(shelf.state), 0)[1]) == 1
    assert times < 20


def test_a_directory_of_logs_that_is_gone_has_no_files(shelf) -> None:
    """Only the last file is listed, for its reader to be told."""
    shelf.logs.rmdir()
    shelf.list(("c.log.0", 0, 0, 1), ("c.log", 9, 0, 1))

    assert [s.first for s in segments_of(str(shelf.state), 0)[1]] == [9]


def test_inode_0_is_any_file(shelf) -> None:
    """A name alone is enough then."""
    shelf.file("c.log.0")
    shelf.file("c.log")
    shelf.list(("c.log.0", 0, 0, 0), ("c.log", 5, 0, 0))

    assert [s.inode for s in segments_of(str(shelf.state), 0)[1]] == [0, 0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"files": 5}',
        '{"files": [{}]}',
        '{"files": [5]}',
        '{"files": []}',
        "{",
    ],
)
def test_a_damaged_list_is_an_error(shelf, text) -> None:
    """It names the file that is to be looked at."""
    (shelf.state / "log0.json").write_text(text)

    with pytest.raises(
        UsageError, match=r"cannot read the log .*/web/log0\.json: it is damaged"
    ):
        segments_of(str(shelf.state), 0)


def test_a_list_that_cannot_be_read_is_an_error(shelf) -> None:
    """With the system's reason."""
    (shelf.state / "log0.json").mkdir()

    with pytest.raises(UsageError, match=r"cannot read the log .*/log0\.json: Is a directory"):
        segments_of(str(shelf.state), 0)


# state.json


def test_a_shim_that_does_not_rotate_has_one_file(shelf) -> None:
    """``state.json`` tells of it; its inode is unknown."""
    log = {"format": "raw", "path": str(shelf.path), "start": 7}
    (shelf.state / "state.json").write_text(json.dumps({"logs": [log, log | {"start": 9}]}))

    assert segments_of(str(shelf.state), 1) == (
        "raw",
        [shelf.segment("c.log", 0, 9, None, None, 0)],
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, r"no container web: its state\.json is missing"),
        ("{", r"cannot read the log .*/state\.json: it is damaged"),
        ('{"logs": [5, 5, 5]}', r"cannot read the log .*/state\.json: it is damaged"),
        ('{"logs": []}', r"web keeps no log \(--log none\)"),
        ("{}", r"web keeps no log \(--log none\)"),
        ("[]", r"web keeps no log \(--log none\)"),
        ('{"logs": [{}, {}]}', "web has no log 2, only 2"),
    ],
)
def test_no_log_is_an_error(shelf, text, error) -> None:
    """It says whether there is none at all, or not so many."""
    if text is not None:
        (shelf.state / "state.json").write_text(text)

    with pytest.raises(UsageError, match=error):
        segments_of(f"{shelf.state}/", 2)
