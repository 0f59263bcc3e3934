"""Logs that never lose or repeat a byte: rotation, full disks, and history without a seam."""

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE, cri_streams, wait_for

from attachd.history.reading import Chunk, History
from attachd.history.segments import segments_of
from attachd.wire import messages as say

pytestmark = pytest.mark.runc

COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo line $i; done"


def counted(number: int) -> bytes:
    return b"".join(b"line %d\n" % i for i in range(1, number + 1))


def files(directory: Path) -> list[Path]:
    """Return a log's files, the oldest first."""
    rotated = [path for path in directory.glob("container.log.*") if path.suffix != ".new"]
    return [*sorted(rotated), directory / "container.log"]


def history(shop, box: str) -> bytes:
    """Return all output as the files tell it; fails on a gap."""
    found = []
    for item in History(lambda: segments_of(str(shop.path(box)), 0)[1], "cri").read(0):
        assert isinstance(item, Chunk)
        found.append(item.data)
    return b"".join(found)


async def collect(shop, box: str, since: str) -> tuple[bytes, list[say.Gap], int]:
    """Return output, gaps and the first offset; each offset must follow on the one before."""
    data, gaps, at, first = [], [], None, 0
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since=since, role="viewer") as client:
            async for event in client:
                if isinstance(event, say.Output | say.Gap):
                    begin = event.offset if isinstance(event, say.Output) else event.start
                    first = begin if at is None else first
                    assert at in (None, begin)
                    at = (
                        begin + len(event.data) if isinstance(event, say.Output) else event.end
                    )
                    if isinstance(event, say.Output):
                        data.append(event.data)
                    else:
                        gaps.append(event)
    return b"".join(data), gaps, first


def kill_server(shop, box: str) -> None:
    pid = wait_for(lambda: shop.server(box))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# Rotation


@pytest.mark.slow
async def test_rotation_loses_nothing_across_deaths_of_the_server(shop) -> None:
    """64 KiB files, the server killed again and again: files and clients have every line once."""
    lines = 120_000
    box = shop.create("sh", "-c", COUNT.format(lines), options=("--log-max-size", "64k"))
    shop.call("attachd", "start", box)
    directory = shop.path(box, "log")
    seen = 0
    for _ in range(8):
        wait_for(lambda seen=seen: len(list(directory.iterdir())) > seen + 2
                 or shop.path(box, "exit.json").exists())  # fmt: skip
        seen = len(list(directory.iterdir()))
        if shop.server(box):
            kill_server(shop, box)
    record = shop.ended(box)
    data, gaps, _ = await collect(shop, box, "start")

    assert record["restarts"] >= 3
    assert [data == counted(lines), gaps] == [True, []]
    assert history(shop, box) == counted(lines)
    assert all(path.stat().st_size <= 64 << 10 for path in files(directory))
    text = b"".join(path.read_bytes() for path in files(directory))
    assert cri_streams(text)["stdout"] == counted(lines)
    assert not list(directory.glob("*.new"))


def test_a_rotated_name_is_the_offset_of_its_first_byte(shop) -> None:
    """So that anybody can seek by offset over all files."""
    box = shop.run("sh", "-c", COUNT.format(5000), options=("--log-max-size", "50k"))
    shop.ended(box)
    offset = 0
    for path in files(shop.path(box, "log"))[:-1]:
        assert path.name == f"container.log.{offset:015d}"
        offset += len(cri_streams(path.read_bytes())["stdout"])


@pytest.mark.parametrize("how", ["rotate", "mv and reopen", "mv", "mv and create"])
async def test_everybody_may_rotate_while_lines_are_written(shop, how) -> None:
    """attachctl, the kubelet, logrotate with and without create: no line lost or doubled."""
    box = shop.create("sh", "-c", COUNT.format(30_000))
    directory = shop.path(box, "log")
    path = directory / "container.log"
    shop.call("attachd", "start", box)
    for number in range(5):
        wait_for(lambda: (path.exists() and path.stat().st_size > 20_000)
                 or shop.path(box, "exit.json").exists())  # fmt: skip
        if how == "rotate":
            shop.call("attachctl", "rotate", box, check=False)
            continue
        with contextlib.suppress(FileNotFoundError):  # it is made anew with the next line
            path.rename(directory / f"container.log.{number}")
        if how == "mv and create":
            path.touch()
        elif how == "mv and reopen":
            shop.call("attachctl", "reopen", box, check=False)
    shop.ended(box)
    text = b"".join(path.read_bytes() for path in files(directory) if path.exists())
    lines = sorted(cri_streams(text)["stdout"].splitlines(), key=lambda x: int(x.split()[1]))

    assert b"\n".join(lines) + b"\n" == counted(30_000)
    assert history(shop, box) == counted(30_000)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
