"""The pump: moves streams from the container's pipes into the ring, and never holds a byte."""

import os
import select
import time
from collections.abc import Mapping

import trio

from attachd.live.feed import Feed

#: The most that one splice moves, so that stdout and stderr take turns.
STEP_BYTES = 256 * 1024

#: Told once; armed again, a pipe stands behind those that have had output for longer.
_ONCE = select.EPOLLIN | select.EPOLLONESHOT


async def pump(feed: Feed, streams: Mapping[int, int]) -> None:
    """Move ``streams``, descriptor to stream, until each has ended; note each end, and return.

    Which pipe got its output first is the one thing that the kernel knows of the order between
    two of them: epoll(7) tells of them in that order. (Trio wakes tasks in any order, so that
    a task for each pipe would lose it.)

    On cancel: whatever has been moved is noted; the rest is still in the pipes.
    """
    left = set(streams)
    with select.epoll(len(streams)) as ready:
        for fd in streams:
            ready.register(fd, _ONCE)
        while left:
            await trio.lowlevel.wait_readable(ready.fileno())
            for fd, _ in ready.poll(0):
                room = await feed.wait_room()
                if _step(feed, fd, streams[fd], min(room, STEP_BYTES)):
                    ready.modify(fd, _ONCE)
                else:
                    left.remove(fd)


def _step(feed: Feed, fd: int, stream: int, limit: int) -> bool:
    """Move what lies in a pipe; return False when it has ended, which is noted."""
    try:
        count = move(feed, fd, stream, limit)
    except BlockingIOError:
        return True
    if count == 0:
        feed.end_stream(stream)
    return count > 0


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
