"""What the keeper tells, and what it sends when it is asked."""

import os
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from attachd.keeper import parcels
from attachd.live.news import News


class Keeper:
    """The other end: what it holds, and how often it was asked."""

    def __init__(self) -> None:
        self.server, self.end = parcels.make()
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.news = News(self.bell, parcels.Post(self.server))

    def asked(self) -> list[str]:
        return [parcel.name for parcel in parcels.receive(self.end) if parcel.verb == "want"]

    def send(self, *names: str) -> None:
        for name in names:
            fd = os.open(os.devnull, os.O_RDONLY)
            parcels.Post(self.end).send("have", name, fd)
            os.close(fd)
        os.eventfd_write(self.bell, 1)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    for fd in (made.server, made.end, made.bell):
        os.close(fd)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_what_was_asked_for_comes_once(keeper) -> None:
    """Answers that come twice, or to a server before us, are closed: nothing piles up."""
    before, fetched = open_descriptors(), []

    async def fetch() -> None:
        fetched.append(await keeper.news.fetch("terminal"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.news.run)
        nursery.start_soon(fetch)
        await trio.testing.wait_all_tasks_blocked()
        assert keeper.asked() == ["terminal"]
        keeper.send("stranger", "terminal", "terminal", "terminal")
        while not fetched:
            await keeper.news.wait()
            await trio.testing.wait_all_tasks_blocked()
        keeper.send("terminal")
        await keeper.news.wait()
        inside = open_descriptors()
        nursery.cancel_scope.cancel()

    os.close(fetched[0])
    assert inside - before <= 4  # Trio's own, and the one that was fetched
    assert open_descriptors() <= before


async def test_news_of_others_do_not_ask_again(keeper) -> None:
    """Two hundred execs that start at once would have the keeper answer each for each."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.news.run)
        nursery.start_soon(keeper.news.fetch, "terminal")
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(10):
            keeper.news.tell()
            await trio.testing.wait_all_tasks_blocked()
        assert keeper.asked() == ["terminal"]
        nursery.cancel_scope.cancel()


async def test_an_answer_that_got_lost_is_asked_for_again(keeper, autojump_clock) -> None:
    """The keeper waits for nobody, and may have had no room for it."""
    with trio.move_on_after(3.5):
        await keeper.news.fetch("terminal")

    assert keeper.asked() == ["terminal"] * 4
