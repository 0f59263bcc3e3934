"""History is the output, byte for byte and offset for offset, or says what is missing."""

import gc
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from history.reference import (
    NOW,
    PACKINGS,
    RECORDS,
    SECOND,
    Log,
    Record,
    any_log,
    flat,
    letters,
    offset_in,
    pack,
    write,
)
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.history.reading import Chunk, History, Missed
from attachd.history.segments import segments_of
from attachd.state.logparse import GRAMMARS
from attachd.state.ring import STDERR, STDOUT

every_form = pytest.mark.parametrize("form", list(GRAMMARS))
every_packing = pytest.mark.parametrize("packing", sorted(set(PACKINGS)))


def read(log: Log, offset: int = 0) -> list[object]:
    """Return every byte from ``offset`` on."""
    return flat(list(log.history().read(offset)), offset)


@pytest.fixture
def log(tmp_path) -> Log:
    """A cri log without files."""
    return Log(str(tmp_path), "cri")


# Everything against the truth


@every_form
@given(data=st.data())
def test_all_output_is_read_from_any_offset(form, data) -> None:
    """Over files of every kind, forward and where it begins near the end of one."""
    with any_log(form, data) as log:
        for number in range(len(log.segments)):
            if data.draw(st.booleans(), "size is unknown"):
                log.change(number, size=None)
        offset = offset_in(log, data)

        assert read(log, offset) == log.expected(offset)


@every_form
@given(records=RECORDS, more=RECORDS, offset=st.integers(0, 200))
def test_the_last_file_is_read_to_its_end(form, records, more, offset) -> None:
    """When nobody knows where that is; a line without its end is not told."""
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        log.add(records)
        log.add(more)
        log.change(1, size=None, end=None)
        if form != "raw":
            with open(log.segments[1].path, "ab") as file:
                file.write(write(form, Record(STDOUT, NOW, b"half\n"))[:-1])

        assert read(log, offset) == log.expected(offset)


@every_form
def test_what_is_not_committed_is_not_read(tmp_path, form) -> None:
    """The writer may take it back; wherever reading begins."""
    log = Log(str(tmp_path), form)
    log.add(letters("abc"), b"before\n")
    with open(log.segments[0].path, "ab") as file:
        file.write(b"".join(write(form, record) for record in letters("def")))
    for offset in range(9):
        assert read(log, offset) == log.expected(offset)


def test_no_files_tell_nothing(log) -> None:
    """Not even that anything is missing."""
    history = log.history()

    assert list(history.read(0)) == []
    assert history.newline_before(9, 1) == 0
    assert history.at_time(0) == 0


def test_a_file_without_output_is_nothing(log) -> None:
    """Several may begin at one offset; the last one is the right one."""
    for text in ("", "ab", "", "", "c", ""):
        log.add(letters(text))
    log.change(5, size=None, end=None)

    assert read(log) == log.expected(0)
    assert read(log, 4) == log.expected(4)
    assert log.history().newline_before(6, 2) == 4


def test_what_was_before_an_empty_file_is_missed(log) -> None:
    """Retention has removed it, and the container has said nothing since."""
    log.truth = [None] * 5
    log.add([])
    log.change(0, size=None, end=None)

    assert list(log.history().read(2)) == [Missed(2, 5)]


def test_an_unknown_format_is_an_error() -> None:
    """A later attachd may have written the log."""
    with pytest.raises(UsageError, match="the log's format 'xml' is unknown to this attachd"):
        History(list, "xml")


# Files that are gone


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_file_that_was_removed_is_missed(log, is_listed) -> None:
    """In the middle or at the beginning, and whether or not the list knows already."""
    paths = [log.add(letters(text)) for text in ("abc", "def", "ghi", "jkl")]
    for number in (2, 0):
        os.unlink(paths[number])
        log.lose(6 * number, 6 * number + 6)
        if not is_listed:
            del log.segments[number]
    for offset in range(24):
        assert read(log, offset) == log.expected(offset)
        assert log.history().newline_before(offset, 4) == log.newline_before(offset, 4)
    assert log.listed < 24 * 60  # it has been listed again, and not for ever


