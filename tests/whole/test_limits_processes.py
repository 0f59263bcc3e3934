"""No processes and no memory: whoever dies of it has a successor, and the container only waits.

Root is not bound by RLIMIT_NPROC: a cgroup of the test's own is (pids controller).
"""

import hashlib
import json
import os
import resource
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import cri_streams, wait_for

pytestmark = pytest.mark.runc

SCRIPT = """
i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i of them all, and some words more; done
"""
SAID = b"".join(b"line %d of them all, and some words more\n" % i for i in range(1, 40001))


class Cgroup:
    """A cgroup (v1) of one controller."""

    def __init__(self, controller: str) -> None:
        above = Path("/sys/fs/cgroup") / controller
        if not (above / "cgroup.procs").exists():
            pytest.skip(f"no {controller} controller of cgroup v1")
        self.path = above / f"attachd-test-{secrets.token_hex(4)}"
        self._above = above
        try:
            self.path.mkdir()
        except OSError as error:
            pytest.skip(f"no cgroup can be made: {error.strerror}")

    def add(self, *pids: int) -> None:
        for pid in pids:
            (self.path / "cgroup.procs").write_text(str(pid))

    def set(self, name: str, value: object) -> None:
        (self.path / name).write_text(str(value))

    def close(self) -> None:
        for pid in (self.path / "cgroup.procs").read_text().split():
            try:
                (self._above / "cgroup.procs").write_text(pid)
            except ProcessLookupError:
                continue
        wait_for(self._remove)

    def _remove(self) -> bool:
        try:
            self.path.rmdir()
        except OSError:
            return False
        return True


@pytest.fixture
def crowd() -> Iterator[Cgroup]:
    made = Cgroup("pids")
    yield made
    made.close()


@pytest.fixture
def cramped() -> Iterator[Cgroup]:
    made = Cgroup("memory")
    yield made
    made.close()


def words(shop, box: str) -> str:
    return shop.path(box, "shim.log").read_text()


def trouble(shop, box: str) -> str:
    """Return what ``attachctl inspect`` tells of a server that is not there."""
    return shop.ctl("inspect", box).decode()


def all_is_exact(shop, box: str) -> dict:
    record = shop.ended(box)
    found = cri_streams(shop.log(box))["stdout"]
    assert hashlib.sha256(found).digest() == hashlib.sha256(SAID).digest()
    assert (record["exit_code"], record["bytes"]["stdout"]) == (9, len(SAID))
    return record


def test_without_processes_the_container_waits(shop, crowd) -> None:
    """The keeper tries again until it can fork; nothing is missing afterwards."""
    box = shop.run("sh", "-c", f"read x; {SCRIPT} read x; exit 9", options=("-i",))
    server, keeper = wait_for(lambda: shop.server(box)), shop.keeper(box)
    shop.ctl("stats", box)
    crowd.add(keeper, server)
    crowd.set("pids.max", 1)
    shop.ctl("send", box, "")
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: "Resource temporarily unavailable" in trouble(shop, box))
    crowd.set("pids.max", "max")
    shop.ctl("send", box, "")
    record = all_is_exact(shop, box)

    assert record["restarts"] == 1
    assert "Traceback" not in words(shop, box)


def test_without_processes_a_request_is_refused(shop, crowd) -> None:
    """An exec, and a start: in one line that says why. Afterwards both work."""
    box = shop.run("sleep", "1000")
    other = shop.create("sh", "-c", "exit 4")
    servers = [wait_for(lambda b=b: shop.server(b)) for b in (box, other)]
    for made in (box, other):
        shop.ctl("stats", made)
    crowd.add(*servers, *map(shop.keeper, (box, other)))
    crowd.set("pids.max", 1)
    refused = [
        shop.call("attachctl", "exec", box, "--", "true", check=False),
        shop.call("attachd", "start", other, check=False),
    ]
    crowd.set("pids.max", "max")

    for done in refused:
        assert done.returncode not in (0, 1)
        assert done.stderr.count(b"\n") == 1
        assert b"Resource temporarily unavailable" in done.stderr
    assert shop.ctl("exec", box, "--", "echo", "x") == b"x\n"
    shop.call("attachd", "start", other)
    assert shop.ended(other)["exit_code"] == 4
    assert "Traceback" not in words(shop, box) + words(shop, other)


