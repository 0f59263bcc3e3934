"""A log over deaths, rotations and full disks: every byte once, or told to be missing.

The file system is real; a disk is full when `Shelf.append` says so.
"""

import contextlib
import errno
import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from asciinema.asciicast import open_from_url
from harness import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.history.reading import Chunk, History, Missed
from attachd.history.segments import Kept, places_of, segments_of
from attachd.keeper import parcels
from attachd.keeper.config import LogSpec
from attachd.keeper.descriptors import make_ring, map_header
from attachd.live import shelf
from attachd.live.feed import Feed
from attachd.live.logfile import Care, LogFile
from attachd.live.shelf import Shelf
from attachd.live.squeeze import squeeze
from attachd.state.retention import Limits
from attachd.state.ring import STDERR, STDOUT
from attachd.state.sizes import Size
from attachd.state.timeline import Change, Timeline

SECOND = 1_000_000_000
DAY = 86400


class Bench:
    """A ring, a log, a keeper's hands, and servers that come and go over them."""

    def __init__(self, directory: Path, form: str = "cri", care: Care | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.form = directory, form
        self.care = care or Care()
        self.path = directory / "x.log"
        self.ring, header = make_ring(1 << 20)
        first = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self.held = {"log0": first}
        self.post, self.keeper = parcels.make()
        self.header = map_header(header)
        os.close(header)
        self.said: list[tuple[int, bytes]] = []
        self.full = False
        self.server()

    def hand_over(self) -> None:
        """Be the keeper, which takes new descriptors, and lets go of old ones."""
        parcels.take_all(self.keeper, self.held)

    def server(self) -> LogFile:
        """Be what a fresh server makes of the descriptors, after the one before has died."""
        self.hand_over()
        passed = {name: os.dup(fd) for name, fd in self.held.items()}
        spec = LogSpec(self.form, str(self.path))
        self.feed = Feed(self.ring, self.header)
        self.shelf = Shelf(0, spec, passed, str(self.directory), parcels.Post(self.post))
        append = self.shelf.append

        def append_if_there_is_room(text: bytes, size: int) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            append(text, size)

        self.shelf.append = append_if_there_is_room
        self.log = LogFile(0, self.feed, self.shelf, self.form, self.header.log(0), self.care)
        return self.log

    def output(self, stream: int, data: bytes, time: int = 1) -> None:
        """Have some output arrive, as the pump does it."""
        self.feed.index.mark(stream, time)
        os.write(self.ring, data)
        self.feed.arrived(len(data))
        self.said += [(stream, data[i : i + 1]) for i in range(len(data))]

    async def write(self) -> None:
        """Let the log write what there is."""
        while await self.log._step(give_up=False):
            pass

    async def finish(self) -> None:
        """End both streams, and let the log come to its end."""
        for stream in (STDOUT, STDERR):
            self.feed.end_stream(stream)
        with trio.fail_after(60):
            await self.log.run()

    def read(self, offset: int = 0) -> tuple[list[tuple[int, bytes]], list[tuple[int, int]]]:
        """Return what a reader of the files finds: bytes with their streams, and gaps."""
        found, gaps, at = [], [], offset
        history = History(lambda: segments_of(str(self.directory), 0)[1], self.form)
        for item in history.read(offset):
            assert item.start == at
            at = item.end
            if isinstance(item, Chunk):
                found += [(item.stream, item.data[i : i + 1]) for i in range(len(item.data))]
            elif isinstance(item, Missed):
                gaps.append((item.start, item.end))
        return found, gaps

    def names(self) -> list[str]:
        """Return the names of all log files."""
        return sorted(n for n in os.listdir(self.directory) if n.startswith("x.log"))

    def listed(self) -> list[str]:
        """Return the names in the list of files."""
        return [file["name"] for file in self._list()]

    def first(self) -> int:
        """Return the offset where the oldest of them begins."""
        return self._list()[0]["first"]

    def _list(self) -> list[dict]:
        return json.loads((self.directory / "log0.json").read_text())["files"]

    def close(self) -> None:
        for fd in (self.ring, self.post, self.keeper, *self.held.values()):
            os.close(fd)


@pytest.fixture
def benches(tmp_path: Path):
    """Make benches; closed at the end."""
    made: list[Bench] = []

    def make(form: str = "cri", **care: object) -> Bench:
        made.append(Bench(tmp_path / str(len(made)), form, Care(**care)))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


async def test_text_that_was_not_committed_is_not_there_twice(benches) -> None:
    """Killed between the write and the commit: the successor cuts it, and writes it again."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.output(STDOUT, b"two\n")
    bench.shelf.append(b"1970-01-01T00:00:00.000000002Z stdout F two\n", 0)
    bench.server()
    await bench.finish()

    assert bench.read() == (bench.said, [])


async def test_an_open_line_is_put_together_again(benches) -> None:
    """Over a death, with the time of its first byte."""
    bench = benches()
    bench.output(STDOUT, b"be", 1)
    bench.output(STDOUT, b"gi", 3)
    await bench.write()
    assert bench.path.read_bytes() == b""
    bench.server()
    bench.output(STDOUT, b"n\n", 4)
    await bench.finish()

    assert bench.path.read_bytes() == b"1970-01-01T00:00:00.000000001Z stdout F begin\n"


async def test_a_full_file_gets_its_name_and_no_line_is_cut(benches) -> None:
    """No file is over the limit, and all begin and end at a line."""
    bench = benches(limits=Limits(max_size=1000))
    for number in range(300):
        bench.output(STDOUT if number % 3 else STDERR, b"line %d\n" % number)
    await bench.finish()

    assert bench.read() == (bench.said, [])
    assert len(bench.names()) > 10
    for name in bench.names():
        text = (bench.directory / name).read_bytes()
        assert 0 < len(text) <= 1000
        assert text.endswith(b"\n")
        assert b" P " not in text


async def test_a_reader_finds_its_offset_over_all_files(benches) -> None:
    """By the offset in a file's name."""
    bench = benches(limits=Limits(max_size=500))
    for number in range(100):
        bench.output(STDOUT, b"line %d\n" % number)
    await bench.finish()

    for offset in range(0, len(bench.said) + 1, 7):
        assert bench.read(offset) == (bench.said[offset:], [])


async def test_one_endless_line_fills_files_by_itself(benches) -> None:
    """It is cut where it must be: a file that never ends would be no limit."""
    bench = benches(limits=Limits(max_size=20_000))
    for _ in range(10):
        bench.output(STDOUT, b"x" * 30_000)
        await bench.write()
    await bench.finish()

    assert bench.read() == (bench.said, [])
    assert len(bench.names()) > 3


@pytest.mark.parametrize("form", ["cri", "json-file", "raw"])
async def test_rotation_on_request(benches, form) -> None:
    """A new file each time, unless the current one is empty."""
    bench = benches(form)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        for text in (b"one\n", b"two\n"):
            bench.output(STDOUT, text)
            await trio.testing.wait_all_tasks_blocked()
            await bench.log.rotate()
            await bench.log.rotate()
        bench.output(STDOUT, b"three\n")
        for stream in (STDOUT, STDERR):
            bench.feed.end_stream(stream)

    assert bench.names() == ["x.log", "x.log.000000000000000", "x.log.000000000000004"]
    assert bench.read() == (bench.said, [])


@pytest.mark.parametrize("what", ["rename", "remove", "create", "truncate"])
async def test_what_others_do_to_the_file_is_honoured(benches, what) -> None:
    """logrotate, the kubelet, a person: no line is lost that they did not throw away."""
    bench = benches()
    bench.output(STDOUT, b"before\n")
    await bench.write()
    if what == "truncate":
        os.truncate(bench.path, 0)
    elif what == "remove":
        bench.path.unlink()
    else:
        bench.path.rename(bench.directory / "x.log.1")
        if what == "create":
            bench.path.touch()
    bench.output(STDOUT, b"after\n")
    await bench.finish()

    assert bench.path.read_bytes().count(b"\n") == 1
    assert b"after" in bench.path.read_bytes()
    if what in ("rename", "create"):
        assert b"before" in (bench.directory / "x.log.1").read_bytes()
        assert bench.read() == (bench.said, [])
    else:
        assert bench.read() == (bench.said[7:], [(0, 7)])


async def test_old_files_go_and_the_reader_is_told(benches) -> None:
    """--log-max-files counts the current one."""
    bench = benches(limits=Limits(max_size=500, max_files=3))
    for number in range(100):
        bench.output(STDOUT, b"line %d\n" % number)
    await bench.finish()

    found, gaps = bench.read()
    assert len(bench.names()) == 3
    assert gaps == [(0, len(bench.said) - len(found))]
    assert found == bench.said[-len(found) :]


def compressed(plain: str) -> str:
    """Be the child that compresses: return the path of what it has made beside the file."""
    beside = f"{plain}.gz.new"
    Path(beside).write_bytes(gzip.compress(Path(plain).read_bytes()))
    return beside


class _Death(BaseException):
    """The server is killed here."""


@contextlib.contextmanager
def dying_at(monkeypatch, step: int) -> Iterator[None]:
    """Be killed at this change of a directory, counted from 0, if there are so many."""
    left = step

    def deadly(act: Callable[..., object]) -> Callable[..., object]:
        def act_or_die(*words: object, **options: object) -> object:
            nonlocal left
            if not left:
                raise _Death
            left -= 1
            return act(*words, **options)

        return act_or_die

    with monkeypatch.context() as patch, contextlib.suppress(_Death):
        for name in ("link", "unlink", "rename"):
            patch.setattr(os, name, deadly(getattr(os, name)))
        yield


@pytest.mark.parametrize("most", [0, 3])
@pytest.mark.parametrize("after", range(9))
async def test_a_death_while_a_file_is_rotated_leaves_neither_a_wrong_list_nor_a_file(
    benches, monkeypatch, after, most
) -> None:
    """Killed before, between and behind all steps of it, and of the removal of old files.

    The list names what is there, so that nobody looks for a file that is gone, or takes another
    for it that has got its inode. And all that is there is in the list: who removes the container
    later goes by that.
    """
    bench = benches(limits=Limits(max_size=500))
    for number in range(60):
        bench.output(STDOUT, b"line %d\n" % number)
    await bench.write()
    bench.care = Care(limits=Limits(max_files=most))
    bench.server()
    with dying_at(monkeypatch, after):
        bench.log._rotate(now=True)
    bench.server()
    bench.hand_over()

    for number in range(60, 65):
        named = bench.listed()
        assert bench.names() == sorted(named)
        found, gaps = bench.read()
        assert found == bench.said[-len(found) :]
        assert gaps == ([(0, bench.first())] if most else [])
        bench.output(STDOUT, b"line %d\n" % number)
        await bench.write()
    assert not most or len(bench.names()) == most


@pytest.mark.parametrize("form", ["cri", "json-file", "raw"])
async def test_a_file_that_others_removed_is_not_looked_for_in_another(benches, form) -> None:
    """logrotate keeps few files, and a new one often has the inode of one that is gone.

    It has other output, at other offsets. Nor does the list grow for ever.
    """
    bench = benches(form)
    for number in range(12):
        bench.output(STDOUT, b"line %d\n" % number)
        await bench.write()
        (bench.directory / f"old{number - 2}").unlink(missing_ok=True)
        bench.path.rename(bench.directory / f"old{number}")
        await bench.write()
        bench.hand_over()
    bench.output(STDOUT, b"the end\n")
    await bench.finish()

    found, gaps = bench.read()
    assert b"".join(byte for _, byte in found) == b"line 10\nline 11\nthe end\n"
    assert gaps == [(0, len(bench.said) - len(found))]
    assert len(bench.listed()) == 3


async def test_the_list_forgets_no_file_because_nobody_could_look(
    benches, monkeypatch
) -> None:
    """A directory that cannot be read now, or that misses what is just being renamed."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.path.rename(bench.directory / "old")
    looks: list[Exception | None] = [UsageError("no descriptors"), None]

    def look(directory: str, files: list[Kept]) -> list[str | None]:
        if not looks:
            return places_of(directory, files)
        if error := looks.pop(0):
            raise error
        return [None] * len(files)

    monkeypatch.setattr(shelf, "places_of", look)
    for text in (b"two\n", b"three\n"):
        bench.output(STDOUT, text)
        await bench.write()
        assert bench.log._rotate(now=True)
    await bench.finish()

    assert looks == []
    assert bench.read() == (bench.said, [])


async def test_files_of_an_earlier_container_are_the_oldest(benches) -> None:
    """Its names are not taken, and it is its files that go first."""
    bench = benches(limits=Limits(max_files=2))
    for name in ("x.log.000000000000000", "x.log.000000000000000-1"):
        (bench.directory / name).write_bytes(b"theirs\n")
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.log._rotate(now=True)

    assert bench.names() == ["x.log", "x.log.000000000000000-2"]


@pytest.mark.parametrize("after", range(5))
async def test_a_death_while_a_file_is_compressed_leaves_one_of_the_two(
    benches, monkeypatch, after
) -> None:
    """The one that the list names, and nothing that no list names."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.log._rotate(now=True)
    plain = bench.shelf.next_to_squeeze()
    beside = compressed(plain)
    with dying_at(monkeypatch, after):
        bench.shelf.squeezed(plain, beside, ".gz")
    bench.server()

    assert bench.names() == sorted(bench.listed())
    assert bench.read() == (bench.said, [])


@pytest.mark.parametrize("is_ours_packed", [False, True])
async def test_what_others_have_compressed_or_unpacked_stays(benches, is_ours_packed) -> None:
    """It is the only one there is: nothing that a server before us had begun."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.log._rotate(now=True)
    plain = bench.shelf.next_to_squeeze()
    beside = compressed(plain)
    if is_ours_packed:
        os.link(plain, bench.directory / "unpacked")
        bench.shelf.squeezed(plain, beside, ".gz")
        os.unlink(f"{plain}.gz")
        os.rename(bench.directory / "unpacked", plain)
    else:
        os.rename(beside, f"{plain}.gz")
        os.unlink(plain)
    there = bench.names()
    bench.server()

    assert bench.names() == there


@pytest.mark.parametrize("what", ["the list", "the name"])
async def test_a_file_that_cannot_take_its_place_compressed_stays_plain(
    benches, monkeypatch, what
) -> None:
    """A full disk has no room for the list, say; the plain file goes only after both."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.log._rotate(now=True)
    plain = bench.shelf.next_to_squeeze()
    beside = compressed(plain)
    rename = os.rename

    def fail(source: str, target: str) -> None:
        if source.startswith(str(bench.path)) == (what == "the name"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="No space"):
            bench.shelf.squeezed(plain, beside, ".gz")
    os.unlink(beside)

    assert bench.listed() == bench.names()[::-1] == [os.path.basename(plain), "x.log"]
    assert bench.shelf.next_to_squeeze() == plain
    assert bench.read() == (bench.said, [])


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
async def test_a_rotated_file_of_an_earlier_container_is_not_overwritten(
    benches, suffix
) -> None:
    """Neither by ours nor by what ours is compressed to, whichever of the two is there."""
    bench = benches()
    theirs = bench.directory / f"x.log.000000000000000{suffix}"
    theirs.write_bytes(b"theirs\n")
    bench.output(STDOUT, b"one\n")
    await bench.write()
    bench.log._rotate(now=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(squeeze, bench.log, bench.shelf, "gzip")
        done = lambda: bench.shelf.next_to_squeeze() is None  # noqa: E731
        await trio.to_thread.run_sync(wait_for, done)
        nursery.cancel_scope.cancel()

    assert theirs.read_bytes() == b"theirs\n"
    assert bench.names() == sorted(["x.log", theirs.name, "x.log.000000000000000-1.gz"])
    assert bench.read() == (bench.said, [])


async def test_compressed_files_are_read_like_others(benches) -> None:
    """And the plain one is gone when the compressed one is there."""
    bench = benches(limits=Limits(max_size=500))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(squeeze, bench.log, bench.shelf, "gzip")
        for number in range(100):
            bench.output(STDOUT, b"line %d\n" % number)
            await bench.write()
        done = lambda: bench.shelf.next_to_squeeze() is None  # noqa: E731
        await trio.to_thread.run_sync(wait_for, done)
        nursery.cancel_scope.cancel()
    await bench.finish()

    packed = [name for name in bench.names() if name.endswith(".gz")]
    assert len(packed) == len(bench.names()) - 1
    assert gzip.decompress((bench.directory / packed[0]).read_bytes()).startswith(b"1970")
    assert bench.read() == (bench.said, [])


class Wall:
    """The wall's clock, which goes along with Trio's, and can be set."""

    def __init__(self) -> None:
        self.ahead = 1e9

    def time(self) -> float:
        return trio.current_time() + self.ahead

    def time_ns(self) -> int:
        return int(self.time()) * SECOND


@pytest.fixture
def wall(monkeypatch) -> Wall:
    """What the log believes to be the time."""
    made = Wall()
    for module in ("logfile", "shelf"):
        monkeypatch.setattr(f"attachd.live.{module}.time", made)
    return made


@pytest.mark.parametrize("jump", [0.0, 4000 * DAY, -4000 * DAY], ids=["none", "on", "back"])
async def test_a_file_is_rotated_when_it_is_old_and_goes_when_it_is_older(
    benches, autojump_clock, wall, jump
) -> None:
    """--log-max-age: so no line is kept for longer than twice that; nor for less, whatever the
    clock is set to meanwhile."""
    bench = benches(limits=Limits(max_age=7 * DAY))
    os.utime(bench.path, (wall.time(), wall.time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        bench.output(STDOUT, b"one\n")
        await trio.sleep(60)
        wall.ahead += jump
        await trio.sleep(6 * DAY)
        assert bench.names() == ["x.log"]
        await trio.sleep(1 * DAY)
        assert bench.names() == ["x.log", "x.log.000000000000000"]
        wall.ahead -= jump
        await trio.sleep(6 * DAY)
        assert bench.names() == ["x.log", "x.log.000000000000000"]
        await trio.sleep(8 * DAY)
        assert bench.names() == ["x.log"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("said", [b"", b"one\n"])
async def test_a_log_with_an_age_wakes_up_when_a_file_is_too_old_and_hardly_before(
    benches, autojump_clock, wall, monkeypatch, said
) -> None:
    """Hundreds of idle containers must not keep a machine awake: once an hour will do."""
    bench = benches(limits=Limits(max_age=7 * DAY))
    looked = []
    tidy = bench.shelf.tidy
    monkeypatch.setattr(
        bench.shelf, "tidy", lambda limits: (looked.append(1), tidy(limits))[1]
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        bench.output(STDOUT, said)
        await trio.sleep(DAY)
        nursery.cancel_scope.cancel()
    assert len(looked) <= 26


async def test_an_empty_file_that_is_old_is_rotated_when_something_is_in_it(
    benches, autojump_clock, wall
) -> None:
    """What is written into it counts as old as the file: so no line is kept for too long."""
    bench = benches(limits=Limits(max_age=7 * DAY))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        await trio.sleep(8 * DAY)
        assert bench.names() == ["x.log"]
        bench.output(STDOUT, b"one\n")
        await trio.sleep(60)
        assert bench.names() == ["x.log", "x.log.000000000000000"]
        nursery.cancel_scope.cancel()


async def test_a_log_with_limits_sleeps_while_nothing_happens(benches) -> None:
    """Limits on number and size need no clock."""
    bench = benches(limits=Limits(max_files=3, max_total=100))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        with trio.fail_after(60):
            await trio.testing.wait_all_tasks_blocked()
        assert bench.log._wake_time() == float("inf")
        nursery.cancel_scope.cancel()


async def test_a_rotation_that_fails_changes_nothing(benches, monkeypatch) -> None:
    """Neither at its beginning nor at its last step; the next one works."""
    bench = benches()
    bench.output(STDOUT, b"one\n")
    await bench.write()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    for step in ("link", "rename"):
        with monkeypatch.context() as patch:
            patch.setattr(f"attachd.live.shelf.os.{step}", fail)
            assert not bench.log._rotate(now=True)
        bench.output(STDOUT, b"more\n")
        await bench.write()
        assert bench.read() == (bench.said, [])
        assert "x.log.new" not in bench.names()
    assert bench.log._rotate(now=True)
    bench.server()
    bench.output(STDOUT, b"end\n")
    await bench.finish()

    assert bench.read() == (bench.said, [])
    assert bench.names() == ["x.log", "x.log.000000000000000"]


# Full disks


@pytest.mark.parametrize("form", ["cri", "json-file", "raw"])
async def test_what_a_full_disk_took_is_told_from_where_to_where(benches, form) -> None:
    """By a record in its place (raw: by the next file's name), and by a counter."""
    bench = benches(form)
    bench.output(STDOUT, b"before\n")
    await bench.write()
    bench.full = True
    bench.output(STDOUT, b"lost\n")
    await bench.write()
    bench.output(STDERR, b"lost, too\n" if form != "raw" else b"")
    await bench.write()
    bench.full = False
    lost = len(bench.said)
    bench.output(STDOUT, b"after\n")
    await bench.finish()

    assert bench.read() == (bench.said[:7] + bench.said[lost:], [(7, lost)])
    assert bench.log.dropped == lost - 7


@pytest.mark.parametrize("form", ["cri", "json-file", "raw"])
@pytest.mark.parametrize("what", ["rename", "remove", "rotate"])
async def test_a_gap_is_told_in_the_file_that_takes_the_full_one_s_place(
    benches, form, what
) -> None:
    """Renaming or removing the log is what people do about a full disk."""
    bench = benches(form)
    bench.output(STDOUT, b"before\n")
    await bench.write()
    bench.full = True
    bench.output(STDOUT, b"lost\n")
    await bench.write()
    if what == "rename":
        bench.path.rename(bench.directory / "x.log.old")
    elif what == "remove":
        bench.path.unlink()
    else:
        assert bench.log._rotate(now=True)
    bench.full = False
    bench.output(STDOUT, b"after\n")
    await bench.finish()

    found, gaps = bench.read()
    assert b"after" in bench.path.read_bytes()
    begin = 0 if what == "remove" else 7
    assert found == bench.said[:begin] + bench.said[12:]
    assert {at for start, end in gaps for at in range(start, end)} == set(range(begin, 12))


async def test_a_gap_that_was_not_told_yet_survives_a_death(benches) -> None:
    """The successor tells it."""
    bench = benches()
    bench.full = True
    bench.output(STDOUT, b"lost\n")
    await bench.write()
    bench.full = False
    bench.server()
    bench.output(STDOUT, b"after\n")
    await bench.finish()

    assert bench.read() == (bench.said[5:], [(0, 5)])
    assert bench.log.dropped == 5


async def test_a_gap_is_told_without_more_output(benches, autojump_clock) -> None:
    """As soon as there is room, not when the container speaks again."""
    bench = benches()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        bench.full = True
        bench.output(STDOUT, b"lost\n")
        await trio.sleep(1)
        assert bench.path.read_bytes() == b""
        bench.full = False
        await trio.sleep(1)
        assert b"F:gap:0:5 " in bench.path.read_bytes()
        nursery.cancel_scope.cancel()


async def test_with_block_nothing_is_lost(benches, autojump_clock) -> None:
    """The ring keeps what is not written, and the pump gets no room beyond it."""
    bench = benches(blocks=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        bench.full = True
        bench.output(STDOUT, b"kept, open")
        bench.output(STDERR, b"kept\n")
        await trio.sleep(60)
        assert bench.feed.low_water == 0
        bench.full = False
        await trio.sleep(1)
        assert bench.feed.low_water == bench.feed.index.newest
        for stream in (STDOUT, STDERR):
            bench.feed.end_stream(stream)

    assert bench.read() == (bench.said, [])
    assert bench.log.dropped == 0


async def test_a_container_that_has_ended_does_not_wait_for_ever(
    benches, autojump_clock
) -> None:
    """After the drain timeout its log is given up, and that is counted."""
    bench = benches(blocks=True, patience=3.0)
    bench.full = True
    bench.output(STDOUT, b"lost\n")
    await bench.finish()

    assert bench.log.dropped == 5
    assert trio.current_time() >= 3.0


# Recordings


def cast_of(path: Path) -> tuple[dict, list[list]]:
    """Return a recording's header and events, as asciinema itself reads them."""
    with open_from_url(str(path)) as cast:
        return cast.v2_header, list(cast.events())


async def exit_7() -> tuple[int, str]:
    return 3 * SECOND, "exit 7"


@pytest.mark.parametrize("died", ["before", "between", "after"])
@pytest.mark.parametrize("said", [b"", b"x\n"], ids=["silent", "not silent"])
async def test_the_end_is_told_once_however_often_the_server_dies(benches, died, said) -> None:
    """Before it was told, when it was written and not noted, and when it was."""
    made = benches("asciicast")
    made.log.know_end(exit_7)
    if said:
        made.output(STDOUT, said, time=4 * SECOND)
    if died == "between":
        made.log._commit = lambda: None  # as if it died before each commit
    if died != "before":
        await made.finish()
    made.server().know_end(exit_7)
    await made.finish()

    header, events = cast_of(made.path)
    assert [(code, data) for _, code, data in events][-1] == ("m", "exit 7")
    assert [code for _, code, _ in events] == ["o", "m"][not said :]
    assert [time for time, _, _ in events] == sorted(time for time, _, _ in events)
    assert header["timestamp"] in (3, 4)


def shown(*casts: Path) -> str:
    return "".join(x for cast in casts for _, code, x in cast_of(cast)[1] if code == "o")


async def test_a_recording_has_a_header_and_the_time_of_each_output(benches) -> None:
    """From the second on in which the first was read; lines begin where a terminal has them."""
    bench = benches("asciicast")
    bench.output(STDOUT, b"a\n", 5 * SECOND + 250_000_000)
    bench.output(STDERR, b"b\n", 7 * SECOND)
    await bench.finish()
    header, events = cast_of(bench.path)

    assert header == {"version": 2, "width": 80, "height": 24, "timestamp": 5}
    assert events == [[0.25, "o", "a\r\n"], [2.0, "o", "b\r\n"]]


async def test_a_recording_has_the_sizes_of_its_terminal(benches) -> None:
    """Before the output that came after them, also for a server that comes in between."""
    bench = benches("asciicast")
    timeline = Timeline([Change(1, 0, 0, Size(90, 30))])
    bench.log.know_sizes(timeline)
    bench.output(STDOUT, b"a\n", 5 * SECOND)
    await bench.write()
    timeline.note(2, 6 * SECOND, Size(100, 40))
    bench.server().know_sizes(timeline)
    bench.output(STDOUT, b"b", 7 * SECOND)
    await bench.write()
    bench.server().know_sizes(timeline)
    bench.output(STDOUT, b"c", 8 * SECOND)
    await bench.finish()
    header, events = cast_of(bench.path)

    assert (header["width"], header["height"]) == (90, 30)
    assert events == [
        [0.0, "o", "a\n"], [1.0, "r", "100x40"], [2.0, "o", "b"], [3.0, "o", "c"],
    ]  # fmt: skip


async def test_a_recording_waits_for_the_rest_of_a_character(benches, autojump_clock) -> None:
    """However long that takes, and whoever else speaks; at the end it waits no longer."""
    bench = benches("asciicast")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.log.run)
        bench.output(STDOUT, b"x\xe2\x82")
        await trio.sleep(10)
        bench.output(STDERR, b"err\xc3")
        await trio.sleep(10)
        assert shown(bench.path) == "xerr"
        bench.output(STDOUT, b"\xac")
        await trio.sleep(10)
        for stream in (STDOUT, STDERR):
            bench.feed.end_stream(stream)

    assert shown(bench.path) == "xerr€\ufffd"


async def test_a_recording_does_not_hold_the_ring_for_half_a_character(benches) -> None:
    """Half a ring later it is written as what it is."""
    bench = benches("asciicast")
    bench.output(STDOUT, b"\xe2")
    for _ in range(9):
        bench.output(STDERR, b"x" * (1 << 16))
    await bench.write()
    assert bench.log.counters["written"] == len(bench.said)


@pytest.mark.parametrize("how", ["rotate", "rename", "truncate"])
async def test_each_file_is_a_recording_of_its_own(benches, how) -> None:
    """Whoever begins a new one: with a header, and its own time."""
    bench = benches("asciicast")
    bench.output(STDOUT, b"a\xe2\x82", 5 * SECOND)
    await bench.write()
    old = bench.directory / "x.log.000000000000000"
    if how == "rotate":
        bench.log._rotate(now=True)
    elif how == "rename":
        bench.path.rename(old)
    else:
        old.write_bytes(bench.path.read_bytes())
        os.truncate(bench.path, 0)
    bench.output(STDOUT, b"\xacb", 9 * SECOND)
    await bench.write()
    bench.server()
    bench.output(STDOUT, b"c", 11 * SECOND)
    await bench.finish()

    assert cast_of(old)[1] == [[0.0, "o", "a"]]
    assert cast_of(bench.path)[0]["timestamp"] == 9
    assert cast_of(bench.path)[1] == [[0.0, "o", "€b"], [2.0, "o", "c"]]


@pytest.mark.parametrize("before", [b"", b"before\n"])
async def test_a_recording_tells_what_a_full_disk_took(benches, before) -> None:
    """As a marker, behind the header in every case."""
    bench = benches("asciicast")
    if before:
        bench.output(STDOUT, before)
    await bench.write()
    bench.full = True
    bench.output(STDOUT, b"lost\n")
    await bench.write()
    bench.full = False
    bench.output(STDOUT, b"after\n")
    await bench.finish()
    _, events = cast_of(bench.path)

    assert [code for _, code, _ in events] == ["o", "m", "o"][not before :]
    text = f"gap: 5 bytes from offset {len(before)}: No space left on device"
    assert [text] == [data for _, code, data in events if code == "m"]
    assert bench.log.dropped == 5


casts = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([STDOUT, STDERR]),
            st.text(st.sampled_from("a\n€\N{GRINNING FACE}"), min_size=1, max_size=9),
            st.integers(0, 9),
        ),
        st.sampled_from(["die", "die uncommitted", "write"]),
    ),
    max_size=25,
)


@given(script=casts, has_terminal=st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_recording_is_the_same_whoever_died_meanwhile(
    tmp_path_factory, script, has_terminal
) -> None:
    """Byte for byte what one server alone writes, over characters that were cut."""

    async def play(bench: Bench, *, deaths: bool) -> bytes:
        timeline = Timeline([Change(1, 0, 0, Size(90, 30))])

        def begin() -> None:
            if has_terminal:
                bench.log.know_sizes(timeline)

        begin()
        for when, step in enumerate(script, 5):
            match step:
                case (stream, text, cut):
                    stream, data = STDOUT if has_terminal else stream, text.encode()
                    for part in filter(None, (data[:cut], data[cut:])):
                        bench.output(stream, part, when * SECOND)
                    timeline.note(len(bench.said), when * SECOND, Size(when, when))
                case "write":
                    await bench.write()
                case _ if deaths:
                    if step == "die uncommitted":
                        bench.shelf.append(b'[1.0, "o", "not', 0)
                    bench.server()
                    begin()
        await bench.finish()
        return bench.path.read_bytes()

    found = []
    for deaths in (False, True):
        bench = Bench(tmp_path_factory.mktemp("log"), "asciicast")
        try:
            found.append(trio.run(lambda: play(bench, deaths=deaths)))  # noqa: B023
        finally:
            bench.close()

    assert found[0] == found[1]


# Everything at once


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=30)),
        st.sampled_from(["lines", "die", "rotate", "full", "room", "write"]),
    ),
    max_size=25,
)