async def test_compressed_history_is_read_like_any_other(shop, method) -> None:
    """By clients of a running shim, and from the files when it is gone."""
    options = (
        "-i",
        "--log-max-size",
        "200k",
        "--log-compress",
        method,
        "--ring-size",
        "65536",
    )
    box = shop.run("sh", "-c", COUNT.format(30_000) + "; cat", options=options)
    suffix = {"gzip": ".gz", "zstd": ".zst"}[method]
    directory = shop.path(box, "log")
    wait_for(lambda: shop.path(box, "log0.json").exists() and json.loads(
        shop.ctl("stats", box))["newest"] == len(counted(30_000)))  # fmt: skip
    wait_for(lambda: all(path.suffix == suffix for path in files(directory)[:-1]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, lambda: shop.call(
            "attach", "--from", "live", box, input=b"end\n"))  # fmt: skip
        data, gaps, _ = await collect(shop, box, "start")
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())

    assert [data == counted(30_000) + b"end\n", gaps] == [True, []]
    assert await collect(shop, box, "start") == (data, [], 0)
    assert (await collect(shop, box, "offset:100"))[0] == data[100:]
    assert len(files(directory)) > 3


def test_limits_are_kept(shop) -> None:
    """Of number and of total size; rm leaves none of the files."""
    options = ("--log-max-size", "20k", "--log-max-files", "4", "--log-max-total", "70k")
    box = shop.run("sh", "-c", COUNT.format(20_000), options=options)
    shop.ended(box)
    found = files(shop.path(box, "log"))
    assert len(found) == 4
    assert sum(path.stat().st_size for path in found) <= 70 << 10

    outside = shop.scratch / "logs"
    options = ("--log", outside / "c.log", "--log-max-size", "20k")
    box = shop.run("sh", "-c", COUNT.format(5_000), options=options)
    shop.ended(box)
    shop.call("attachctl", "rm", box)
    assert not outside.exists()


def test_what_somebody_has_saved_is_not_removed(shop) -> None:
    """rm removes the log files that have the names which we gave them, and no other file."""
    outside = shop.scratch / "saved-logs"
    options = ("-i", "--log", outside / "c.log")
    box = shop.run("sh", "-c", "echo one; cat", options=options)
    wait_for(lambda: (outside / "c.log").read_bytes())
    shop.call("attachctl", "rotate", box)
    (outside / "c.log.000000000000000").rename(outside / "saved")
    shop.call("attach", "--from", "live", box, input=b"two\n")
    shop.ended(box)
    assert history(shop, box) == b"one\ntwo\n"
    shop.call("attachctl", "rm", box)

    assert [path.name for path in outside.iterdir()] == ["saved"]


# History and live are one sequence


