"""The pump: moves one stream from the container's pipe into the ring, and never holds a byte."""

import os
import time

import trio

from attachd.live.feed import Feed

#: The most that one splice moves, so that stdout and stderr take turns.
STEP_BYTES = 256 * 1024


async def pump(feed: Feed, fd: int, stream: int) -> None:
    """Move ``stream`` until its pipe ends; then note the end and return.

    On cancel: whatever has been moved is noted; the rest is still in the pipe.
    """
    while True:
        await trio.lowlevel.wait_readable(fd)
        room = await feed.wait_room()
        try:
            count = move(feed, fd, stream, min(room, STEP_BYTES))
        except BlockingIOError:
            continue
        if count == 0:
            feed.end_stream(stream)
            return


def move(feed: Feed, fd: int, stream: int, limit: int) -> int:
    """Move at most ``limit`` bytes that lie in a pipe; return how many, 0 at its end.

    Raises BlockingIOError when it is empty. No checkpoint: the mark is for these bytes.
    """
    feed.index.mark(stream, time.time_ns())
    flags = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
    count = os.splice(fd, feed.ring, limit, flags=flags)
    if count:
        feed.arrived(count)
    return count