@pytest.mark.parametrize("form", ["cri", "json-file"])
@given(script=steps, limit=st.sampled_from([0, 200, 1000]))
@settings(max_examples=60, deadline=None)
def test_every_byte_is_there_once_or_told_to_be_missing(
    form, tmp_path_factory, script, limit
) -> None:
    """Over deaths, rotations, full disks and both streams, at its own offset."""

    async def play(bench: Bench) -> None:
        for step in script:
            match step:
                case (stream, data):
                    bench.output(stream, data)
                case "lines":
                    bench.output(STDOUT, b"a line\n" * 20)
                case "die":
                    bench.server()
                case "rotate":
                    bench.log._rotate(now=True)
                case "full" | "room":
                    bench.full = step == "full"
                case "write":
                    await bench.write()
        bench.full = False
        await bench.finish()

    bench = Bench(tmp_path_factory.mktemp("log"), form, Care(limits=Limits(max_size=limit)))
    try:
        trio.run(play, bench)
        found, gaps = bench.read()
        missing = {at for start, end in gaps for at in range(start, end)}
        assert found == [b for at, b in enumerate(bench.said) if at not in missing]
        assert bench.log.dropped == len(missing)
        assert gaps == [] or "full" in script
    finally:
        bench.close()


# A log that has all it may ever have