def test_another_file_of_the_name_is_not_read(log) -> None:
    """It has other output, or that of another container."""
    path = log.add(letters("abc"))
    log.add(letters("def"))
    os.rename(path, f"{path}.saved")
    shutil.copy(f"{path}.saved", path)
    log.lose(0, 6)

    assert read(log) == log.expected(0)


def test_a_file_that_has_moved_is_looked_for_again(log) -> None:
    """It was rotated, and packed, after it was listed."""
    path = log.add(letters("abc"))
    new = f"{path}.gz"
    Path(new).write_bytes(pack(Path(path).read_bytes(), "gz"))
    os.unlink(path)
    moved = log.segments[0]._replace(path=new, inode=os.stat(new).st_ino, packing="gz")
    lists = [[moved], [], *[[log.segments[0]]] * 2]
    history = History(lambda: lists.pop() if len(lists) > 2 else [moved], "cri")

    assert flat(list(history.read(0)), 0) == log.expected(0)


def test_the_file_being_written_must_be_there(log) -> None:
    """Nobody knows how much is missed, so what was before it is told and then an error."""
    log.add(letters("abc"))
    os.unlink(log.add(letters("def")))
    log.change(1, size=None, end=None)
    told: list[Chunk | Missed] = []

    with pytest.raises(
        UsageError, match=r"cannot read the log .*: it is gone, or another file"
    ):
        told.extend(log.history().read(0))
    assert flat(told, 0) == log.expected(0)[:6]
    with pytest.raises(UsageError, match="cannot read the log"):
        log.history().newline_before(20, 1)


@every_packing
def test_rotation_while_a_file_is_read_loses_nothing(log, packing) -> None:
    """The open file is read to its end; the next ones are where they are then."""
    log.add(letters("abcdefgh"), packing=packing)
    active = log.add(letters("ijklmnop"))
    items = log.history().read(0)
    told = [next(items)]
    os.unlink(log.segments[0].path)
    os.rename(active, f"{active}.1")
    log.change(1, path=f"{active}.1")
    log.add(letters("qrs"))
    told += items

    assert flat(told, 0) == log.expected(0)


def test_a_log_that_grows_is_read_until_it_grows_no_more(log) -> None:
    """Each listing may tell of more in the file that was the last one."""
    path = log.add(letters("abc"))
    items = log.history().read(0)
    told = [next(items)]
    with open(path, "ab") as file:
        size = file.tell() + file.write(b"".join(write("cri", r) for r in letters("de")))
    log.change(0, size=size, end=10)
    told += items
    log.segments.clear()
    log.truth.clear()
    log.add(letters("abcde"))

    assert flat(told, 0) == log.expected(0)