@pytest.mark.slow
async def test_a_late_client_sees_everything_while_the_container_writes(shop) -> None:
    """From the start of 60 MB, with a ring of 64 KiB: files, ring and live have no seam."""
    size = 60_000_000
    script = f"yes 0123456789abcdef | head -c {size}; cat; echo end"
    options = ("-i", "--ring-size", "65536", "--log-max-size", "8m")
    box = shop.run("sh", "-c", script, options=options)
    wait_for(lambda: len(files(shop.path(box, "log"))) > 2)
    async with trio.open_nursery() as nursery:

        async def end() -> None:
            async with attach(box, root=str(shop.root), since="none") as client:
                await client.send_eof()

        nursery.start_soon(end)
        data, gaps, _ = await collect(shop, box, "start")

    said = (b"0123456789abcdef\n" * (size // 17 + 1))[:size] + b"end\n"
    assert [data == said, gaps] == [True, []]


@pytest.mark.parametrize("form", ["cri", "json-file"])
async def test_both_streams_keep_their_offsets_in_the_log(shop, form) -> None:
    """A client that resumes at any byte gets from the log what the ring would have said."""
    script = "for i in 1 2 3 4 5 6 7 8; do printf 'a '; echo b >&2; echo c; done; exec cat"
    log = f"{form}:{shop.scratch / 'x.log'}"
    box = shop.run("sh", "-c", script, options=("-i", "--log", log, "--ring-size", "65536"))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == 48)
    events = []

    async def read(since: str, count: int) -> list[tuple[int, str, int]]:
        found: list[tuple[int, str, int]] = []
        async with attach(box, root=str(shop.root), since=since, role="viewer") as client:
            while len(found) < count:
                event = await client.receive()
                assert not isinstance(event, say.Gap)
                if isinstance(event, say.Output):
                    at, stream = event.offset, event.stream
                    found += [(at + i, stream, byte) for i, byte in enumerate(event.data)]
        return found

    with trio.fail_after(PATIENCE):
        events = await read("start", 48)
        async with attach(box, root=str(shop.root), since="none") as client:
            await client.send(b"x" * 300_000 + b"\n")
        wait_for(lambda: json.loads(shop.ctl("stats", box))["oldest"] > 48)
        for offset in (0, 1, 5, 6, 17, 31, 47):
            assert (await read(f"offset:{offset}", 48 - offset))[: 48 - offset] == events[
                offset:
            ]


async def test_a_tail_and_a_time_reach_beyond_the_ring(shop) -> None:
    """The last lines, and the first one of a moment, wherever they are."""
    script = COUNT.format(30_000)
    options = ("--ring-size", "65536", "--log-max-size", "100k", "--linger", "60")
    box = shop.run("sh", "-c", script, options=options)
    shop.ended(box)
    lines = counted(30_000).splitlines(keepends=True)
    tail, gaps, _ = await collect(shop, box, "tail:20000")
    assert [tail == b"".join(lines[-20_000:]), gaps] == [True, []]
    every, gaps, _ = await collect(shop, box, "tail:99999999")
    assert [every == counted(30_000), gaps] == [True, []]

    async with attach(box, root=str(shop.root), since="offset:100000") as client:
        event = await client.receive()
    assert isinstance(event, say.Output)
    found, gaps, first = await collect(shop, box, f"time:{event.time}")
    assert 0 < first <= 100_000
    assert [found == counted(30_000)[first:], gaps] == [True, []]
    assert (await collect(shop, box, f"time:{1 << 62}"))[0] == b""
    assert (await collect(shop, box, "time:0"))[0] == counted(30_000)


def heaps_of_threads(pid: int) -> list[str]:
    """Return where glibc has made a heap for other threads: 64 MiB each, most of it reserved."""
    lines = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return [
        words[0]
        for words, reserved in itertools.pairwise(lines)
        if (words[1], reserved[1]) == ("rw-p", "---p")
        and int(reserved[0].partition("-")[2], 16) - int(words[0].partition("-")[0], 16)
        == 64 << 20
    ]


async def test_threads_that_read_history_keep_no_memory_of_their_own(shop) -> None:
    """Each would keep what it has needed at most, as long as the server lives."""
    script = COUNT.format(20_000) + "; cat"
    box = shop.run("sh", "-c", script, options=("-i", "--ring-size", "65536"))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == len(counted(20_000)))
    pid = shop.server(box)
    async with attach(box, root=str(shop.root), since="start", role="viewer") as client:
        with trio.fail_after(PATIENCE):
            while not isinstance(event := await client.receive(), say.Output):
                pass
    assert event.offset == 0
    assert heaps_of_threads(pid) == []


@pytest.mark.parametrize("harm", ["removed", "cut", "corrupt"])
async def test_what_somebody_did_to_a_rotated_file_is_told(shop, harm) -> None:
    """By a gap of exactly what is missing, by the shim and from files alone."""
    options = ("--ring-size", "65536", "--log-max-size", "100k", "--linger", "60")
    box = shop.run("sh", "-c", COUNT.format(20_000), options=options)
    shop.ended(box)
    victim = files(shop.path(box, "log"))[1]
    if harm == "removed":
        victim.unlink()
    elif harm == "cut":
        os.truncate(victim, 1000)
    else:
        text = victim.read_bytes().split(b"\n")
        text[7] = b"what is this?"
        victim.write_bytes(b"\n".join(text))
    told = await collect(shop, box, "start")
    shop.call("attachctl", "rotate", box, check=False)
    data, gaps, _ = told

    assert len(gaps) == 1
    said = counted(20_000)
    assert data == said[: gaps[0].start] + said[gaps[0].end :]
    first = int(victim.name.split(".")[-1])
    assert first <= gaps[0].start < gaps[0].end
    if harm == "corrupt":
        assert re.fullmatch(rb"line \d+\n", said[gaps[0].start : gaps[0].end])


# Full disks


@pytest.fixture
def disk(shop):
    """A file system with room for 512 KiB."""
    path = shop.scratch / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "disk", path], check=True)
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_on_a_full_disk_the_container_goes_on_and_the_log_tells(shop, disk) -> None:
    """drop: a counter, a record from which offset to which, and no restart is needed."""
    script = COUNT.format(50_000) + "; read x; echo after"
    options = ("-i", "--log", disk / "c.log")
    box = shop.run("sh", "-c", script, options=options)
    size = len(counted(50_000))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == size)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["dropped"])
    (disk / "c.log").rename(disk / "old")
    before = (disk / "old").read_bytes()
    (disk / "old").unlink()
    shop.call("attach", "--from", "live", box, input=b"\n")
    record = shop.ended(box)
    text = before + (disk / "c.log").read_bytes()

    told = re.findall(rb"stderr F:gap:(\d+):(\d+) attachd: (\d+) bytes", text)
    assert sum(int(end) - int(start) for start, end, _ in told) == record["log_dropped"] > 0
    kept = cri_streams(re.sub(rb"[^\n]*F:gap:[^\n]*\n", b"", text))["stdout"]
    assert len(kept) + record["log_dropped"] == size + len("after\n") == record["log_offset"]
    assert kept.endswith(b"after\n")


