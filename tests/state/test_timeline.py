"""The timeline of sizes against a dictionary from offset to size."""

from hypothesis import given
from hypothesis import strategies as st

from attachd.state.sizes import Size
from attachd.state.timeline import MAX_CHANGES, Change, Timeline

FIRST = Size(80, 24)


def size_at(truth: dict[int, Size], offset: int) -> Size:
    """The size in force when the byte at ``offset`` was read."""
    return truth[max(at for at in truth if at <= offset)]


def read_on(timeline: Timeline, number: int, offset: int) -> list[Change]:
    """What somebody is told who has come to ``offset`` and knows change ``number``."""
    told = []
    while (change := timeline.after(number)) is not None and change.offset <= offset:
        told.append(change)
        number = change.number
    return told


script = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 4), st.booleans()),
    max_size=40,
)


@given(script)
def test_each_offset_that_can_be_read_has_its_size(steps) -> None:
    """Over changes at one offset, and whatever is forgotten meanwhile."""
    timeline, truth = Timeline([Change(1, 0, 0, FIRST)]), {0: FIRST}
    newest = oldest = 0
    for when, (output, side, gone, forgets) in enumerate(steps, 1):
        newest += output
        size = Size(side, side)
        timeline.note(newest, when, size)
        truth[newest] = size
        if forgets:
            oldest = min(newest, oldest + gone)
            timeline.forget(oldest)
        assert timeline.last == timeline.changes[-1]
        assert (timeline.last.offset, timeline.last.time) == (newest, when)
        for offset in range(oldest, newest + 1):
            assert timeline.at(offset).size == size_at(truth, offset)
        for offset in range(oldest):  # gone: the oldest one that is known, or the right one
            assert timeline.at(offset) == timeline.changes[0] or (
                timeline.at(offset).size == size_at(truth, offset)
            )


@given(script, st.integers(0, 30), st.lists(st.integers(0, 4), max_size=40))
def test_a_reader_is_told_each_change_in_order_and_ends_with_the_last(
    steps, begin, reads
) -> None:
    """Wherever it starts, however slowly it reads, and also when it is overtaken."""
    timeline, truth = Timeline([Change(1, 0, 0, FIRST)]), {0: FIRST}
    newest = oldest = 0
    cursor, known, size = None, 0, FIRST
    told: list[Change] = []
    for when, (output, side, gone, forgets) in enumerate(steps, 1):
        newest += output
        timeline.note(newest, when, Size(side, side))
        truth[newest] = Size(side, side)
        if forgets:
            oldest = min(newest, oldest + gone)
            timeline.forget(oldest)
        if cursor is None and newest >= begin:
            cursor = max(begin, oldest)
            known, size = timeline.at(cursor).number, timeline.at(cursor).size
        elif cursor is not None:
            cursor = max(oldest, min(newest, cursor + (reads[when - 1 : when] or [1])[0]))
        if cursor is not None:
            for change in read_on(timeline, known, cursor):
                known, size = change.number, change.size
                told.append(change)
            assert size == size_at(truth, cursor)
    if cursor is not None:
        told += read_on(timeline, known, newest)
        numbers = [change.number for change in told]
        assert numbers == sorted(set(numbers))
        assert [change.offset for change in told] == sorted(change.offset for change in told)
        assert (told[-1].size if told else size) == truth[newest]
        assert timeline.after(timeline.last.number) is None


@given(script)
def test_nobody_misses_a_change_while_nothing_is_forgotten(steps) -> None:
    """From offset 0 on: one change for each offset that had one, with its last size."""
    timeline, truth, newest = Timeline([Change(1, 0, 0, FIRST)]), {0: FIRST}, 0
    for when, (output, side, _, _) in enumerate(steps, 1):
        newest += output
        timeline.note(newest, when, Size(side, side))
        truth[newest] = Size(side, side)
    first = timeline.at(0)
    told = [first, *read_on(timeline, first.number, newest)]
    assert {change.offset: change.size for change in told} == truth
    assert len(told) == len(truth)


@given(script)
def test_a_timeline_that_was_written_down_goes_on(steps) -> None:
    """A successor makes it from the changes alone; numbers are never used twice."""
    timeline = Timeline([Change(1, 0, 0, FIRST)])
    used, newest = {1}, 0
    for when, (output, side, gone, forgets) in enumerate(steps, 1):
        newest += output
        timeline = Timeline(timeline.changes)
        timeline.note(newest, when, Size(side, side))
        assert timeline.last.number not in used
        used.add(timeline.last.number)
        if forgets:
            timeline.forget(max(0, newest - gone))


def test_what_is_over_is_forgotten_and_what_is_in_force_stays() -> None:
    """The one that the oldest byte was read with is kept, however old it is."""
    timeline = Timeline([Change(1, 0, 0, FIRST)])
    for number in range(1, 6):
        timeline.note(number * 10, number, Size(number, number))
    timeline.forget(39)
    assert [change.offset for change in timeline.changes] == [30, 40, 50]
    timeline.forget(40)
    assert [change.offset for change in timeline.changes] == [40, 50]
    timeline.forget(1000)
    assert [change.offset for change in timeline.changes] == [50]
    assert timeline.at(3).offset == 50


def test_a_flood_of_changes_is_thinned_out_from_the_old_end() -> None:
    """A client that resizes without end does not make the timeline grow without end."""
    timeline = Timeline([Change(1, 0, 0, FIRST)])
    for number in range(1, 3 * MAX_CHANGES):
        timeline.forget(0)
        timeline.note(number, number, Size(number, 1))
        assert len(timeline.changes) <= MAX_CHANGES + 1
    timeline.forget(0)
    assert len(timeline.changes) == MAX_CHANGES
    assert timeline.last.size == Size(3 * MAX_CHANGES - 1, 1)