def first_lines(text: bytes, most: int) -> bytes:
    """Return the lines that begin before ``most`` bytes were written: the reference."""
    kept = b""
    for line in text.splitlines(keepends=True):
        kept += line if len(kept) < most else b""
    return kept


@pytest.mark.parametrize("form", ["cri", "json-file", "raw", "asciicast"])
@pytest.mark.parametrize("most", [1, 60, 61, 200, 1000, 3000, 5000, 100_000])
async def test_the_line_that_crosses_the_maximum_is_the_last_one(benches, form, most) -> None:
    """It is written whole; what comes later is counted, whoever the server is by then."""
    free, bound = benches(form), benches(form, max_ever=most)
    for number in range(60):
        for bench in (free, bound):
            bench.output(STDOUT, b"line %d\n" % number * (1 + number % 3), number)
            await bench.write()
            if number % 20 == 19:
                bench.server()
    for bench in (free, bound):
        await bench.finish()

    whole = free.path.read_bytes()
    assert bound.path.read_bytes() == first_lines(whole, most)
    assert bool(bound.log.counters["error"]) == (most <= len(whole))
    if form != "asciicast":
        kept, gaps = bound.read()
        assert (kept, gaps) == (bound.said[: len(kept)], [])
        assert bound.log.dropped == len(bound.said) - len(kept)
        assert bound.log.segments()[-1].end == len(kept)


