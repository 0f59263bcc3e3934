"""Descriptors that a server has made outlive it in the keeper's hands."""

import os

import pytest

from attachd.keeper.parcels import Parcel, Post, make, receive, take_all


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


def test_orders_come_in_order_and_keep_nothing(ends) -> None:
    """``begin`` and ``want`` are for whoever takes them; what is kept is not touched."""
    server, keeper = ends
    post, held = Post(server), {"exec/x/header": 7}
    post.send("begin", "x")
    post.send("want", "exec/x/terminal")
    post.send("begin", "a name with spaces")

    assert take_all(keeper, held) == [
        Parcel("begin", "x"),
        Parcel("want", "exec/x/terminal"),
        Parcel("begin", "a name with spaces"),
    ]
    assert held == {"exec/x/header": 7}


def test_a_descriptor_comes_back_to_whoever_asked(ends) -> None:
    """The keeper's copy stays its own; the server's is close-on-exec, too."""
    server, keeper = ends
    read, write = os.pipe()
    Post(keeper).send("have", "exec/x/terminal", read)
    os.close(read)
    (parcel,) = receive(server)
    os.write(write, b"x")
    os.close(write)

    assert parcel[:2] == ("have", "exec/x/terminal")
    assert os.read(parcel.fd, 9) == b"x"
    assert not os.get_inheritable(parcel.fd)
    os.close(parcel.fd)


def test_a_keeper_never_waits_for_a_server_that_takes_nothing(ends) -> None:
    """What there is no room for is lost, and will be asked for again."""
    server, keeper = ends
    for number in range(2000):
        Post(keeper).send("have", str(number), wait=False)
    taken = receive(server)

    assert 0 < len(taken) < 2000
    assert [parcel.name for parcel in taken] == [str(n) for n in range(len(taken))]


def test_what_was_sent_before_a_death_is_taken_after_it(ends) -> None:
    """Orders and descriptors; then the end is told by nothing more coming."""
    server, keeper = make()
    read, write = os.pipe()
    Post(server).keep("ring", read)
    Post(server).send("begin", "x")
    for fd in (server, read, write):
        os.close(fd)
    held: dict[str, int] = {}

    assert [parcel.verb for parcel in take_all(keeper, held)] == ["keep", "begin"]
    assert take_all(keeper, held) == []
    for fd in (*held.values(), keeper):
        os.close(fd)
