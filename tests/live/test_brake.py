"""A client that may hold the container up, and for how long."""

import os

import pytest
import trio

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.brake import Brake
from attachd.live.feed import Feed
from attachd.state.ring import STDOUT

RING = 64 * 1024


@pytest.fixture
def feed():
    """A ring of 64 KiB."""
    ring, header = make_ring(RING)
    yield Feed(ring, map_header(header))
    os.close(ring)
    os.close(header)


async def fill(feed: Feed) -> None:
    """Write for as long as there is room, as a pump does."""
    while True:
        room = await feed.wait_room()
        feed.index.mark(STDOUT, 1)
        os.write(feed.ring, bytes(room))
        feed.arrived(room)
        await trio.lowlevel.checkpoint()


async def test_the_container_waits_and_goes_on(feed, autojump_clock) -> None:
    """Exactly one ring ahead of what the client has been given."""
    brake = Brake(feed, 10)
    brake.move(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill, feed)
        nursery.start_soon(brake.watch)
        for offset in (0, 1000, 5000, 60_000):
            brake.move(offset)
            await trio.sleep(9)
            assert feed.index.newest == offset + RING
        assert brake.held
        nursery.cancel_scope.cancel()


async def test_who_holds_it_up_for_too_long_loses_the_brake(feed, autojump_clock) -> None:
    """After the limit, not before; the container then runs free."""
    brake = Brake(feed, 10)
    brake.move(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fill, feed)
        begun = trio.current_time()
        await brake.watch()
        assert trio.current_time() - begun == pytest.approx(10)
        assert not brake.held
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert feed.index.newest > 2 * RING
        brake.move(feed.index.newest)
        assert feed.low_water == feed.index.newest
        nursery.cancel_scope.cancel()


async def test_an_idle_client_of_a_quiet_container_keeps_it(feed, autojump_clock) -> None:
    """Nobody waits for it, however long it does not read."""
    brake = Brake(feed, 10)
    brake.move(0)
    with trio.move_on_after(1000):
        await brake.watch()
    assert brake.held


async def test_a_client_that_leaves_lets_go(feed) -> None:
    """At once."""
    brake = Brake(feed, 10)
    brake.move(0)
    feed.index.mark(STDOUT, 1)
    os.write(feed.ring, bytes(RING))
    feed.arrived(RING)
    assert feed.room() == 0
    brake.release()
    assert feed.room() == RING
