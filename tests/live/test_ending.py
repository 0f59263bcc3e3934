"""The last bytes: how long they are waited for, and for whom longer; and the record of it all."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.brake import Brake
from attachd.live.ending import drain, write_record
from attachd.live.feed import Feed
from attachd.state.header import Header
from attachd.state.ring import STREAMS

RING = 65536


@pytest.fixture
def memory() -> Iterator[tuple[int, Header]]:
    """A ring's descriptor, and its header."""
    ring, header = make_ring(RING)
    yield ring, map_header(header)
    for fd in (ring, header):
        os.close(fd)


@pytest.fixture
def header(memory) -> Header:
    """The header of the feed."""
    return memory[1]


@pytest.fixture
def feed(memory) -> Feed:
    """A ring that is full."""
    ring, header = memory
    made = Feed(ring, header)
    os.write(ring, b"x" * RING)
    made.index.mark(STREAMS[0], 1)
    made.arrived(RING)
    return made


@pytest.fixture
def scope() -> trio.CancelScope:
    """The pumps'."""
    return trio.CancelScope()


async def test_an_open_pipe_is_waited_for_and_no_longer(feed, scope, autojump_clock) -> None:
    """Then the pumps are stopped, and both streams have ended."""
    begun = trio.current_time()

    assert not await drain(feed, scope, 2.0)
    assert trio.current_time() - begun == pytest.approx(2.0)
    assert scope.cancel_called
    assert feed.ended


async def test_what_ends_in_time_is_whole(feed, scope, autojump_clock) -> None:
    """At once when the last stream ends."""
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            for stream in STREAMS:
                await trio.sleep(0.5)
                feed.end_stream(stream)

        nursery.start_soon(end)
        assert await drain(feed, scope, 2.0)

    assert trio.current_time() - begun == pytest.approx(1.0)


@pytest.mark.parametrize("limit", [0.0, 2.0])
async def test_no_time_passes_while_a_client_has_it_wait(
    feed, scope, autojump_clock, limit
) -> None:
    """Whoever has the right to hold the program up loses nothing by its end."""
    brake = Brake(feed, math.inf)
    brake.move(0)
    assert feed.braked
    async with trio.open_nursery() as nursery:

        async def read_on() -> None:
            await trio.sleep(1000)
            brake.release()
            for stream in STREAMS:
                feed.end_stream(stream)

        nursery.start_soon(read_on)
        assert await drain(feed, scope, limit)


async def test_a_client_that_has_left_is_not_waited_for(feed, scope, autojump_clock) -> None:
    """Then the limit holds, as for everybody."""
    brake = Brake(feed, math.inf)
    brake.move(0)
    begun = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await trio.sleep(1000)
            brake.release()

        nursery.start_soon(leave)
        assert not await drain(feed, scope, 2.0)

    assert trio.current_time() - begun < 1005


async def test_a_log_that_cannot_be_written_does_not_count(
    feed, scope, autojump_clock
) -> None:
    """A full disk is no client: a container's end would not be told before there is room."""
    feed.low_waters[0] = 0
    brake = Brake(feed, math.inf)
    brake.move(RING)

    assert feed.room() == 0
    assert not feed.braked
    assert not await drain(feed, scope, 2.0)


async def test_what_was_written_before_the_end_comes_as_fast_as_it_is_read(
    feed, scope, autojump_clock
) -> None:
    """Also when the client has just read, and at that moment nothing has it wait."""
    brake = Brake(feed, math.inf)
    brake.move(0)
    step, steps = 4096, 40
    async with trio.open_nursery() as nursery:

        async def read_and_pump() -> None:
            for number in range(1, steps + 1):
                await trio.sleep(0.15)
                brake.move(number * step)
                feed.index.mark(STREAMS[0], 1)
                os.write(feed.ring, bytes(step))
                await trio.sleep(0.02)
                feed.arrived(step)
            brake.release()  # it has read all

        nursery.start_soon(read_and_pump)
        assert not await drain(feed, scope, 0.0, RING + step * steps)
        nursery.cancel_scope.cancel()

    assert feed.index.newest == RING + step * steps


@pytest.mark.parametrize("ended", [0, 1])
def test_a_record_that_somebody_may_have_read_stays_as_it_is(feed, header, tmp_path, ended):
    """Also when its server died at once, before it had noted that it was there."""
    path = tmp_path / "exit.json"
    before = write_down(header, feed, path)
    text = path.read_bytes()
    header.restarts, header.ended = 1, ended

    assert write_down(header, feed, path) == before
    assert path.read_bytes() == text
    assert header.ended == 1


def test_a_record_of_an_earlier_program_is_no_record_of_ours(feed, header, tmp_path) -> None:
    """Nor is what is no record at all."""
    path = tmp_path / "exit.json"
    for text in (json.dumps({"stream_id": "theirs", "restarts": 9}), "}", "[]"):
        path.write_text(text)
        header.ended = 0

        assert write_down(header, feed, path)["restarts"] == 0
        assert json.loads(path.read_bytes())["stream_id"] == "ours"
        path.unlink()


def write_down(header: Header, feed: Feed, path: Path) -> dict[str, object]:
    return write_record(
        header,
        feed,
        container="box",
        stream_id="ours",
        path=str(path),
        oom_kills=0,
        drained=True,
    )
