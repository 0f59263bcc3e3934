"""Requirements 7 and 8: bytes are bytes, and the log has them all."""

import hashlib
import os
import time

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE, cri_streams, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


@pytest.mark.slow
async def test_200_mb_on_both_streams_at_once_arrive_exactly(shop) -> None:
    """Client and raw log are byte-exact per stream."""
    bundle = shop.bundle("sh", "-c", "cat /out & cat /err >&2; wait")
    block = os.urandom(1 << 20)
    sums = {}
    for name, stream in (("out", "stdout"), ("err", "stderr")):
        sums[stream] = hashlib.sha256()
        with open(bundle / "rootfs" / name, "wb") as file:
            for i in range(100):
                data = i.to_bytes(4, "big") + block[:-5] + name[:1].encode()
                file.write(data)
                sums[stream].update(data)
    box = shop.name()
    raw = shop.scratch / "raw.log"
    options = ("--ring-size", 256 << 20, "--log", f"raw:{raw}", "--linger", 30)
    shop.call("attachd", "create", *options, "--bundle", bundle, box)
    seen = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    logged = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    spans: list[tuple[str, int, int]] = []
    with trio.fail_after(PATIENCE * 2):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            async for event in client:
                assert not isinstance(event, say.Gap)
                if isinstance(event, say.Output):
                    seen[event.stream].update(event.data)
                    spans.append((event.stream, event.offset, len(event.data)))
    with open(raw, "rb") as file:
        for stream, offset, size in spans:
            assert file.tell() == offset
            logged[stream].update(file.read(size))

    expected = {stream: digest.hexdigest() for stream, digest in sums.items()}
    assert {stream: digest.hexdigest() for stream, digest in seen.items()} == expected
    assert {stream: digest.hexdigest() for stream, digest in logged.items()} == expected


HARD = (
    b"\0\0nul\n\xff\xfe not utf-8\n\r\r\n\n\n"
    + b"x" * 1_000_000
    + b"\n"
    + b"no newline at the end"
)


def test_the_cri_log_reproduces_hard_bytes(shop) -> None:
    """NUL, invalid UTF-8, carriage returns, a line of 1 MB, no newline at the end."""
    bundle = shop.bundle("cat", "/data")
    (bundle / "rootfs/data").write_bytes(HARD)
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    shop.ended(box)
    shop.ctl("wait", box)
    log = shop.log(box)

    streams = cri_streams(log)
    assert streams["stdout"] == HARD
    texts = [line.split(b" ", 3) for line in log.split(b"\n") if line]
    assert all(len(t[3]) == 16384 for t in texts[:-1] if t[2] == b"P")
    assert shop.ctl("logs", box) == HARD


def test_ordinary_lines_are_never_partial(shop) -> None:
    """However the reads are cut: F for each line under 16 KiB."""
    box = shop.run(
        "sh", "-c", "for i in $(seq 3000); do printf 'some'; printf ' words %s\\n' $i; done"
    )
    shop.ended(box)
    shop.ctl("wait", box)
    lines = shop.log(box).splitlines()

    assert len(lines) == 3000
    assert all(line.split(b" ", 3)[2] == b"F" for line in lines)


def test_a_prompt_is_in_the_log_while_it_waits(shop) -> None:
    """A line left open appears as P, soon; its rest follows."""
    box = shop.run("sh", "-c", "printf 'name? '; read x; echo hello $x", options=("-i",))
    path = shop.path(box, "log/container.log")
    wait_for(lambda: path.exists() and path.read_bytes().endswith(b"stdout P name? \n"))
    shop.call("attach", box, input=b"you\n")
    shop.ended(box)
    shop.ctl("wait", box)

    assert shop.log(box).endswith(b"stdout F hello you\n")


def test_the_times_are_rfc_3339_with_nanoseconds(shop) -> None:
    """The format is the one that kubelet parses."""
    box = shop.run("echo", "x")
    shop.ended(box)
    shop.ctl("wait", box)
    stamp, stream, tag, text = shop.log(box).decode().rstrip("\n").split(" ", 3)

    assert (stream, tag, text) == ("stdout", "F", "x")
    assert len(stamp) == len("2024-05-01T12:00:00.000000001Z")
    assert stamp[:4] == time.strftime("%Y", time.gmtime())


def hard_box(shop, *options: object) -> str:
    """Run a container that writes HARD to stdout and its reverse to stderr, at once."""
    bundle = shop.bundle("sh", "-c", "cat /err >&2 & cat /out; wait")
    (bundle / "rootfs/out").write_bytes(HARD)
    (bundle / "rootfs/err").write_bytes(HARD[::-1])
    box = shop.name()
    shop.call("attachd", "create", "--bundle", bundle, *options, box)
    return box


def test_hard_bytes_arrive_exactly_in_attach_and_logs(shop) -> None:
    """On the standard descriptors of `attach`, and of `attachctl logs` afterwards."""
    box = hard_box(shop)
    client = shop.popen("attach", "--from", "start", box)
    shop.call("attachd", "start", box)
    out, err = client.communicate(timeout=PATIENCE)
    shop.ended(box)
    logs = shop.call("attachctl", "logs", box)

    assert (out, err) == (HARD, HARD[::-1])
    assert (logs.stdout, logs.stderr) == (HARD, HARD[::-1])
    assert cri_streams(shop.log(box)) == {"stdout": HARD, "stderr": HARD[::-1]}


async def test_hard_bytes_arrive_exactly_in_the_library_and_the_raw_log(shop) -> None:
    """Put together by the offsets that the client was told, the raw log is the same."""
    raw = shop.scratch / "raw.log"
    box = hard_box(shop, "--log", f"raw:{raw}")
    streams = {"stdout": b"", "stderr": b""}
    logged = {"stdout": b"", "stderr": b""}
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            events = [event async for event in client if isinstance(event, say.Output)]
    log = raw.read_bytes()
    for event in events:
        streams[event.stream] += event.data
        logged[event.stream] += log[event.offset : event.offset + len(event.data)]

    assert streams == logged == {"stdout": HARD, "stderr": HARD[::-1]}
    assert len(log) == 2 * len(HARD)


@pytest.mark.parametrize("text", [b"", b"\0", b"\n", b"x", b"\xff", b"\r\n", b"\n\n\nx"])
def test_the_smallest_outputs_are_not_lost(shop, text) -> None:
    """Nothing, one byte, a lone newline: exact in every place."""
    bundle = shop.bundle("cat", "/data")
    (bundle / "rootfs/data").write_bytes(text)
    box = shop.name()
    done = shop.call("attachd", "run", "-a", "--bundle", bundle, box)
    shop.ended(box)

    assert done.stdout == text
    assert shop.output(box) == text
    assert shop.ctl("logs", box) == text


def test_a_container_cannot_read_what_it_writes_to(shop) -> None:
    """Its stdout and stderr are for writing only, as with everybody else; so are an exec's.

    asyncio's pipes, and tail -f of many distributions, take a readable stdout for one whose
    reader has gone, and end.
    """
    show = "grep flags /proc/self/fdinfo/1 /proc/self/fdinfo/2"
    box = shop.run("sh", "-c", f"{show}; sleep 1000", options=("-i", "--stdin-eof", "never"))
    wait_for(lambda: shop.output(box).count(b"flags") == 2)
    told = shop.ctl("exec", box, "sh", "-c", show)

    for text in (shop.output(box), told):
        flags = [int(line.split()[-1], 8) for line in text.splitlines()]
        assert [number & os.O_ACCMODE for number in flags] == [os.O_WRONLY, os.O_WRONLY]