def test_with_block_the_container_waits_for_room(shop, disk) -> None:
    """And goes on by itself when there is some; not a byte is missing."""
    (disk / "filler").write_bytes(b"x" * 400_000)
    options = ("--log", disk / "c.log", "--on-log-error", "block", "--ring-size", "65536")
    box = shop.run("sh", "-c", COUNT.format(7_000), options=options)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["error"])
    assert not shop.path(box, "exit.json").exists()
    (disk / "filler").unlink()
    record = shop.ended(box)

    assert record["log_dropped"] == 0
    assert cri_streams((disk / "c.log").read_bytes())["stdout"] == counted(7_000)


def test_a_log_on_the_disk_before_it_counts(shop) -> None:
    """--log-sync, with strace as the witness: each write is followed by fdatasync."""
    options = ("-i", "--log-sync")
    box = shop.run("sh", "-c", "read x; echo synced", options=options)
    server = wait_for(lambda: shop.server(box))
    trace = shop.scratch / "trace"
    watcher = subprocess.Popen(
        [
            "strace",
            "-f",
            "-q",
            "-s",
            "99",
            "-e",
            "write,fdatasync",
            "-o",
            trace,
            "-p",
            str(server),
        ],
        stdin=subprocess.DEVNULL,
    )
    wait_for(
        lambda: re.search(r"TracerPid:\t[1-9]", Path(f"/proc/{server}/status").read_text())
    )
    shop.call("attach", "--from", "live", box, input=b"\n")
    shop.ended(box)
    watcher.wait(PATIENCE)

    text = trace.read_text()
    assert text.index("stdout F synced") < text.index("fdatasync")


# A log that is full for good


def test_a_full_log_ends_at_its_line_and_clients_have_the_rest(shop) -> None:
    """--log-max-ever over a server's death; what the log lacks is in the record and the stats."""
    options = ("-i", "--log-max-ever", "500", "--linger", "60")
    box = shop.run("sh", "-c", "while read x; do echo said $x; done", options=options)
    said = b"".join(b"said %d\n" % number for number in range(20))
    for number in range(20):
        shop.ctl("send", box, number)
        wait_for(lambda n=number: shop.reported(box).get("newest", 0) > 7 * n)
        if number in (5, 15):
            os.kill(wait_for(lambda: shop.server(box)), signal.SIGKILL)
    wait_for(lambda: shop.reported(box).get("newest") == len(said))
    follower = shop.popen("attachctl", "logs", "-f", "--tail", "20", box)
    shop.ctl("send", "--eof", box)
    seen = follower.communicate(timeout=PATIENCE)[0]
    logged = cri_streams(shop.log(box))["stdout"]
    record = shop.ended(box)

    assert seen == said
    assert said.startswith(logged)
    assert logged.count(b"\n") == 11  # of 46 or 47 bytes each, the last over the limit
    assert record["log_dropped"] == len(said) - len(logged)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--log-max-size", "big"), "is not a size"),
        (("--log-max-ever", "lots"), "is not a size"),
        (("--log-max-files", "-1"), "is not a number of files"),
        (("--log-max-age", "old"), "is not a time"),
        (("--log-compress", "lzw"), "gzip, zstd are known"),
        (("--on-log-error", "panic"), "drop, block are known"),
        (("--log", "/tmp"), "cannot write the log /tmp: Is a directory"),
        (("--log", "/dev/null", "--log-max-size", "1m"), "is not a file"),
    ],
)
def test_options_that_mean_nothing_are_refused(shop, options, message) -> None:
    """In one line, with nothing left behind."""
    box = shop.name()
    done = shop.call("attachd", "run", *options, box, "--", "true", check=False)

    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr.decode()
    assert not shop.path(box).exists()


def test_a_ring_smaller_than_one_line_loses_nothing(shop) -> None:
    """A line of 1 MB through a ring of 64 KiB."""
    script = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end"
    box = shop.run("sh", "-c", script, options=("--ring-size", "65536"))
    shop.ended(box)

    assert history(shop, box) == b"x" * 1_000_000 + b"\nend\n"
