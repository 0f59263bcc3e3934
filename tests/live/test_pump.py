"""The pump over real pipes: the order of what comes through two of them."""

import os
import random

import trio
import trio.testing

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.pump import pump
from attachd.state.ring import STDERR, STDOUT

ROUNDS = 60


async def _arrived(feed: Feed, newest: int) -> None:
    bell = feed.subscribe()
    while feed.index.newest < newest:
        await bell.wait()
    feed.unsubscribe(bell)


async def test_the_stream_that_was_written_to_first_comes_first() -> None:
    """A line and a complaint, or a complaint and a line, keep their order in log and output.

    Also when both lie there before the server looks, as they do when it is busy.
    """
    ring, header = make_ring(1 << 20)
    feed = Feed(ring, map_header(header))
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    for fd in (out, err):
        os.set_blocking(fd, False)
    written, choice = b"", random.Random(1)
    with trio.fail_after(30):
        async with trio.open_nursery() as pumps:
            pumps.start_soon(pump, feed, {out: STDOUT, err: STDERR})
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(ROUNDS):
                ways = [(out_end, b"o"), (err_end, b"e")]
                choice.shuffle(ways)
                for end, byte in ways:
                    os.write(end, byte)
                    written += byte
                await _arrived(feed, len(written))
            os.close(out_end)
            os.close(err_end)
    assert feed.read(0, 2 * ROUNDS) == written
    assert feed.ended
    for fd in (ring, header, out, err):
        os.close(fd)
