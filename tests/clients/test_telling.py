"""Lines as text: however they are handed over, the same bytes."""

from attachd_clients.lines import Line
from attachd_clients.sinks import as_text
from attachd_clients.telling import Sheet
from hypothesis import given
from hypothesis import strategies as st

from attachd.wire import messages as say

lines = st.builds(
    lambda stream, text, partial: Line(0, stream, 1, text, partial, 0, 0),
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from([b"", b"one", b"two two"]),
    st.booleans(),
)
records = st.lists(st.one_of(lines, st.builds(say.Gap, start=st.just(0), end=st.just(9))))


@given(st.lists(lines), st.booleans(), st.booleans())
def test_many_lines_at_once_are_told_as_one_after_the_other(
    them, timestamps, prefixed
) -> None:
    """Whole lines take a short way, which nobody may see."""
    prefixes = {"box": b"box | "} if prefixed else {}
    one, all_ = (Sheet(timestamps=timestamps, prefixes=prefixes) for _ in range(2))
    assert all_.add("box", them) == b"".join(one.add("box", [line]) for line in them)
    assert all_.open == one.open


@given(records)
def test_records_at_once_make_the_text_that_they_make_one_by_one(them) -> None:
    """A batch may be of any size."""
    one, all_ = Sheet(), Sheet()
    assert as_text("box", them, all_) == b"".join(as_text("box", [x], one) for x in them)


def test_whole_lines_of_containers_stand_each_behind_its_name() -> None:
    """Not only the first of them."""
    sheet = Sheet(prefixes={"box": b"box | "})
    two = [Line(0, "stdout", 1, text, False, 0, 0) for text in (b"one", b"two")]
    assert sheet.add("box", two) == b"box | one\nbox | two\n"
