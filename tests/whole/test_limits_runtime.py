"""A runtime that hangs, dies half way, or talks without end: given up, bounded, cleaned up.

The runtime is the real one behind a script that has a mood, which a file tells; when it has
none, everything works again.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc

SCRIPT = """#!/bin/sh
here={here}
verb=none
for word in "$@"; do
    case $word in create|start|exec|delete|state|kill) verb=$word; break;; esac
done
flood() {{ echo first >&2; head -c {flood} /dev/zero | tr '\\0' x >&2; echo >&2; echo last >&2; }}
case "$verb $(cat $here/mood 2>/dev/null)" in
"create create-dies-before" | "start start-dies-before" | "exec exec-dies-before" \\
| "delete delete-dies-before") kill -9 $$;;
"create create-hangs-before" | "start start-hangs-before" | "exec exec-hangs-before" \\
| "delete delete-hangs-before") exec sleep 1000;;
"create create-floods" | "start start-floods" | "exec exec-floods" \\
| "delete delete-floods") flood; exit 3;;
"create create-dies-after" | "start start-dies-after" \\
| "exec exec-dies-after") runc "$@"; kill -9 $$;;
"create create-hangs-after" | "start start-hangs-after") runc "$@"; exec sleep 1000;;
"create create-floods-after") runc "$@"; flood; exit 3;;
esac
exec runc "$@"
"""

FLOOD = 10 << 20


class Moody:
    """The runtime, and the options that have it used."""

    def __init__(self, shop) -> None:
        self.path = shop.scratch / "moody"
        self._mood = shop.scratch / "mood"
        self.path.write_text(SCRIPT.format(here=shop.scratch, flood=FLOOD))
        self.path.chmod(0o755)

    def options(self, patience: float = 20) -> tuple[object, ...]:
        return ("--runtime", self.path, "--create-timeout", patience)

    def be(self, mood: str) -> None:
        self._mood.write_text(mood)


@pytest.fixture
def moody(shop) -> Moody:
    """In no mood yet."""
    return Moody(shop)


def words(shop, box: str) -> str:
    return shop.path(box, "shim.log").read_text()


def nothing_is_left(shop, box: str) -> None:
    """No container, no state, no cgroup, no process."""
    wait_for(lambda: not shop.path(box).exists())
    assert box not in shop._left()
    wait_for(lambda: not shop.processes())
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-name", f"*{box}*"], stdout=subprocess.PIPE, check=False
    )
    assert found.stdout == b""
    assert not Path(f"/run/runc/{box}").exists()


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode != 0
    assert done.stderr.count(b"\n") == 1
    assert len(done.stderr) < 64 * 1024
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("create-dies-before", "137"),
        ("create-dies-after", "137"),
        ("create-hangs-before", "1 seconds"),
        ("create-hangs-after", "1 seconds"),
        ("create-floods", "last"),
        ("create-floods-after", "last"),
        ("start-dies-before", "137"),
        ("start-dies-after", "137"),
        ("start-hangs-before", "1 seconds"),
        ("start-hangs-after", "1 seconds"),
        ("start-floods", "last"),
    ],
)
def test_a_birth_that_goes_wrong_leaves_nothing(shop, moody, mood, told) -> None:
    """Whatever the runtime does instead of its work, or after it: the report says what."""
    moody.be(mood)
    box = shop.name()
    patience = 1 if "hangs" in mood else 30
    words = ("run", *moody.options(patience), box, "--", "sleep", "1000")
    report = one_line(shop.call("attachd", *words, check=False))

    assert told in report
    nothing_is_left(shop, box)
    moody.be("")
    shop.call("attachd", "run", *moody.options(), box, "--", "sh", "-c", "exit 3")
    assert shop.ended(box)["exit_code"] == 3


def test_a_creation_that_hangs_in_a_hook_leaves_nothing(shop) -> None:
    """The real runtime, half way: there is a process of the container, and one of the hook."""
    bundle = shop.bundle("sleep", "1000")
    mark = shop.scratch / "mark"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f": > {mark}; exec sleep 1000.125"]}
    shop.patch(bundle, lambda spec: spec.update(hooks={"createRuntime": [hook]}))
    box = shop.name()
    words = ("run", "--create-timeout", "3", "--bundle", bundle, box)
    report = one_line(shop.call("attachd", *words, check=False))

    assert "3 seconds" in report
    assert mark.exists()
    nothing_is_left(shop, box)
    left = subprocess.run(
        ["pgrep", "-f", "^sleep 1000.125"], stdout=subprocess.PIPE, check=False
    )
    assert left.stdout == b""


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("start-dies-before", "137"),
        ("start-hangs-before", "1 seconds"),
        ("start-floods", "last"),
    ],
)
def test_a_start_that_goes_wrong_may_be_tried_again(shop, moody, mood, told) -> None:
    """The server lives, needs no memory for it, and is not held up meanwhile."""
    patience = 1 if "hangs" in mood else 30
    box = shop.create("sh", "-c", "echo up", options=moody.options(patience))
    server = wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    before = peak(server)
    moody.be(mood)
    report = one_line(shop.call("attachd", "start", box, check=False))
    assert told in report
    assert peak(server) - before < FLOOD // 2
    assert shop.server(box) == server
    assert shop.state(box)["phase"] == "created"
    moody.be("")
    shop.call("attachd", "start", box)

    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"up\n"


@pytest.mark.parametrize("mood", ["start-dies-after", "start-hangs-after"])
def test_a_start_that_has_worked_has_worked(shop, moody, mood) -> None:
    """Whatever its runtime does afterwards: the container runs, and that is what is told."""
    box = shop.create("sleep", "1000", options=moody.options(2))
    wait_for(lambda: shop.server(box))
    moody.be(mood)
    shop.call("attachd", "start", box)

    assert shop.state(box)["phase"] == "running"
    assert "though its runtime has failed" in words(shop, box)


@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("exec-dies-before", "137"),
        ("exec-dies-after", "137"),
        ("exec-hangs-before", "2 seconds"),
        ("exec-floods", "last"),
    ],
)
def test_an_exec_that_goes_wrong_is_told(shop, moody, mood, told) -> None:
    """And over: no process of it is left, and the next one works."""
    patience = 2 if "hangs" in mood else 60
    box = shop.run("sleep", "1000", options=moody.options(patience))
    wait_for(lambda: shop.server(box))
    moody.be(mood)
    done = shop.call("attachctl", "exec", box, "--", "sleep", "999.5", check=False)
    moody.be("")

    assert told in one_line(done)
    wait_for(lambda: not json.loads(shop.ctl("stats", box))["execs"])
    init = Path(f"/proc/{shop.state(box)['pid']}")
    assert shop.ctl("exec", box, "--", "sh", "-c", "ps | grep -c '[9]99.5' || :") == b"0\n"
    assert init.exists()
    assert "Traceback" not in words(shop, box)


@pytest.mark.parametrize(
    "mood", ["delete-dies-before", "delete-hangs-before", "delete-floods"]
)
def test_a_delete_that_goes_wrong_is_told_and_the_shim_goes(shop, moody, mood) -> None:
    """With the record written long before; the container is the caller's to delete."""
    patience = 2 if "hangs" in mood else 30
    box = shop.run("true", options=(*moody.options(patience), "--rm", "--linger", "0"))
    keeper = shop.keeper(box)
    moody.be(mood)
    assert shop.ended(box)["exit_code"] == 0
    wait_for(lambda: not os.path.exists(f"/proc/{keeper}"), PATIENCE)

    assert words(shop, box).count("cannot delete the container") == 1
    assert len(words(shop, box)) < 64 * 1024
    moody.be("")
    shop.ctl("rm", "--force", box)
    assert box not in shop._left()


def peak(pid: int) -> int:
    """Return the most memory that a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
