"""Places: who is where in the output, in memory that outlives a server."""

import os

import pytest

from attachd.doors.places import MOST, Places, make


@pytest.fixture
def fd():
    made = make()
    yield made
    os.close(made)


def test_the_next_server_finds_what_was_noted(fd) -> None:
    """Key and offset of each; two guests have two keys."""
    before = Places(fd)
    first, second = before[0], before[1]
    first.take(7)
    second.take(9)
    second.offset = 1 << 40
    after = Places(fd)
    assert [after[n].offset for n in (0, 1)] == [7, 1 << 40]
    assert [after[n].key for n in (0, 1)] == [first.key, second.key]
    assert first.key != second.key
    assert len(first.key) == 16


def test_each_gets_a_place_until_there_is_none(fd) -> None:
    """And again when one has gone, with a key of its own."""
    places = Places(fd)
    for number in range(MOST):
        place = places.find_free()
        assert place is not None
        assert place.number == number
        place.take(0)
    assert places.find_free() is None
    before = places[3].key
    places[3].free()
    found = places.find_free()
    assert found is not None
    assert found.number == 3
    found.take(0)
    assert found.key != before


def test_a_place_without_a_guest_is_free_again(fd) -> None:
    """A server may die between taking it and having somebody for it."""
    places = Places(fd)
    for number in range(5):
        places[number].take(number)
    places.free_all_but({1, 3})
    assert [places[n].is_free for n in range(5)] == [True, False, True, False, True]


def test_that_the_end_was_told_is_known_to_the_next_server(fd) -> None:
    """The last place, which lies beside it, is not touched by that."""
    places = Places(fd)
    assert not places.told
    places.note_told()
    assert Places(fd).told
    assert places[MOST - 1].is_free
