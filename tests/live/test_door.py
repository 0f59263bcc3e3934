"""The door: a limit on connections and on what is kept of unfinished frames, and who goes first."""

import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.live.door import MAX_CONNECTIONS, Door, room_for_clients


class Guest:
    """Notes what is done with it."""

    def __init__(self) -> None:
        self.fate = ""

    def turn_away(self) -> None:
        self.fate = "turned away"

    def cut_off(self) -> None:
        self.fate = "cut off"


def guests(count: int) -> list[Guest]:
    return [Guest() for _ in range(count)]


def fates(them: list[Guest]) -> list[str]:
    return [guest.fate for guest in them]


def test_who_was_silent_for_longest_makes_room() -> None:
    """A newcomer may be honest; who is honest has said hello by now."""
    door, them = Door(2), guests(3)
    assert [door.enter(guest) for guest in them] == [True, True, True]
    assert fates(them) == ["turned away", "", ""]


def test_who_has_said_hello_stays_and_the_newcomer_goes() -> None:
    """Until somebody leaves."""
    door, them, late = Door(2), guests(2), Guest()
    for guest in them:
        assert door.enter(guest)
        door.heard(guest)
    assert not door.enter(late)
    door.leave(them[0])
    assert door.enter(late)
    assert fates([*them, late]) == ["", "", ""]


def test_the_frame_that_is_not_whole_for_longest_is_cut_off() -> None:
    """Not the largest, nor the last: an honest client's frame is whole in a moment."""
    door, them = Door(9, unfinished=100), guests(3)
    for guest, size in zip(them, (30, 50, 10), strict=True):
        door.enter(guest)
        door.hold(guest, size, fresh=True)
    door.hold(them[2], 40, fresh=False)
    assert fates(them) == ["cut off", "", ""]
    door.hold(them[1], 10, fresh=True)
    door.hold(them[2], 99, fresh=False)
    assert fates(them) == ["cut off", "", "cut off"]


def test_who_has_most_unread_is_cut_off_when_all_together_have_too_much() -> None:
    """A flood of small answers that nobody reads has one bound, however many take part."""
    door, them = Door(9, unread=100), guests(3)
    for guest, size in zip(them, (30, 50, 20), strict=True):
        door.enter(guest)
        door.owe(guest, size)
    assert fates(them) == ["", "", ""]
    door.owe(them[0], 31)
    assert fates(them) == ["", "cut off", ""]
    door.owe(them[0], 0)
    door.owe(them[2], 100)
    assert fates(them) == ["", "cut off", ""]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("enter")),
        st.tuples(st.just("heard"), st.integers(0, 9)),
        st.tuples(st.just("hold"), st.integers(0, 9), st.integers(0, 60), st.booleans()),
        st.tuples(st.just("owe"), st.integers(0, 9), st.integers(0, 60)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
    ),
    max_size=60,
)


@given(steps)
def test_there_are_never_too_many_and_never_too_much_is_kept(script) -> None:
    """Whatever they do, and nobody who has gone is counted."""
    door, inside, held, owed = Door(4, unfinished=100, unread=90), [], {}, {}
    for what, *values in script:
        if what == "enter":
            guest = Guest()
            if door.enter(guest):
                inside.append(guest)
        elif inside:
            guest = inside[values[0] % len(inside)]
            if what == "heard":
                door.heard(guest)
            elif what == "hold":
                held[guest] = values[1]
                door.hold(guest, values[1], fresh=values[2])
            elif what == "owe":
                owed[guest] = values[1]
                door.owe(guest, values[1])
            else:
                guest.fate = "left"
        for guest in [g for g in inside if g.fate]:
            inside.remove(guest)
            held.pop(guest, None)
            owed.pop(guest, None)
            door.leave(guest)
        assert len(inside) <= 4
        assert sum(held.values()) <= 100
        assert sum(owed.values()) <= 90


@pytest.mark.parametrize(
    ("limit", "room"), [(1024, 512), (1 << 20, MAX_CONNECTIONS), (-1, MAX_CONNECTIONS)]
)
def test_half_of_the_descriptors_are_not_for_clients(monkeypatch, limit, room) -> None:
    """With them the shim writes down how the container has ended."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert room_for_clients() == room
