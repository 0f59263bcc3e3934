"""``--log asciicast:PATH``: a recording that the server writes, and that survives it."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
import trio
from asciinema.asciicast import open_from_url
from attachd_clients import attach
from harness import PATIENCE, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo żółw $i; done"


def counted(number: int) -> str:
    return "".join(f"żółw {i}\r\n" for i in range(1, number + 1))


def read(path: Path) -> tuple[dict, list[list]]:
    """Return header and events, as asciinema itself reads them."""
    with open_from_url(str(path)) as cast:
        return cast.v2_header, list(cast.events())


def shown(*paths: Path) -> str:
    return "".join(x for path in paths for _, code, x in read(path)[1] if code == "o")


def kill_server(shop, box: str) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(wait_for(lambda: shop.server(box)), signal.SIGKILL)


def test_a_recording_has_both_streams_and_no_history(shop) -> None:
    """Beside a log in another format, which is where history comes from."""
    cast = shop.scratch / "x.cast"
    log = shop.scratch / "x.log"
    box = shop.run(
        "sh", "-c", "echo out; echo err >&2",
        options=("--log", f"asciicast:{cast}", "--log", log, "--linger", "0"),
    )  # fmt: skip
    shop.ended(box)
    header, events = read(cast)

    assert (header["version"], header["width"], header["height"]) == (2, 80, 24)
    assert sorted(e[1:] for e in events[:-1]) == [["o", "err\r\n"], ["o", "out\r\n"]]
    assert events[-1][1:] == ["m", "exit 0"]
    assert 0 <= events[0][0] < 1
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    assert shop.ctl("logs", "--stream", "stdout", box) == b"out\n"


def test_a_recording_alone_is_no_history(shop) -> None:
    """Then what there was is told in one line."""
    cast = shop.scratch / "x.cast"
    box = shop.run("echo", "x", options=("--log", f"asciicast:{cast}", "--linger", "0"))
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    done = shop.call("attachctl", "logs", box, check=False)

    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    assert b"no history" in done.stderr


async def test_what_only_a_recording_has_is_a_gap_for_clients(shop) -> None:
    """It has not the bytes: what the ring has forgotten is told to be missing."""
    cast, lines = shop.scratch / "x.cast", 20_000
    options = ("--log", f"asciicast:{cast}", "--ring-size", "65536", "-i")
    box = shop.run("sh", "-c", COUNT.format(lines) + "; cat", options=options)
    wait_for(lambda: cast.exists() and f"w {lines}\\r".encode() in cast.read_bytes())
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            first = await client.receive()
            while not isinstance(first, say.Gap | say.Output):
                first = await client.receive()

    assert isinstance(first, say.Gap)
    assert first.start == 0


@pytest.mark.slow
def test_a_recording_loses_nothing_across_deaths_of_the_server(shop) -> None:
    """Killed again and again while output flows: all of it is there once, in whole characters."""
    cast, rounds, lines = shop.scratch / "x.cast", 5, 30_000
    script = f"while read x; do {COUNT.format(lines)}; done"
    box = shop.run("sh", "-c", script, options=("-i", "--log", f"asciicast:{cast}"))
    size = 0
    for _ in range(rounds):
        shop.ctl("send", box, "go")
        wait_for(lambda size=size: cast.stat().st_size > size)
        kill_server(shop, box)
        size = cast.stat().st_size
    shop.ctl("send", box, "--eof")
    record = shop.ended(box)

    assert record["restarts"] >= 3
    assert shown(cast) == counted(lines) * rounds


def test_each_rotated_file_is_a_recording_of_its_own(shop) -> None:
    """With a header, so that players take any of them."""
    cast, lines = shop.scratch / "x.cast", 10_000
    options = ("--log", f"asciicast:{cast}", "--log-max-size", "40k")
    box = shop.run("sh", "-c", COUNT.format(lines), options=options)
    shop.ended(box)
    files = [*sorted(shop.scratch.glob("x.cast.*")), cast]

    assert len(files) > 3
    assert shown(*files) == counted(lines)


def test_a_recording_does_not_go_on_in_a_file_that_has_something_in_it(shop) -> None:
    """Its header would stand in the middle; one line says so, and nothing was made."""
    cast = shop.scratch / "x.cast"
    cast.write_text("something")
    box = shop.name()
    done = shop.call(
        "attachd", "run", "--log", f"asciicast:{cast}", box, "--", "true", check=False
    )
    assert done.returncode == 125
    assert done.stderr == (
        f"attachd: {cast} is there already, and a recording cannot be continued\n".encode()
    )
    assert not shop.path(box).exists()
    assert cast.read_text() == "something"


def test_a_terminals_recording_has_its_sizes_and_its_own_lines(shop) -> None:
    """As its program and its driver have written them, over a death of the server."""
    cast = shop.scratch / "x.cast"
    box = shop.run(
        "sh", "-c", "stty -echo; while read x; do echo $x; done",
        options=("-itd", "--size", "90x30", "--log", f"asciicast:{cast}"),
    )  # fmt: skip
    for number, word in enumerate(("one", "two", "three")):
        shop.ctl("resize", box, f"{100 + number}x40")
        shop.ctl("send", box, word)
        wait_for(lambda word=word: cast.exists() and word.encode() in cast.read_bytes())
        if word == "two":
            kill_server(shop, box)
    header, events = read(cast)

    assert header["timestamp"] > 0
    assert shown(cast).endswith("one\r\ntwo\r\nthree\r\n")
    sizes = [f"{header['width']}x{header['height']}"]
    sizes += [data for _, code, data in events if code == "r"]
    assert sizes[-3:] == ["100x40", "101x40", "102x40"]
    assert json.loads(cast.read_text().splitlines()[0])["version"] == 2


def test_a_recording_waits_for_the_end_of_a_program_that_says_no_more(shop) -> None:
    """It has closed its output long before it ends, and how it ends is told nevertheless."""
    cast = shop.scratch / "x.cast"
    script = "echo up; exec >&- 2>&-; until [ -e /end ]; do usleep 10000; done; exit 7"
    box = shop.run("sh", "-c", script, options=("--log", f"asciicast:{cast}"))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["written"] == 3)
    fds = Path(f"/proc/{shop.state(box)['pid']}/fd")
    wait_for(lambda: not (fds / "2").is_symlink())
    Path(shop.state(box)["bundle"], "rootfs/end").touch()

    shop.ended(box)
    assert read(cast)[1][-1][1:] == ["m", "exit 7"]
