"""History that many clients read: shared, bounded, and let go of when they have left."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from attachd.history.segments import Segment
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live import memory as remembering
from attachd.live.feed import Feed
from attachd.live.memory import Memory, Recent
from attachd.state.ring import STDOUT, Missed

SAID = b"".join(b"line %06d\n" % number for number in range(100_000))
PIECE = 10_000


class Log:
    """A raw log that has all, as LogFile shows it."""

    form = "raw"

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(SAID)

    def segments(self) -> list[Segment]:
        inode = self.path.stat().st_ino
        return [Segment(str(self.path), 0, 0, len(SAID), len(SAID), inode)]

    @property
    def opened(self) -> int:
        """How many descriptors of it we have."""
        links = [os.readlink(fd) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return links.count(str(self.path))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "x.log")


@pytest.fixture
def memory(log: Log) -> Iterator[Memory]:
    """Of a ring that has forgotten all but its end."""
    ring, header_fd = make_ring(65536)
    header = map_header(header_fd)
    feed = Feed(ring, header)
    os.lseek(ring, len(SAID), os.SEEK_SET)
    feed.index.mark(STDOUT, 1)
    feed.index.advance(len(SAID))
    feed.index.forget(len(SAID))
    yield Memory(feed, [log])
    for fd in (ring, header_fd):
        os.close(fd)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """One entry for each piece that was read from the file."""
    found: list[int] = []
    take = remembering._take

    def counted(reading, most):
        piece = take(reading, most)
        found.append(len(piece))
        return piece

    monkeypatch.setattr(remembering, "_take", counted)
    return found


async def read_all(memory: Memory, start: int = 0) -> bytes:
    """Read as a client does, and leave."""
    recall, said, offset = memory.open(), b"", start
    while offset < len(SAID):
        for item in await recall.take(offset, PIECE):
            assert not isinstance(item, Missed)
            assert item.start == offset
            said += item.data
            offset = item.end
    recall.close()
    return said


async def test_clients_that_read_the_same_share_what_was_read(memory, log, reads) -> None:
    """A hundred of them read the file no more often than one does."""
    assert await read_all(memory) == SAID
    alone = len(reads)
    reads.clear()
    told: list[bytes] = []

    async def client() -> None:
        told.append(await read_all(memory))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(client)
    assert {said == SAID for said in told} == {True}
    assert len(told) == 100
    assert len(reads) == alone


async def test_no_file_stands_open_when_all_have_left(memory, log) -> None:
    """It may have been removed since, and would take its room for as long."""
    recalls = [memory.open() for _ in range(3)]
    for number, recall in enumerate(recalls):
        await recall.take(number * 5, PIECE)
    assert log.opened >= 1
    for recall in recalls:
        recall.close()
        recall.close()
    assert log.opened == 0


async def test_clients_at_many_places_hold_few_files(memory, log, monkeypatch) -> None:
    """Whoever finds no file where it goes on opens it again."""
    monkeypatch.setattr(remembering, "MAX_OPEN", 4)
    told: dict[int, bytes] = {}
    most = 0

    async def client(start: int) -> None:
        nonlocal most
        told[start] = await read_all(memory, start)
        most = max(most, log.opened)

    async with trio.open_nursery() as nursery:
        for start in range(20):
            nursery.start_soon(client, start)
    assert {told[start] == SAID[start:] for start in range(20)} == {True}
    assert most <= 4 + remembering.THREADS
    assert log.opened == 0


async def test_a_file_that_is_gone_is_told_as_missed_and_not_remembered(memory, log) -> None:
    """It may come back: somebody has only moved it."""
    log.path.rename(log.path.with_name("aside"))
    recall = memory.open()
    assert await recall.take(0, PIECE) == [Missed(0, len(SAID))]
    log.path.with_name("aside").rename(log.path)
    (first, *_) = await recall.take(0, PIECE)
    assert first.data == SAID[: len(first.data)]
    recall.close()


async def test_who_has_come_to_the_ring_holds_nothing(memory, log) -> None:
    """It stays attached for days, and nobody else is on the way."""
    recall, offset = memory.open(), 0
    while offset < len(SAID):
        piece = await recall.take(offset, PIECE)
        offset = piece[-1].end
        assert log.opened == (offset < len(SAID))
    assert memory._recent.get(0) is None
    recall.close()


def test_what_was_read_last_is_kept_and_no_more_than_that() -> None:
    """By bytes of output; one that is kept again counts once."""
    recent = Recent(2 * (100 + remembering.CHUNK_BYTES) + 50)
    pieces = [[remembering.Chunk(at, STDOUT, 0, bytes(100))] for at in (0, 100, 200)]
    for piece in (*pieces, pieces[2]):
        recent.add(piece[0].start, piece)

    assert [recent.get(at) is not None for at in (0, 100, 200)] == [False, True, True]
    recent.clear()
    assert recent.get(200) is None