@every_packing
def test_nothing_stays_open(log, packing) -> None:
    """When an iterator is closed at any item, also at what is missed before a file."""
    log.truth = [None] * 4
    log.add(letters("abcdefgh" * 30), packing=packing)
    log.add(letters("ijk"), packing=packing)
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for count in range(12):
        items = log.history().read(0)
        for _, _ in zip(range(count), items, strict=False):
            pass
        items.close()
        assert os.listdir("/proc/self/fd") == before
    log.history().newline_before(200, 3)
    log.history().at_time(NOW)

    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_packed_file_that_is_damaged_is_missed_from_there(log) -> None:
    """What could be read is told."""
    path = log.add(
        [Record(STDOUT, NOW + at, b"%d\n" % at) for at in range(3000)], packing="gz"
    )
    os.truncate(path, os.path.getsize(path) // 2)
    log.add(letters("z"))
    items = list(log.history().read(0))
    told = flat(items, 0)
    good = next(at for at, byte in told if byte is None)

    assert good > 1000
    assert told[:good] == log.expected(0)[:good]
    assert [type(item) for item in items[-2:]] == [Missed, Chunk]
    assert items[-2] == Missed(good, log.segments[1].first)


# Lists that the shim has written


@every_form
def test_a_state_directory_is_all_it_takes(tmp_path, form) -> None:
    """``logN.json``, and a file that somebody has renamed."""
    log = Log(str(tmp_path), form)
    log.truth = [None] * 7
    for text, packing in (("abc", "gz"), ("def", ""), ("ghi", "")):
        log.add(letters(text), b"earlier\n", packing)
    files = [
        {
            "name": os.path.basename(s.path),
            "first": s.first,
            "start": s.start,
            "inode": s.inode,
        }
        for s in log.segments
    ]
    os.rename(log.segments[1].path, tmp_path / "mine")
    record = {"schema": 1, "path": log.base, "format": form, "files": files}
    (tmp_path / "log0.json").write_text(json.dumps(record))
    found, _ = segments_of(str(tmp_path), 0)
    history = History(lambda: segments_of(str(tmp_path), 0)[1], found)
    for offset in range(len(log.truth) + 2):
        assert flat(list(history.read(offset)), offset) == log.expected(offset)


# Newlines


def test_no_newline_is_the_offset_itself(log) -> None:
    """``tail:0`` begins at the end."""
    log.add(letters("abc"))

    assert log.history().newline_before(5, 0) == 5


@every_packing
def test_newlines_are_counted_over_files(log, packing) -> None:
    """However many, and not those at or behind the end."""
    for text in ("abc", "d", "efg"):
        log.add(letters(text), packing=packing)
    for end in range(15):
        for count in (1, 2, 3, 5, 99):
            found = log.history().newline_before(end, count)

            assert found == log.newline_before(end, count)


# Times


def at_time_model(log: Log, ns: int) -> int:
    """Return the first offset whose byte is not older."""
    found = (at for at, byte in enumerate(log.truth) if byte and byte[1] >= ns)
    return next(found, len(log.truth))


@given(
    times=st.lists(st.integers(0, 20).map(lambda at: NOW + at), max_size=12).map(sorted),
    files=st.lists(st.integers(0, 12), max_size=3).map(sorted),
    gone=st.integers(0, 8),
    ns=st.integers(-1, 21).map(lambda at: NOW + at),
    packing=st.sampled_from(["", "gz"]),
)
def test_a_time_is_where_output_begins_that_is_not_older(
    times, files, gone, ns, packing
) -> None:
    """Over any files, some of which are empty or gone."""
    records = [Record(STDERR, when, b"x\n") for when in times]
    with TemporaryDirectory() as directory:
        log = Log(directory, "cri")
        bounds = [0, *files, len(records)]
        for start, end in pairwise(bounds):
            log.add(records[start:end], packing=packing)
        if gone < len(log.segments):
            segment = log.segments[gone]
            os.unlink(segment.path)
            log.lose(segment.first, segment.end)

        assert log.history().at_time(ns) == at_time_model(log, ns)


@given(
    files=st.lists(
        st.lists(st.integers(0, 9).map(lambda at: NOW + at), max_size=4), max_size=4
    ),
    ns=st.integers(-1, 10).map(lambda at: NOW + at),
)
def test_a_clock_that_jumps_is_no_error(files, ns) -> None:
    """Some output that is not older begins there, or it is the end."""
    with TemporaryDirectory() as directory:
        log = Log(directory, "cri")
        for times in files:
            log.add([Record(STDOUT, when, b"x\n") for when in times])
        at = log.history().at_time(ns)

        assert at == len(log.truth) or (at % 2 == 0 and log.truth[at][1] >= ns)


def test_a_raw_log_has_no_times(tmp_path) -> None:
    """All of it is of time 0."""
    log = Log(str(tmp_path), "raw")
    log.add(letters("abc"))

    assert [log.history().at_time(ns) for ns in (0, 1, SECOND)] == [0, 6, 6]
