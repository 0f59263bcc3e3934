"""Offsets are exact where they can be, and the way back gives what the way forward does."""

import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from history.reference import (
    RECORDS,
    Log,
    any_log,
    flat,
    letters,
    offset_in,
    truth_of,
    write,
    write_gap,
)
from hypothesis import given
from hypothesis import strategies as st

from attachd.history import unpack
from attachd.history.counting import Chunk, Counter
from attachd.state.logparse import GRAMMARS, Corrupt

every_form = pytest.mark.parametrize("form", list(GRAMMARS))
with_lines = pytest.mark.parametrize("form", ["cri", "json-file", "shimmy"])


@pytest.fixture
def log(tmp_path) -> Log:
    """A cri log without files."""
    return Log(str(tmp_path), "cri")


# Corrupt lines

#: Records, each with True where its line is damaged.
DAMAGED = RECORDS.flatmap(
    lambda records: st.tuples(*(st.tuples(st.just(r), st.booleans()) for r in records))
)


def damage(text: bytes, form: str) -> tuple[bytes, int]:
    """Return a line that is no record any more, and about how much it stood for."""
    text = b"x" + text[1:]
    [corrupt] = GRAMMARS[form].parse(text)
    assert isinstance(corrupt, Corrupt)
    return text, corrupt.size


def tell(form, damaged, is_end_known) -> tuple[list[bytes], list[object]]:
    """Return lines, and what is to be told of them, by counting."""
    left = sum(len(record.data) for record, is_bad in damaged if is_bad)
    lines = sum(is_bad for _, is_bad in damaged)
    texts, told = [], []
    for record, is_bad in damaged:
        text = write(form, record)
        if is_bad:
            text, size = damage(text, form)
            lines -= 1
            if is_end_known:
                size = min(size, left) if lines else left
                left -= size
            told += [None] * size
        else:
            told += truth_of(form, [record])
        texts.append(text)
    return texts, told


@with_lines
@given(
    before=DAMAGED, gap=st.integers(0, 9), behind=DAMAGED, known=st.booleans(), data=st.data()
)
def test_good_lines_behind_the_last_corrupt_one_are_exact(
    form, before, gap, behind, known, data
) -> None:
    """Where a gap record or the end of the file says how much is missing; else it is guessed."""
    texts, told = tell(form, before, is_end_known=True)
    place = len(told)
    more, last = tell(form, behind, is_end_known=known)
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        text = [*texts, write_gap(form, place, place + gap), *more]
        log.add_text(text, [*told, *[None] * gap, *last])
        if not known:
            log.change(0, end=None)
        offset = data.draw(st.integers(0, len(log.truth)))
        history = log.history()

        assert flat(list(history.read(offset)), offset) == log.expected(offset)
        if offset == 0:
            assert history.corrupt == sum(is_bad for _, is_bad in (*before, *behind))


def test_a_foreign_line_hides_nothing(log) -> None:
    """Nothing is missing, so nothing is told to be; but it is counted."""
    lines = [write("cri", record) for record in letters("ab")]
    log.add_text([lines[0], b"I was here\n" * 9, lines[1]], truth_of("cri", letters("ab")))
    history = log.history()

    assert flat(list(history.read(0)), 0) == log.expected(0)
    assert history.corrupt == 9


@pytest.mark.parametrize("is_known", [True, False])
def test_a_corrupt_line_at_the_end_is_missed(log, is_known) -> None:
    """All that is missing, or about as much as its length says."""
    [line] = [write("cri", record) for record in letters("a")]
    size = 7 if is_known else 2
    log.add_text([line, b"x" + line[1:]], [*truth_of("cri", letters("a")), *[None] * size])
    if not is_known:
        log.change(0, end=None)

    assert flat(list(log.history().read(0)), 0) == log.expected(0)


def test_corrupt_lines_are_counted_when_the_reader_stops_early(log) -> None:
    """Those that it has met."""
    [line] = [write("cri", record) for record in letters("a")]
    log.add_text([b"x\n", line, b"x" * 200 + b"\n", line], [])
    log.change(0, end=None)
    history = log.history()
    items = history.read(0)
    next(items)
    items.close()

    assert history.corrupt == 1


# Text that does not fit


@with_lines
@given(before=RECORDS, behind=RECORDS, less=st.integers(0, 20), more=st.integers(0, 20))
def test_text_that_claims_too_much_is_cut(form, before, behind, less, more) -> None:
    """No offset is told twice: neither the next file's nor those before a gap's end."""
    size = sum(len(record.data) for record in before)
    start, rest = max(0, size - less), sum(len(record.data) for record in behind)
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        gap = write_gap(form, start, start)
        texts = [write(form, record) for record in (*before, *behind)]
        texts.insert(len(before), gap)
        truth = [*truth_of(form, before), *truth_of(form, behind)[size - start :]]
        end = max(0, max(size, start + rest) - more)
        log.add_text(texts, truth[:end])
        log.change(0, size=None)
        log.add(letters("z"))

        assert flat(list(log.history().read(0)), 0) == log.expected(0)


