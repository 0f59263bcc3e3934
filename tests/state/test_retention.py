"""Limits on log files: what goes is always the oldest, and never more than must."""

from hypothesis import given
from hypothesis import strategies as st

from attachd.state.loglines import MAX_LINE, CriLines
from attachd.state.retention import Limits, Old, cost, expendable, fitting
from attachd.state.ring import STDOUT

files = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=8)


def old(sizes_and_ages) -> list[Old]:
    return [Old(f"f{i}", size, 1000 - age) for i, (size, age) in enumerate(sizes_and_ages)]


@given(files, st.integers(0, 50), st.integers(0, 9), st.integers(0, 300), st.integers(0, 120))
def test_what_is_kept_is_within_all_limits(made, active, count, total, age) -> None:
    """And with one file more it would not be."""
    limits = Limits(max_files=count, max_total=total, max_age=age)
    gone = expendable(old(made), active, limits, 1000)

    def fits(kept: list[Old]) -> bool:
        return (
            (not count or len(kept) + 1 <= max(count, 1))
            and (not total or active + sum(f.size for f in kept) <= total)
            and (not age or 1000 - kept[0].written <= age)
        )

    assert gone == [file.name for file in old(made)[: len(gone)]]
    kept = old(made)[len(gone) :]
    assert not kept or fits(kept)
    assert not gone or not fits(old(made)[len(gone) - 1 :])


def test_without_limits_everything_stays() -> None:
    """Nothing is thrown away unless that was asked for."""
    assert expendable(old([(10**12, 10**9)] * 50), 10**12, Limits(), 1000) == []


def test_a_clock_that_jumped_back_removes_nothing() -> None:
    """Files from the future are young."""
    assert expendable(old([(1, 0)] * 3), 0, Limits(max_age=5), -(10.0**9)) == []


@given(st.lists(st.integers(0, 12), max_size=20), st.integers(-5, 200), st.integers(0, 45))
def test_as_many_whole_lines_as_there_is_room_for(lengths, room, overhead) -> None:
    """The most of them, and no byte over it."""
    lines = [b"x" * length + b"\n" for length in lengths]
    fits = 0
    while (
        fits < len(lines) and len(b"".join(lines[: fits + 1])) + overhead * (fits + 1) <= room
    ):
        fits += 1

    cut = fitting(b"".join(lines) + b"open", room, overhead)
    assert cut == len(b"".join(lines[:fits]))


def test_all_that_fits_is_taken_whole() -> None:
    """Without a newline at the end only the lines before it are."""
    assert fitting(b"a\nb\n", 4, 0) == 4
    assert fitting(b"a\nb\nc", 100, 0) == 4
    assert fitting(b"abc", 100, 0) == 0


@given(
    lines=st.lists(
        st.sampled_from([0, 1, 300, MAX_LINE, MAX_LINE + 1, 5 * MAX_LINE]), max_size=6
    ),
    ended=st.booleans(),
)
def test_what_output_costs_is_never_too_little(lines, ended) -> None:
    """As text of the CRI format, with long lines cut and the last one a piece."""
    data = b"\n".join(b"x" * size for size in lines) + b"\n" * ended
    form = CriLines()
    text = form.feed(STDOUT, 0, 1, data) + form.flush()

    assert len(text) <= cost(data, CriLines.overhead)
    cut = fitting(data, len(text), CriLines.overhead)
    assert len(CriLines().feed(STDOUT, 0, 1, data[:cut])) <= len(text)
