"""Sizes: how they are written, and whose wins, against the whole history of wishes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.state.sizes import MAX_SIDE, POLICIES, Size, SizePolicy, parse_size

sides = st.integers(1, MAX_SIDE)
sizes = st.builds(Size, st.integers(1, 5), st.integers(1, 5))


@given(sides, sides, st.sampled_from("xX"))
def test_a_size_that_is_written_down_is_read_back(columns, rows, cross) -> None:
    """COLSxROWS, with either x; and as it prints itself."""
    size = Size(columns, rows)
    assert parse_size(f"{columns}{cross}{rows}") == parse_size(str(size)) == size


@pytest.mark.parametrize(
    "text",
    ["", "x", "80", "80x", "x24", "80x24x1", "80 x 24", " 80x24", "80x24\n", "-1x24", "+80x24",
     "0x24", "80x0", "10001x1", "1x10001", "99999x99999", "1000000x1", "8e1x24", "\u0668\u0660x24",
     "80x24.0", "80:24"],
)  # fmt: skip
def test_what_is_no_size_is_refused_with_an_example(text) -> None:
    """Other digits than 0 to 9, blanks, a side of 0, and absurd ones."""
    with pytest.raises(UsageError, match="80x24"):
        parse_size(text)


def test_a_refusal_quotes_no_more_than_a_line() -> None:
    """The text may be anything that a command line holds."""
    with pytest.raises(UsageError) as caught:
        parse_size("9" * 100_000)
    assert len(str(caught.value)) < 200


@given(st.integers(-2, MAX_SIDE + 2), st.integers(-2, MAX_SIDE + 2))
def test_a_size_is_usable_when_both_sides_are(columns, rows) -> None:
    """0 is "unknown" to the kernel; beyond tmux's limit it is a mistake."""
    good = range(1, MAX_SIDE + 1)
    assert Size(columns, rows).usable == (columns in good and rows in good)


@pytest.mark.parametrize("side", [0, 1, MAX_SIDE, MAX_SIDE + 1])
def test_the_limits_themselves(side) -> None:
    """1 and MAX_SIDE are sizes."""
    assert Size(side, 24).usable == Size(80, side).usable == (side in (1, MAX_SIDE))


def expected(policy: str, current: Size, events: list, counting: set[bytes]) -> Size:
    """What the policy means, told from everything that has happened, oldest first."""
    wishes: dict[bytes, Size] = {}
    last: dict[bytes, int] = {}
    for when, (what, who, size) in enumerate(events):
        if what == "wish":
            wishes[who], last[who] = size, when
        elif what == "touch" and who in wishes:
            last[who] = when
        elif what == "leave":
            wishes.pop(who, None)
    present = [who for who in wishes if who in counting]
    if policy == "manual" or not present:
        return current
    if policy == "latest":
        return wishes[max(present, key=lambda who: last[who])]
    best = min if policy == "smallest" else max
    return Size(
        best(wishes[who].columns for who in present), best(wishes[who].rows for who in present)
    )


people = st.sampled_from([b"a", b"b", b"c"])


@pytest.mark.parametrize("policy", POLICIES)
@given(
    script=st.lists(
        st.tuples(
            st.sampled_from(["wish", "wish", "touch", "touch", "leave"]),
            people,
            sizes,
            st.sets(people),
        ),
        max_size=30,
    )
)
def test_the_policy_chooses_what_its_whole_history_says(policy, script) -> None:
    """Whoever counts, in whatever order they came, typed and left."""
    tested, events, current = SizePolicy(policy), [], Size(80, 24)
    assert tested.policy == policy
    for what, who, size, counting in script:
        before = tested.choose(current, {b"a", b"b", b"c"})
        if what == "wish":
            tested.wish(who, size)
        elif what == "touch":
            told = tested.touch(who)
            after = tested.choose(current, {b"a", b"b", b"c"})
            assert told or after == before  # nothing has changed unless it was told
            assert not told or policy == "latest"
        else:
            tested.leave(who)
        events.append((what, who, size))
        current = tested.choose(current, counting)
        assert current == expected(policy, current, events, counting)
        for some in (set(), {b"a"}, {b"a", b"b"}, {b"a", b"b", b"c"}):
            assert tested.choose(current, some) == expected(policy, current, events, some)


def test_typing_on_changes_nothing() -> None:
    """Only the first key of somebody else may move the size: not each one costs a look."""
    policy = SizePolicy("latest")
    policy.wish(b"a", Size(1, 1))
    policy.wish(b"b", Size(2, 2))
    assert [policy.touch(who) for who in (b"b", b"a", b"a", b"x")] == [
        False,
        True,
        False,
        False,
    ]
