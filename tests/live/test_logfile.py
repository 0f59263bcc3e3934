"""A log after a death: what was written and not committed is cut, and written again."""

import os
from pathlib import Path

import pytest
from harness import cri_streams

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.logfile import LogFile
from attachd.state.ring import STDERR, STDOUT


class Bench:
    """A ring, a log file, and servers that come and go over them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ring, header = make_ring(1 << 20)
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self.header = map_header(header)
        os.close(header)

    def server(self) -> tuple[Feed, LogFile]:
        """Return what a fresh server makes of the descriptors."""
        feed = Feed(self.ring, self.header)
        return feed, LogFile(0, feed, self.fd, "cri", 0, self.header.log(0))

    def output(self, feed: Feed, stream: int, data: bytes, time: int) -> None:
        """Have some output arrive, as the pump does it."""
        feed.index.mark(stream, time)
        os.write(self.ring, data)
        feed.arrived(len(data))


@pytest.fixture
def bench(tmp_path: Path):
    """Closed at the end."""
    made = Bench(tmp_path / "x.log")
    yield made
    os.close(made.ring)
    os.close(made.fd)


async def finish(feed: Feed, log: LogFile) -> None:
    for stream in (STDOUT, STDERR):
        feed.end_stream(stream)
    await log.run()


async def test_text_that_was_not_committed_is_not_there_twice(bench) -> None:
    """Killed between the write and the commit: the successor cuts it, and writes it again."""
    feed, log = bench.server()
    bench.output(feed, STDOUT, b"one\n", 1)
    assert log._step()
    bench.output(feed, STDOUT, b"two\n", 2)
    os.write(bench.fd, b"1970-01-01T00:00:00.000000002Z stdout F two\n")
    feed, log = bench.server()
    await finish(feed, log)

    assert cri_streams(bench.path.read_bytes())["stdout"] == b"one\ntwo\n"


async def test_an_open_line_is_put_together_again(bench) -> None:
    """Over pieces of both streams, with the time of its first byte."""
    feed, log = bench.server()
    bench.output(feed, STDOUT, b"be", 1)
    bench.output(feed, STDERR, b"other", 2)
    bench.output(feed, STDOUT, b"gi", 3)
    assert log._step()
    assert bench.path.read_bytes() == b""
    feed, log = bench.server()
    bench.output(feed, STDOUT, b"n\n", 4)
    bench.output(feed, STDERR, b"\n", 5)
    await finish(feed, log)

    text = bench.path.read_bytes()
    assert b"00:00:00.000000001Z stdout F begin\n" in text
    assert b"00:00:00.000000002Z stderr F other\n" in text
    assert text.count(b"\n") == 2
