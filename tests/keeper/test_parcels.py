"""Descriptors that a server has made outlive it in the keeper's hands."""

import os

import pytest

from attachd.keeper.parcels import Post, make, take_all


@pytest.fixture
def ends():
    """The server's end and the keeper's."""
    server, keeper = make()
    yield server, keeper
    for fd in (server, keeper):
        os.close(fd)


def test_what_was_sent_is_held_under_its_name_also_after_the_senders_death(ends) -> None:
    """The kernel has it from the send on; it is not passed on to other programs."""
    server, keeper = ends
    read, write = os.pipe()
    Post(server).keep("log0b", read)
    os.close(read)
    held: dict[str, int] = {}
    take_all(keeper, held)
    os.write(write, b"x")
    os.close(write)

    assert os.read(held["log0b"], 9) == b"x"
    assert not os.get_inheritable(held["log0b"])
    os.close(held.pop("log0b"))


def test_a_name_that_is_given_again_or_dropped_is_closed(ends) -> None:
    """So nothing piles up over a thousand rotations."""
    server, keeper = ends
    held: dict[str, int] = {}
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        fd = os.open(os.devnull, os.O_RDONLY)
        Post(server).keep("log0", fd)
        os.close(fd)
        take_all(keeper, held)
    assert list(held) == ["log0"]
    Post(server).drop("log0")
    Post(server).drop("never seen")
    take_all(keeper, held)

    assert held == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_keeper_that_is_gone_is_no_error() -> None:
    """The server goes on alone."""
    server, keeper = make()
    os.close(keeper)
    Post(server).keep("log0", server)
    Post(server).drop("log0")
    Post(-1).drop("log0")
    os.close(server)


def test_nothing_sent_is_nothing_taken(ends) -> None:
    """It never waits."""
    held = {"log0": 7}
    take_all(ends[1], held)
    assert held == {"log0": 7}