async def test_the_maximum_counts_what_was_rotated_away_and_removed(benches) -> None:
    """A new file is no new beginning."""
    bench = benches(max_ever=5000, limits=Limits(max_size=500, max_files=2))
    for number in range(300):
        bench.output(STDOUT, b"line %d\n" % number)
        await bench.write()
        if number % 50 == 49:
            bench.server()
    await bench.finish()

    whole = b"".join(
        b"1970-01-01T00:00:00.000000001Z stdout F line %d\n" % number for number in range(300)
    )
    kept = first_lines(whole, 5000)
    assert kept.endswith(bench.path.read_bytes())
    assert len(bench.names()) == 2
    lines = [b"line %d\n" % number for number in range(kept.count(b"\n"), 300)]
    assert bench.log.dropped == len(b"".join(lines))


async def test_what_an_open_line_holds_is_counted_too(benches) -> None:
    """The log has its maximum while a line is open, and a dead server's successor knows it."""
    bench = benches(max_ever=40)
    bench.output(STDOUT, b"one\nhalf")
    await bench.write()
    bench.server()
    bench.output(STDOUT, b" a line\n")
    await bench.finish()

    assert bench.path.read_bytes().count(b"\n") == 1
    assert bench.log.dropped == len(b"half a line\n")


async def test_what_was_in_the_file_before_is_not_counted(benches) -> None:
    """The maximum is this container's own."""
    bench = benches(max_ever=40)
    bench.path.write_bytes(b"another's line\n" * 10)
    bench.header.log(0).store(*[0] * 10)
    bench.server()
    bench.output(STDOUT, b"one\ntwo\n")
    await bench.finish()

    assert bench.path.read_bytes().endswith(b" stdout F one\n")


