"""stdin over a real pipe: counted, resent, refused."""

import os

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused, RemoteProtocolError
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.stdin import RETURN_SECONDS, Stdin

ME, YOU = b"m" * 16, b"y" * 16


class Bench:
    """A pipe in the container's place, and servers that come and go."""

    def __init__(self) -> None:
        ring, header = make_ring(1 << 16)
        os.close(ring)
        self.header = map_header(header)
        os.close(header)
        self.intake = os.memfd_create("stdin")
        self.orders = os.eventfd(0)
        self.read, self.write = os.pipe2(os.O_NONBLOCK)

    def server(self, policy: str = "any") -> Stdin:
        """Return what a fresh server makes of the descriptors."""
        return Stdin(self.header, os.dup(self.write), self.intake, self.order, policy)

    def order(self) -> None:
        """What the keeper is told."""
        os.eventfd_write(self.orders, 1)

    def close(self) -> None:
        for fd in (self.intake, self.orders, self.read, self.write):
            os.close(fd)


@pytest.fixture
def bench():
    """Closed at the end."""
    made = Bench()
    yield made
    made.close()


async def delivered(bench: Bench, stdin: Stdin, size: int) -> bytes:
    """Run the feeder until ``size`` bytes have come out of the pipe."""
    data = b""
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stdin.run)
            while len(data) < size:
                await trio.lowlevel.wait_readable(bench.read)
                data += os.read(bench.read, 1 << 16)
            nursery.cancel_scope.cancel()
    return data


@given(
    st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.integers(0, 60), st.booleans()))
)
async def test_what_is_sent_again_is_skipped(data, script) -> None:
    """From wherever a writer goes on, and over deaths of the server: each byte once."""
    bench = Bench()
    stdin = bench.server()
    for begin, dies in script:
        stdin = bench.server() if dies else stdin
        begin = min(begin, stdin.accepted(ME))
        stdin.offer(ME, begin, data[begin : begin + 10])
    stdin.offer(ME, 0, data)
    try:
        assert stdin.accepted(ME) == len(data)
        assert await delivered(bench, stdin, len(data)) == data
    finally:
        bench.close()


async def test_a_hole_is_the_writers_fault(bench) -> None:
    """In its bytes, and before its end."""
    stdin = bench.server()
    stdin.offer(ME, 0, b"abc")
    with pytest.raises(RemoteProtocolError):
        stdin.offer(ME, 4, b"e")
    with pytest.raises(RemoteProtocolError):
        stdin.offer_eof(YOU, 1)
    assert stdin.state == "open"


async def test_the_end_comes_after_everybodys_bytes(bench) -> None:
    """Then the keeper is told to close its own end, and nothing more is taken."""
    told: list[tuple[int, bool]] = []
    stdin = bench.server()
    stdin.subscribe(ME, lambda offset, eof: told.append((offset, eof)))
    stdin.offer(ME, 0, b"mine ")
    stdin.offer(YOU, 0, b"yours")
    stdin.offer_eof(ME, 5)
    with pytest.raises(Refused):
        stdin.offer(YOU, 5, b"too late")
    with trio.fail_after(20):
        await stdin.run()

    assert os.read(bench.read, 100) == b"mine yours"
    assert told[-1] == (5, True)
    assert bench.header.stdin_closed
    assert os.eventfd_read(bench.orders) == 1


async def test_a_listener_that_has_been_replaced_does_not_take_its_successor_along(
    bench,
) -> None:
    """A connection that ends late unsubscribes itself, not the writer's new one."""
    told: list[int] = []
    stdin = bench.server()

    def old(offset: int, eof: bool) -> None:
        raise AssertionError("the old connection is gone")

    stdin.subscribe(ME, old)
    stdin.subscribe(ME, lambda offset, eof: told.append(offset))
    stdin.unsubscribe(ME, old)
    stdin.offer(ME, 0, b"abc")
    assert await delivered(bench, stdin, 3) == b"abc"
    assert told == [3]


@pytest.mark.parametrize("policy", ["any", "owner", "never", "once"])
async def test_only_once_makes_a_writers_leaving_the_end(bench, policy) -> None:
    """Not somebody's who has sent nothing, nor a connection's whose successor is there."""
    stdin = bench.server(policy)
    stdin.offer(ME, 0, b"abc")
    stdin.leave(YOU)
    stdin.subscribe(ME, lambda offset, eof: None)
    stdin.leave(ME)
    assert stdin.state != "closed"
    stdin._listeners.clear()
    stdin.leave(ME)
    assert (stdin.state == "closed") == (policy == "once")


@pytest.mark.parametrize("back", [True, False])
async def test_who_does_not_come_back_after_a_restart_has_left(
    bench, back, autojump_clock
) -> None:
    """With the policy ``once``; who comes back in time has not, and others do not matter."""
    bench.server("once").offer(ME, 0, b"abc")
    stdin = bench.server("once")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stdin.miss_writers)
        await trio.sleep(RETURN_SECONDS / 2)
        assert stdin.state == "once"
        stdin.subscribe(ME if back else YOU, lambda offset, eof: None)
    assert stdin.state == ("once" if back else "closed")


async def test_where_nobody_has_written_nobody_is_waited_for(bench, autojump_clock) -> None:
    """An idle container's server sleeps from the start."""
    await bench.server().miss_writers()
    assert trio.current_time() == 0


async def test_whatever_is_under_way_to_a_closed_stdin_is_refused_as_that(bench) -> None:
    """Also what follows bytes that were queued, and forgotten when it closed: no hole is seen."""
    stdin = bench.server()
    step, end = 128 * 1024, 12 * 128 * 1024
    for offset in range(0, end, step):
        stdin.offer(ME, offset, bytes(step))
    os.close(bench.read)
    bench.read = os.open(os.devnull, os.O_RDONLY)
    with trio.fail_after(20):
        await stdin.run()

    assert stdin.accepted(ME) < end
    with pytest.raises(Refused, match="closed"):
        stdin.offer(ME, end, b"more")
    stdin.offer(ME, 0, b"again")  # of what was taken before nothing is lost
