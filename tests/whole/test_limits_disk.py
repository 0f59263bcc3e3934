"""Full disks under the state root, the logs and the exit file: told, survived, and over again.

Each disk is a tmpfs of its own, filled to its last byte and its last inode.
"""

import contextlib
import functools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE, Shop, cri_streams, wait_for

pytestmark = pytest.mark.runc


class Disk:
    """A small file system that can be full."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=2k", "disk", path], check=True
        )
        self._filler = path / "filler"

    def fill(self, *, pages: int = 0, inodes: int = 0) -> None:
        """Leave so many pages of bytes, and so many inodes."""
        with open(self._filler, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * size):
                        pass
            os.truncate(self._filler, file.tell() // 4096 * 4096 - pages * 4096)
        number = 0
        with contextlib.suppress(OSError):
            while True:
                os.symlink("x", self.path / f"filler{number}")
                number += 1
        for number in range(inodes):
            (self.path / f"filler{number}").unlink()

    def empty(self) -> None:
        for path in self.path.glob("filler*"):
            path.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def disk(shop) -> Iterator[Disk]:
    """One more disk."""
    made = Disk(shop.scratch / "disk")
    yield made
    made.close()


@pytest.fixture
def root(shop) -> Iterator[Disk]:
    """The shop's state root is a disk of its own."""
    made = Disk(shop.root)
    shop.root.chmod(0o700)
    yield made
    made.empty()
    shop.close()
    made.close()


def logged(shop: Shop, box: str, offset: int) -> bool:
    """Return whether the second log is done with all output before ``offset``."""
    return json.loads(shop.ctl("stats", box))["logs"][1]["offset"] == offset


def words(shop: Shop, box: str) -> str:
    """Return what the shim had to say."""
    return shop.path(box, "shim.log").read_text()


def half_made(directory: Path) -> list[Path]:
    """Return what somebody has begun to write and left."""
    return [p for p in directory.rglob("*") if p.name.endswith((".new", ".room"))]


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_the_exit_record_is_written_on_a_full_state_root(shop, root, terminal) -> None:
    """Its room was taken at birth. Nobody hangs, nothing half-made is left, the log is whole."""
    log = shop.scratch / "c.log"
    options = ("-i", "--log", log, *(("-t", "-d") if terminal else ()))
    box = shop.run("sh", "-c", "read x; echo said $x; exit 7", options=options)
    wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    root.fill()
    shop.call("attach", "--from", "live", box, input=b"it\n", check=False)
    record = shop.ended(box)

    assert record["exit_code"] == 7
    assert shop.ctl("wait", box) == b"7\n"
    assert b"said it" in log.read_bytes()
    assert half_made(shop.path(box)) == []
    assert "Traceback" not in words(shop, box)
    root.empty()
    shop.ctl("rm", box)


def test_a_server_that_dies_on_a_full_state_root_has_a_successor(shop, root) -> None:
    """Which needs no room to go on, and writes the record."""
    box = shop.run(
        "sh", "-c", "read x; exit 3", options=("-i", "--log", shop.scratch / "c.log")
    )
    server = wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    root.fill()
    os.kill(server, 9)
    wait_for(lambda: shop.server(box) not in (0, server))
    shop.call("attach", "--from", "live", box, input=b"\n", check=False)
    record = shop.ended(box)

    assert (record["exit_code"], record["restarts"]) == (3, 1)


def test_words_about_a_full_disk_have_room_on_it(shop, root, disk) -> None:
    """shim.log is on the disk that is full: some of it was taken at birth."""
    options = ("-i", "--log", disk.path / "c.log")
    box = shop.run("sh", "-c", "read x; echo one; read x", options=options)
    wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    root.fill()
    disk.fill()
    shop.ctl("send", box, "")
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["error"])

    assert words(shop, box).count("No space left on device") == 1
    disk.empty()
    root.empty()


@pytest.mark.slow
def test_a_birth_on_a_full_state_root_is_refused_whole(shop, root) -> None:
    """Whatever still fits: one line and 125, and nothing is left; or the container is whole."""
    bundle = shop.bundle("sh", "-c", "exit 4")
    outcomes = set()
    rooms = [(pages, 99) for pages in range(12)] + [(99, inodes) for inodes in range(14)]
    for pages, inodes in rooms:
        box = shop.name()
        root.fill(pages=pages, inodes=inodes)
        log = shop.scratch / f"{box}.log"
        words = ("run", "--log", log, "--bundle", bundle, box)
        done = shop.call("attachd", *words, check=False)
        outcomes.add(done.returncode)
        if done.returncode == 0:
            assert shop.ended(box)["exit_code"] == 4
            shop.call("attachctl", "wait", box, check=False)
            root.empty()
            shop.ctl("rm", "--force", box)
            continue
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1), done
        assert b"no space left" in done.stderr.lower(), done
        assert not shop.path(box).exists()
        assert not log.exists()
        assert box not in shop._left()
        root.empty()

    assert outcomes == {0, 125}