# How large a file becomes


@settings(max_examples=60, deadline=None)
@given(
    says=st.lists(
        st.tuples(
            st.sampled_from([STDOUT, STDERR]),
            st.lists(st.integers(0, 400), min_size=1, max_size=6),
            st.booleans(),
        ),
        max_size=25,
    ),
    before=st.integers(0, 1200),
)
def test_no_file_is_larger_than_its_maximum(tmp_path_factory, says, before) -> None:
    """What was in it before counts; a record that is larger by itself has a file for itself.

    That is where a line may be cut (``cuts``); otherwise one may take a file beyond it.
    """

    async def main() -> None:
        care = Care(limits=Limits(max_size=1000), cuts=True)
        bench = Bench(tmp_path_factory.mktemp("max"), care=care)
        try:
            bench.path.write_bytes(b"x" * before)
            bench.header.log(0).store(*[0] * 10)
            bench.server()
            for stream, sizes, ended in says:
                text = b"\n".join(b"y" * size for size in sizes)
                bench.output(stream, text + b"\n" * ended)
                await bench.write()
            await bench.finish()
            for name in bench.names():
                text = (bench.directory / name).read_bytes()
                assert len(text) <= max(1000, before) or text.count(b"\n") == 1
        finally:
            bench.close()

    trio.run(main)


async def test_a_held_line_has_its_room_when_the_other_stream_speaks(benches) -> None:
    """It becomes a record of its own before that: both are reckoned with, to the byte."""
    for size in range(60, 130):
        bench = benches(limits=Limits(max_size=200), cuts=True)
        bench.output(STDOUT, b"a" * 10)
        await bench.write()
        bench.output(STDERR, b"b" * size)
        await bench.finish()

        sizes = [len((bench.directory / name).read_bytes()) for name in bench.names()]
        assert max(sizes) <= 200
        assert len(sizes) == 1 + (2 * 41 + 10 + size > 200)
