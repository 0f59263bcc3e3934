"""Requirement 8: the log in CRI format, as kubelet and crictl read it."""

import json
import re
import statistics
from datetime import UTC, datetime

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, cri_streams, wait_for

pytestmark = pytest.mark.runc

#: ``<RFC 3339 nanoseconds> <stdout|stderr> <P|F> <text>``
LINE = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)) (stdout|stderr) ([PF]) (.*)",
    re.DOTALL,
)


def parsed(log: bytes) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Return (time, stream, tag, text) of each line; fails on one that is none."""
    assert log.endswith(b"\n")
    found = [LINE.fullmatch(line) for line in log[:-1].split(b"\n")]
    assert all(found)
    return [match.groups() for match in found]


def logged(shop, script: str, *options: object) -> list[tuple[bytes, bytes, bytes, bytes]]:
    """Run a script to its end; return its log's lines."""
    box = shop.run("sh", "-c", script, options=options)
    shop.ended(box)
    return parsed(shop.log(box))


@pytest.mark.parametrize(
    ("size", "tags"),
    [
        (0, b"F"),
        (1, b"F"),
        (16384, b"F"),
        (16385, b"PF"),
        (32768, b"PF"),
        (32769, b"PPF"),
        (100_000, b"PPPPPPF"),
    ],
)
def test_only_a_line_over_16_kib_is_cut(shop, size, tags) -> None:
    """Into P pieces of exactly 16 KiB, and an F with the rest."""
    lines = logged(shop, f"head -c {size} /dev/zero | tr '\\0' x; echo")

    assert b"".join(tag for _, _, tag, _ in lines) == tags
    assert b"".join(text for *_, text in lines) == b"x" * size
    assert all(len(text) == 16384 for _, _, tag, text in lines if tag == b"P")


def test_a_line_that_comes_in_pieces_is_whole(shop) -> None:
    """A read happens to end inside of it, with a pause of 20 ms: still one F."""
    script = "for i in 1 2 3 4 5 6 7 8; do printf half; sleep 0.02; printf ' line\\n'; done"
    lines = logged(shop, script)

    assert [(tag, text) for _, _, tag, text in lines] == [(b"F", b"half line")] * 8


def test_an_open_line_at_the_end_is_p(shop) -> None:
    """No newline at the end is no newline in the log's text either."""
    lines = logged(shop, "echo whole; printf open; printf 'err open' >&2")

    assert {(stream, tag, text) for _, stream, tag, text in lines} == {
        (b"stdout", b"F", b"whole"),
        (b"stdout", b"P", b"open"),
        (b"stderr", b"P", b"err open"),
    }


def test_a_line_that_the_other_stream_interrupts_is_two_pieces(shop) -> None:
    """stdout's half line, stderr's whole one, stdout's rest: in the log as they came.

    So offsets in a log are the shim's own, and its order is what a terminal would have shown.
    """
    script = "printf 'out '; sleep 0.05; echo err >&2; sleep 0.05; echo rest"
    box = shop.create("sh", "-c", script)
    shop.ctl("stats", box)  # the server is there, and reads both pipes as they speak
    shop.call("attachd", "start", box)
    shop.ended(box)
    lines = parsed(shop.log(box))

    assert [(stream, tag, text) for _, stream, tag, text in lines] == [
        (b"stdout", b"P", b"out "),
        (b"stderr", b"F", b"err"),
        (b"stdout", b"F", b"rest"),
    ]


def test_prompts_are_in_the_log_within_200_ms(shop) -> None:
    """From the read that brought a prompt to the write of its P line; the file's time tells."""
    script = "echo up; while :; do printf 'prompt> '; read x || exit; done"
    box = shop.run("sh", "-c", script, options=("-i",))
    path = shop.path(box, "log/container.log")
    wait_for(lambda: shop.server(box) and path.exists() and b"up" in path.read_bytes())
    delays = []
    for count in range(1, 6):
        wait_for(lambda count=count: path.read_bytes().count(b" P prompt> \n") == count)
        written = path.stat().st_mtime
        stamp = parsed(path.read_bytes())[-1][0].decode()
        delays.append(written - datetime.fromisoformat(f"{stamp[:26]}+00:00").timestamp())
        with attach_blocking(box, root=str(shop.root), since="none") as client:
            client.send(b"next\n", PATIENCE)

    assert statistics.median(delays) < 0.2


def test_the_times_are_those_of_arrival_and_in_order(shop) -> None:
    """Each line's time is when it was read: between start and end, never going back."""
    box = shop.run("sh", "-c", "for i in 1 2 3 4 5; do echo out $i; sleep 0.02; done")
    path = shop.path(box, "exit.json")
    shop.ended(box)
    record = json.loads(path.read_text())
    times = [time.decode() for time, *_ in parsed(shop.log(box))]

    assert times == sorted(times)
    assert record["started_at"] <= times[0]
    written = datetime.fromtimestamp(path.stat().st_mtime + 0.01, UTC)
    assert datetime.fromisoformat(f"{times[-1][:26]}+00:00") <= written


def test_empty_lines_and_carriage_returns_stay(shop) -> None:
    """An empty line is a line; CR is a byte like any other."""
    lines = logged(shop, "printf '\\n\\n\\r\\n x \\n\\n'")

    assert [text for *_, text in lines] == [b"", b"", b"\r", b" x ", b""]
    assert {tag for _, _, tag, _ in lines} == {b"F"}


def test_a_log_that_exists_is_continued(shop) -> None:
    """What was in the file stays; our lines come after it, and are all we read back."""
    path = shop.scratch / "log"
    path.write_text("what was there\n")
    box = shop.run("echo", "new", options=("--log", path))
    shop.ended(box)

    before, after = path.read_bytes().split(b"\n", 1)
    assert before == b"what was there"
    assert parsed(after)[0][3] == b"new"
    assert shop.ctl("logs", box) == b"new\n"
    shop.ctl("rm", box)
    assert path.exists()


def test_several_logs_have_the_same_bytes(shop) -> None:
    """cri and raw at once: each has everything, in the same order."""
    cri, raw = shop.scratch / "x.cri", shop.scratch / "x.raw"
    box = shop.run(
        "sh",
        "-c",
        "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo $i; done",
        options=("--log", cri, "--log", f"raw:{raw}"),
    )
    shop.ended(box)

    expected = b"".join(b"%d\n" % i for i in range(1, 501))
    assert raw.read_bytes() == expected
    assert cri_streams(cri.read_bytes())["stdout"] == expected


def test_without_a_log_output_still_reaches_clients(shop) -> None:
    """--log none: no file, and a container that never blocks."""
    script = "yes | head -c 20000000; echo over; sleep 1000"
    box = shop.run("sh", "-c", script, options=("--log", "none"))

    def written() -> bool:
        return json.loads(shop.ctl("stats", box))["newest"] == 20_000_005

    wait_for(lambda: shop.server(box) and written())
    assert not shop.path(box, "log").exists()
    client = shop.popen("attach", "--from", "tail:1", box)
    assert client.stdout.readline() == b"over\n"
    client.kill()
    client.communicate(timeout=PATIENCE)


def test_a_log_that_another_shim_writes_is_refused(shop) -> None:
    """Two writers would cut each other's text."""
    path = shop.scratch / "shared"
    shop.run("sleep", "1000", options=("--log", path))
    done = shop.call("attachd", "run", "--log", path, shop.name(), "--", "true", check=False)

    assert done.returncode == 125
    assert b"being written by another shim" in done.stderr