def test_an_exec_on_a_full_state_root_is_refused(shop, root) -> None:
    """In one line; the next one, when there is room, works."""
    box = shop.run("sleep", "1000", options=("--log", shop.scratch / "c.log"))
    wait_for(lambda: shop.server(box))
    root.fill()
    refused = shop.call("attachctl", "exec", box, "--", "echo", "x", check=False)
    root.empty()

    assert refused.returncode == 125
    assert refused.stderr.count(b"\n") == 1
    assert b"No space left on device" in refused.stderr
    assert half_made(shop.path(box, "exec")) == []
    assert shop.ctl("exec", box, "--", "echo", "x") == b"x\n"
    assert "Traceback" not in words(shop, box)


def test_an_execs_record_is_written_on_a_full_state_root(shop, root) -> None:
    """The exec's own room was taken when it was made."""
    box = shop.run("sleep", "1000", options=("--log", shop.scratch / "c.log"))
    running = shop.popen(
        "attachctl", "exec", "-i", "--name", "e", box, "--", "sh", "-c", "echo up; read x; exit 9",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert running.stdout.readline() == b"up\n"
    root.fill()
    running.communicate(b"\n", timeout=PATIENCE)

    assert running.returncode == 9
    record = json.loads(shop.path(box, "exec/e/exit.json").read_text())
    assert record["exit_code"] == 9
    assert half_made(shop.path(box, "exec")) == []


def test_an_exit_file_waits_for_room(shop, disk) -> None:
    """It is tried again; everybody else is told at once, and the exit command after it."""
    copy, hint = disk.path / "exit.json", shop.scratch / "hint"
    options = ("-i", "--exit-file", copy, "--exit-command", "cp")
    options += tuple(f"--exit-command-arg={word}" for word in (copy, hint))
    box = shop.run("sh", "-c", "read x; exit 5", options=options)
    wait_for(lambda: shop.server(box))
    disk.fill()
    shop.call("attach", "--from", "live", box, input=b"\n", check=False)

    assert shop.ended(box)["exit_code"] == 5
    assert shop.ctl("wait", box) == b"5\n"
    assert not copy.exists()
    disk.empty()
    wait_for(hint.exists)
    assert json.loads(copy.read_text()) == shop.ended(box)
    assert half_made(disk.path) == []
    assert words(shop, box).count("cannot write") == 1
    assert words(shop, box).count("is written after all") == 1


def test_an_exit_file_that_waits_survives_a_death(shop, disk) -> None:
    """The next server goes on trying."""
    copy = disk.path / "exit.json"
    box = shop.run("sh", "-c", "read x", options=("-i", "--exit-file", copy))
    server = wait_for(lambda: shop.server(box))
    disk.fill()
    shop.call("attach", "--from", "live", box, input=b"\n", check=False)
    shop.ended(box)
    wait_for(lambda: "cannot write" in words(shop, box))
    os.kill(server, 9)
    wait_for(lambda: shop.server(box) not in (0, server))
    disk.empty()
    wait_for(copy.exists)

    assert json.loads(copy.read_text()) == shop.ended(box)


def test_a_rotation_that_cannot_be_noted_waits(shop, root) -> None:
    """The list of files is under the full state root: the log goes on in the file that it has."""
    log = shop.scratch / "c.log"
    script = "read x; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; read x"
    options = ("-i", "--log", log, "--log-max-size", "16K")
    box = shop.run("sh", "-c", script, options=options)
    wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    root.fill()
    shop.ctl("send", box, "")
    size = sum(len(f"line {i}\n") for i in range(1, 3001))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["written"] == size)
    assert [path.name for path in shop.scratch.glob("c.log*")] == ["c.log"]
    assert words(shop, box).count("cannot rotate") == 1
    root.empty()
    shop.ctl("rotate", box)

    assert len(list(shop.scratch.glob("c.log.*"))) == 1
    assert shop.ctl("logs", box).count(b"\n") == 3000


def test_of_two_logs_one_may_be_on_a_full_disk(shop, disk) -> None:
    """The other has every byte; the one goes on when there is room, and tells what it lacks."""
    ours = shop.scratch / "c.log"
    script = "while read x; do i=0; while [ $i -lt 2000 ]; do i=$((i+1)); echo $x; done; done"
    options = ("-i", "--log", ours, "--log", disk.path / "c.log")
    box = shop.run("sh", "-c", script, options=options)
    wait_for(lambda: shop.server(box))
    said = b""
    for word, full in ((b"before", False), (b"during", True), (b"after", False)):
        disk.fill() if full else disk.empty()
        shop.ctl("send", box, word.decode())
        said += (word + b"\n") * 2000
        wait_for(functools.partial(logged, shop, box, len(said)))
    shop.ctl("send", "--eof", box)
    record = shop.ended(box)

    assert cri_streams(ours.read_bytes())["stdout"] == said
    text = (disk.path / "c.log").read_bytes()
    lost = [(int(a), int(b)) for a, b in re.findall(rb"F:gap:(\d+):(\d+)", text)]
    assert sum(end - start for start, end in lost) == record["log_dropped"] > 0
    for start, end in reversed(lost):
        said = said[:start] + said[end:]
    assert cri_streams(re.sub(rb"[^\n]*F:gap:[^\n]*\n", b"", text))["stdout"] == said