def test_the_end_is_recorded_without_processes(shop, crowd) -> None:
    """What is done in threads, where there are some, is done without."""
    box = shop.run("sh", "-c", "read x; echo out; exit 4", options=("-i", "--log-sync"))
    server, keeper = wait_for(lambda: shop.server(box)), shop.keeper(box)
    crowd.add(keeper, server)
    crowd.set("pids.max", 1)
    shop.ctl("send", box, "")
    record = shop.ended(box)
    crowd.set("pids.max", "max")

    assert (record["exit_code"], record["restarts"]) == (4, 0)
    assert shop.output(box) == b"out\n"


@pytest.mark.parametrize("room", [0, 1 << 20], ids=["none", "some"])
def test_a_server_without_memory_loses_nothing(shop, room) -> None:
    """RLIMIT_AS: it may die of it, and its successor has no such limit."""
    box = shop.run(
        "sh", "-c", f"read x; {SCRIPT} exit 9", options=("-i", "--ring-size", "262144")
    )
    server = wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    size = int(Path(f"/proc/{server}/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.prlimit(server, resource.RLIMIT_AS)
    sender = shop.popen("attachctl", "send", box, "")
    resource.prlimit(server, resource.RLIMIT_AS, (size + room, hard))
    sender.communicate(timeout=60)
    all_is_exact(shop, box)


def test_a_server_that_the_oom_killer_takes_loses_nothing(shop, cramped) -> None:
    """The kernel picks it in a cgroup that has no more memory; its successor is born outside."""
    box = shop.run("sh", "-c", f"read x; {SCRIPT} exit 9", options=("-i",))
    server = wait_for(lambda: shop.server(box))
    shop.ctl("stats", box)
    cramped.set("memory.limit_in_bytes", 256 << 10)
    cramped.add(server)
    shop.ctl("send", box, "")
    record = all_is_exact(shop, box)

    assert record["restarts"] >= 1
    assert not record["oom_killed"]


@pytest.mark.slow
def test_a_server_that_is_stopped_for_ten_seconds_only_delays(shop) -> None:
    """SIGSTOP, while output flows, one follows, one types, and one comes: no error, no gap."""
    echo = "while read x; do echo got $x; done"
    flow = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo line $i; done >&2"
    box = shop.run("sh", "-c", f"{flow} & {echo}; wait; exit 3", options=("-i",))
    server = wait_for(lambda: shop.server(box))
    follower = shop.popen("attachctl", "logs", "-f", "--stream", "stdout", box)
    typist = shop.popen("attach", "--from", "start", box, stdin=-1)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["connected"] == 3)
    typed = [b"word %d\n" % i for i in range(200)]
    for word in typed[:100]:
        typist.stdin.write(word)
    os.kill(server, signal.SIGSTOP)
    guest = shop.popen("attachctl", "stats", box)
    for word in typed[100:]:
        typist.stdin.write(word)
    typist.stdin.close()
    stopped_for(10)
    os.kill(server, signal.SIGCONT)
    typist.stdin = None
    seen, told = typist.communicate(timeout=60)
    followed, _ = follower.communicate(timeout=60)
    stats, _ = guest.communicate(timeout=60)
    record = shop.ended(box)

    said = b"".join(b"got " + word for word in typed)
    assert (typist.returncode, seen == said) == (3, True), told[-300:]
    assert (follower.returncode, followed == said) == (0, True)
    assert (guest.returncode, record["exit_code"], record["restarts"]) == (0, 3, 0)
    assert json.loads(stats)["server_pid"] == server
    flowed = b"".join(b"line %d\n" % i for i in range(1, 60001))
    assert cri_streams(shop.log(box))["stderr"] == flowed


def stopped_for(seconds: float) -> None:
    """What is tested is that these seconds pass, and nothing else."""
    import time

    time.sleep(seconds)
