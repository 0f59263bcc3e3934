"""Our stdin on its way, with a client that is told what to say."""

import os
from typing import NoReturn

import pytest
import trio
from attachd_clients.sending import AHEAD_BYTES, Sending

from attachd.errors import Refused


class Stub:
    """A client whose container takes ``takes`` bytes and closes its stdin then."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.posted = 0
        self.closed = trio.Event()

    @property
    def written(self) -> int:
        return min(self.posted, self.takes)

    @property
    def pending(self) -> int:
        return self.posted - self.written

    async def post(self, data: bytes) -> int:
        self.posted += len(data)
        if self.posted >= self.takes:
            self.closed.set()
        return self.posted

    async def wait_written(self, end: int) -> None:
        await trio.lowlevel.checkpoint()
        if self.written < end:
            raise Refused("stdin_closed", "the container's stdin is closed")

    async def wait_refused(self) -> NoReturn:
        await self.closed.wait()
        raise Refused("stdin_closed", "the container's stdin is closed")


@pytest.fixture
def pipe():
    """Both ends; closed at the end."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


async def copied(takes: int, read: int) -> Sending:
    sending = Sending(Stub(takes))
    with trio.fail_after(20):
        await sending.copy(read)
    return sending


async def test_a_container_that_closes_after_the_last_byte_has_taken_all(pipe) -> None:
    """Whoever sees its end first, we of our stdin or it of its own."""
    for _ in range(30):
        read, write = os.pipe()
        os.write(write, b"12345")
        os.close(write)
        assert (await copied(5, read)).told == "5 bytes were written to it"
        os.close(read)


async def test_a_container_that_closes_while_our_stdin_is_open_is_told(pipe) -> None:
    """There may be more to come, or is already."""
    read, write = pipe
    os.write(write, b"12345")
    with pytest.raises(Refused, match="closed"):
        await copied(5, read)
    os.write(write, b"12345")
    with pytest.raises(Refused, match="closed"):
        await copied(3, read)


async def test_what_is_not_written_is_told_as_under_way(pipe) -> None:
    """Nobody knows yet whether the container will have it."""
    read, write = pipe
    os.write(write, b"12345")
    sending = Sending(Stub(3))
    with pytest.raises(Refused):
        await sending.copy(read)
    assert (
        sending.told
        == "3 bytes were written to it, and 2 more are on their way and may still be"
    )


def test_what_is_ahead_fits_into_a_window() -> None:
    """With what one more read may bring."""
    assert AHEAD_BYTES + 64 * 1024 <= 512 * 1024