def test_a_gap_that_goes_too_far_ends_with_the_file(log) -> None:
    """What comes behind it is not told, as the next file has it."""
    a, b = [write("cri", record) for record in letters("ab")]
    log.add_text(
        [a, write_gap("cri", 9, 20), b], [*truth_of("cri", letters("a")), *[None] * 8]
    )
    log.add(letters("c"))

    assert flat(list(log.history().read(0)), 0) == log.expected(0)


@every_form
@given(data=st.data(), is_size_known=st.booleans())
def test_a_file_that_was_cut_is_missed_from_there(form, data, is_size_known) -> None:
    """Wherever it was cut, also in the middle of a line, and wherever reading begins."""
    records = data.draw(RECORDS.filter(bool))
    lines = [write(form, record) for record in records]
    lost = data.draw(st.integers(1, len(b"".join(lines))))
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        path = log.add(records)
        os.truncate(path, os.path.getsize(path) - lost)
        good = -lost if form == "raw" else -data_lost(records, lines, lost)
        log.lose(len(log.truth) + good, len(log.truth))
        if not is_size_known:
            log.change(0, size=None)
        log.add(letters("z"))
        offset = offset_in(log, data)
        end = min(len(log.truth), offset_in(log, data))

        assert flat(list(log.history().read(offset)), offset) == log.expected(offset)
        assert log.history().newline_before(end, 3) == log.newline_before(end, 3)


def data_lost(records, lines, lost) -> int:
    """Return how much output was in lines that ``lost`` bytes of text are missing of."""
    size = 0
    for record, line in zip(reversed(records), reversed(lines), strict=True):
        if lost <= 0:
            break
        size += len(record.data)
        lost -= len(line)
    return size


# Backward


@every_form
@given(data=st.data())
def test_newlines_are_found_backward(form, data) -> None:
    """In plain files from their ends and in others from their beginnings: the same."""
    with any_log(form, data) as log:
        end = min(len(log.truth), offset_in(log, data))
        count = data.draw(st.integers(0, 12), "count")

        assert log.history().newline_before(end, count) == log.newline_before(end, count)


@with_lines
@given(damaged=DAMAGED, data=st.data())
def test_newlines_are_found_over_corrupt_lines(form, damaged, data) -> None:
    """The way back is given up for the way forward."""
    texts, told = tell(form, damaged, is_end_known=True)
    with TemporaryDirectory() as directory:
        log = Log(directory, form)
        log.add_text(texts, told)
        end = data.draw(st.integers(0, len(told)))

        assert log.history().newline_before(end, 3) == log.newline_before(end, 3)


@pytest.mark.parametrize("says", [9, 8, 30])
def test_a_gap_that_ends_elsewhere_than_it_says_is_not_gone_back_over(log, says) -> None:
    """Going forward, it is believed, and what is behind it lies where it says."""
    before, behind = letters("abc"), letters("de")
    texts = [write("cri", record) for record in (*before, *behind)]
    texts.insert(3, write_gap("cri", 6, says))
    truth = [*truth_of("cri", before), *[None] * (says - 6), *truth_of("cri", behind)]
    log.add_text(texts, [*truth, *[None] * 13][:13])
    for end in range(14):
        for count in range(6):
            with patch.object(unpack, "BLOCK_BYTES", 4096):
                found = log.history().newline_before(end, count)

            assert found == log.newline_before(end, count)


def test_the_way_back_must_come_out_at_the_beginning(log) -> None:
    """Else something is missing in the text, and only going forward tells it alike each time."""
    log.add(letters("abc"))
    log.truth += [None] * 5
    log.change(0, end=11)

    assert log.history().newline_before(11, 99) == 0
    assert flat(list(log.history().read(0)), 0) == log.expected(0)


def test_a_file_that_is_cut_while_newlines_are_counted_is_counted_again(log) -> None:
    """The answer is one that was true at some time."""
    path = log.add(letters("abcdef"))
    log.change(0, size=None)
    chunks_before = Counter._chunks_before

    def cut_after(counter: Counter, end: int) -> Iterator[Chunk]:
        yield from chunks_before(counter, end)
        os.truncate(path, 2 * len(write("cri", letters("a")[0])))

    with patch.object(Counter, "_chunks_before", cut_after):
        assert log.history().newline_before(12, 1) == 4


@every_form
def test_the_end_of_a_long_file_is_near(tmp_path, form) -> None:
    """A tail, and an offset near the end, read a few blocks and not all of it."""
    log = Log(str(tmp_path), form)
    log.add(letters("abcdefghij" * 300))
    size = len(log.truth)
    reads = []
    pread = os.pread

    def count(fd: int, length: int, position: int) -> bytes:
        reads.append(position)
        return pread(fd, length, position)

    with patch.object(unpack.os, "pread", count):
        at = log.history().newline_before(size, 5)
        items = log.history().read(size - 6)
        first = next(items)
        items.close()

    assert at == size - 8
    assert first.start == size - 6
    assert len(reads) < 20
