"""``attachctl follow-all``: every container of a root, whatever comes, goes, or is killed."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
from attachd_clients.sinks import Files
from attachd_clients.trail import Line
from harness import PATIENCE, Shop, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


def start(shop: Shop, *words: object) -> subprocess.Popen[bytes]:
    return shop.popen("attachctl", "follow-all", *words)


def stop(follower: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> tuple[int, bytes]:
    """Have it end; return its code and what it said on stderr."""
    follower.send_signal(number)
    _, err = follower.communicate(timeout=PATIENCE)
    return follower.returncode, err


def text(into: Path, box: str) -> bytes:
    try:
        return (into / f"{box}.log").read_bytes()
    except FileNotFoundError:
        return b""


def once(shop: Shop, *words: object) -> None:
    done = shop.call("attachctl", "follow-all", "--once", *words, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def word(shop: Shop, box: str, said: bytes = b"\n") -> None:
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(said, PATIENCE)


def test_containers_are_followed_as_they_come(shop, into) -> None:
    """Before there is a root, and after; a name that is used again goes on in its file."""
    follower = start(shop, "--into", into, "--format", "text")
    wait_for(lambda: (into / ".cursors").exists())
    first = shop.run("printf", r"one\ntwo")
    second = shop.run("sh", "-c", "echo a; read x; echo b", options=("-i",))
    wait_for(lambda: text(into, first) == b"one\ntwo" and text(into, second) == b"a\n")
    shop.ended(first)
    shop.ctl("rm", first)
    shop.call("attachd", "run", first, "--", "echo", "again")
    wait_for(lambda: text(into, first) == b"one\ntwo\nagain\n")
    word(shop, second)
    wait_for(lambda: text(into, second) == b"a\nb\n")
    shop.ended(second)
    shop.ctl("rm", second)

    assert stop(follower) == (0, b"")
    assert text(into, second) == b"a\nb\n"


def test_a_root_that_is_deeper_than_anything_there_is_waited_for(shop, into) -> None:
    """Each missing directory on the way may come at any time."""
    shop.root = shop.root / "deep" / "down"
    follower = start(shop, "--into", into, "--format", "text")
    wait_for(lambda: (into / ".cursors").exists())
    shop.root.parent.mkdir(parents=True)
    box = shop.run("echo", "x")
    wait_for(lambda: text(into, box) == b"x\n")

    assert stop(follower, signal.SIGINT) == (130, b"")


def test_who_is_killed_goes_on_without_a_repetition(shop, into) -> None:
    """kill -9 again and again while a container talks: each line is in the file exactly once."""
    script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; read x"
    box = shop.run("sh", "-c", script, options=("-i",))
    for size in (1, 2000, 5000, 9000, 20000):
        follower = start(shop, "--into", into, "--format", "text")
        wait_for(lambda n=size: len(text(into, box)) >= n)
        follower.kill()
        follower.communicate(timeout=PATIENCE)
    word(shop, box)
    once(shop, "--into", into, "--format", "text")

    assert text(into, box) == b"".join(b"line %d\n" % n for n in range(4000))
    assert not list((into / ".cursors").glob("*.new"))


async def test_what_was_written_and_not_committed_is_cut_off(tmp_path) -> None:
    """A file is cut back to its memo; without a memo, it is gone on behind what there is."""
    files = Files(str(tmp_path), text=True)
    (tmp_path / "web.log").write_bytes(b"of somebody else\n")
    memo = files.begin("web", None)
    line = Line(0, "stdout", 1, b"one", False, 4, 4)
    committed = await files.put("web", [line], memo)
    await files.put("web", [line._replace(text=b"two")], committed)
    assert files.begin("web", committed) == committed
    assert text(tmp_path, "web") == b"of somebody else\none\n"
    await files.put("web", [say.Gap(start=4, end=9), line], committed)

    gap = b"attachd: 5 bytes from offset 4 are no longer there\n"
    assert text(tmp_path, "web") == b"of somebody else\none\n" + gap + b"one\n"


def test_once_ends_when_all_have_ended(shop, into) -> None:
    """Those that have ended and those that run; done again, it writes nothing again."""
    first = shop.run("echo", "x")
    second = shop.run("sh", "-c", "read x; echo y; exit 4", options=("-i",))
    shop.ended(first)
    follower = start(shop, "--into", into, "--once")
    wait_for(lambda: text(into, first).count(b"\n") == 2)
    assert follower.poll() is None
    word(shop, second)
    assert follower.communicate(timeout=PATIENCE) == (b"", b"")
    before = text(into, first), text(into, second)
    once(shop, "--into", into)

    assert (text(into, first), text(into, second)) == before
    line, end = map(json.loads, before[1].splitlines())
    assert (line["id"], line["text"], end["exit"]["exit_code"]) == (second, "y", 4)


def test_once_without_any_container_ends_at_once(shop, into) -> None:
    """Also when there is no root."""
    once(shop, "--into", into)


def test_a_command_gets_json_lines_and_is_started_again_when_it_dies(shop, tmp_path) -> None:
    """What it took before its end is not sent again by us; the next goes on."""
    out = tmp_path / "out"
    command = f"head -n 1 >> {out}"
    box = shop.run("sh", "-c", "while read x; do echo $x; done", options=("-i",))
    follower = start(shop, "--exec", command, "--cursors", tmp_path / "cursors")
    word(shop, box, b"one\n")
    wait_for(lambda: out.exists() and out.read_text().count("\n") == 1)

    def heard() -> bool:
        word(shop, box, b"more\n")
        return out.read_text().count("\n") >= 3

    wait_for(heard)
    assert stop(follower) == (0, b"")
    lines = [json.loads(line) for line in out.read_text().splitlines()]

    assert lines[0]["text"] == "one"
    assert all(line["text"] == "more" for line in lines[1:])
    offsets = [line["offset"] for line in lines]
    assert offsets == sorted(set(offsets))


def test_a_command_may_finish_what_it_has(shop, tmp_path) -> None:
    """Its stdin is closed and it is waited for."""
    out = tmp_path / "out"
    box = shop.run("echo", "x")
    shop.ended(box)
    once(
        shop,
        "--exec",
        f"sleep 0.3; cat > {out}",
        "--cursors",
        tmp_path / "c",
        "--format",
        "text",
    )

    assert out.read_bytes() == f"{box} | x\n".encode()


def test_a_socket_is_connected_to_again(shop, tmp_path) -> None:
    """Nobody there at first; then one that leaves; then another one."""
    path, box = tmp_path / "socket", shop.run("echo", "x")
    follower = start(shop, "--socket", path, "--cursors", tmp_path / "cursors")
    shop.ended(box)
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(PATIENCE)
    with listener:
        listener.bind(str(path))
        listener.listen()
        with listener.accept()[0] as peer, peer.makefile() as lines:
            assert json.loads(lines.readline())["text"] == "x"
            assert json.loads(lines.readline())["exit"]["exit_code"] == 0
        other = shop.run("sh", "-c", "while :; do echo y; sleep 0.01; done")
        with listener.accept()[0] as peer, peer.makefile() as lines:
            assert json.loads(lines.readline())["id"] == other
        assert stop(follower) == (0, b"")


def test_cursors_may_be_elsewhere(shop, into, tmp_path) -> None:
    """The directory for the lines is made, too."""
    box = shop.run("echo", "here")
    shop.ended(box)
    words = ("--into", into, "--cursors", tmp_path / "cursors", "--format", "text", "--once")
    shop.call("attachctl", "follow-all", *words)

    assert (into / f"{box}.log").read_bytes() == b"here\n"


def test_two_may_not_have_the_same_cursors(shop, into) -> None:
    """The second is told so; nothing of the first is touched."""
    follower = start(shop, "--into", into)
    wait_for(lambda: f" {follower.pid} " in Path("/proc/locks").read_text())
    done = shop.call("attachctl", "follow-all", "--into", into, check=False)

    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"another follow-all" in done.stderr
    assert stop(follower) == (0, b"")


def test_one_bad_container_stops_no_other(shop, into) -> None:
    """A cursor that is none is told in one line; the others are followed."""
    bad, good = shop.run("echo", "bad"), shop.run("echo", "good")
    shop.ended(bad)
    shop.ended(good)
    (into / ".cursors").mkdir(parents=True)
    (into / ".cursors" / f"{bad}.json").write_text("?")
    done = shop.call("attachctl", "follow-all", "--into", into, "--once", check=False)

    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"is no cursor" in done.stderr
    assert text(into, good).count(b"\n") == 2
    assert text(into, bad) == b""


NONSENSE = (
    (),
    ("--exec", "cat"),
    ("--socket", "x"),
    ("--into", "/proc/x"),
    ("--into", "x", "--exec", "y", "--cursors", "z"),
)


def test_what_makes_no_sense_is_told_in_one_line(shop) -> None:
    """No sink, two sinks, no place for cursors."""
    for words in NONSENSE:
        done = shop.call("attachctl", "follow-all", *words, check=False)

        assert (done.returncode, done.stderr.count(b"\n")) == (125, 1), words
