"""inotify used up: whoever follows looks by itself, and says so.

The limits are those of a user namespace of the test's own (namespaces(7), /proc/sys/user), so
that nobody else's are touched.
"""

import subprocess
from pathlib import Path

import pytest
from harness import BIN, PATIENCE, wait_for

pytestmark = pytest.mark.runc


def limited(limit: str, number: int, *words: object) -> list[str]:
    """Return a command that runs another under a limit of its own."""
    script = f'echo {number} > /proc/sys/user/{limit} && exec "$@"'
    return ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", *map(str, words)]


@pytest.mark.parametrize(
    ("limit", "number", "name"),
    [
        ("max_inotify_instances", 0, "fs.inotify.max_user_instances"),
        ("max_inotify_watches", 0, "fs.inotify.max_user_watches"),
        ("max_inotify_watches", 1, "fs.inotify.max_user_watches"),
    ],
)
def test_follow_all_looks_by_itself(shop, limit, number, name) -> None:
    """One line, no traceback; containers that come later are followed, too."""
    works = subprocess.run(limited(limit, number, "true"), capture_output=True, check=False)
    if works.returncode:
        pytest.skip(f"no user namespace with limits of its own: {works.stderr!r}")
    into = shop.scratch / "into"
    words = (BIN / "attachctl", "--root", shop.root, "follow-all", "--into", into)
    first = shop.run("echo", "first")
    follower = subprocess.Popen(
        limited(limit, number, *words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: said(into, first, b"first"))
        later = shop.run("echo", "later")
        wait_for(lambda: said(into, later, b"later"))
        follower.terminate()
        _, told = follower.communicate(timeout=PATIENCE)
    finally:
        follower.kill()
        follower.communicate()

    assert follower.returncode == 0
    assert told.count(b"\n") == 1
    assert name.encode() in told


def said(into: Path, box: str, text: bytes) -> bool:
    path = into / f"{box}.log"
    return path.exists() and text in path.read_bytes()
