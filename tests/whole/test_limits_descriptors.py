"""No descriptors left, at the server and at the keeper: told in a line, survived, over again.

RLIMIT_NOFILE of a running process is lowered by prlimit(2) to its lowest free number: from then
on each accept, open and dup ends with EMFILE.
"""

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, cri_streams, is_alive, wait_for

pytestmark = pytest.mark.runc


def descriptors(pid: int) -> set[int]:
    return {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}


def pinch(pid: int, room: int = 0) -> None:
    """Leave a process so many descriptors more."""
    held, free, limit = descriptors(pid), 0, 0
    while limit in held or free < room:
        free += limit not in held
        limit += 1
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))


def lift(pid: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def pinched(pid: int, room: int = 0) -> Iterator[None]:
    pinch(pid, room)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            lift(pid)


def words(shop, box: str) -> str:
    return shop.path(box, "shim.log").read_text()


COUNT = "read x; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done"
SAID = b"".join(b"line %d\n" % i for i in range(1, 20001))


def test_the_server_goes_on_without_descriptors(shop) -> None:
    """Output is in the log all the time; who connects waits, and is served when it is over."""
    options = ("-i", "--log-max-size", "64K")
    box = shop.run("sh", "-c", f"{COUNT}; read x; exit 6", options=options)
    server = wait_for(lambda: shop.server(box))
    with attach_blocking(box, root=str(shop.root), since="none", role="viewer"):
        with attach_blocking(box, root=str(shop.root), since="none") as typist:
            with pinched(server):
                waiting = shop.popen("attachctl", "stats", box)
                wait_for(lambda: "cannot be accepted: Too many open files" in words(shop, box))
                typist.send(b"\n", PATIENCE)
                log = shop.path(box, "log/container.log")
                wait_for(lambda: cri_streams(log.read_bytes())["stdout"].endswith(b" 20000\n"))
                assert waiting.poll() is None
            told, _ = waiting.communicate(timeout=PATIENCE)
            assert json.loads(told)["newest"] == len(SAID)
            wait_for(lambda: "accepted again" in words(shop, box))
            shop.ctl("rotate", box)
            typist.send(b"\n", PATIENCE)
    record = shop.ended(box)

    assert (record["exit_code"], record["restarts"]) == (6, 0)
    assert shop.ctl("logs", box) == SAID
    assert len(list(shop.path(box, "log").iterdir())) == 2
    said = words(shop, box)
    assert said.count("cannot be accepted") == said.count("accepted again") == 1
    assert said.count("cannot rotate") == 1
    assert "Traceback" not in said


def test_the_end_is_recorded_without_descriptors(shop) -> None:
    """Spare ones are held for it; a copy elsewhere comes when there are some again."""
    copy = shop.scratch / "copy.json"
    quiet = "exec >&- 2>&-; read x; exit 8"  # what its output needs is given back by then
    box = shop.run("sh", "-c", quiet, options=("-i", "--exit-file", copy))
    server = wait_for(lambda: shop.server(box))
    with attach_blocking(box, root=str(shop.root), since="start") as typist:
        ended = {typist.receive(PATIENCE).stream for _ in range(2)}
        assert ended == {"stdout", "stderr"}
        with pinched(server):
            typist.send(b"\n", PATIENCE)
            record = shop.ended(box)
            assert not copy.exists()
        wait_for(copy.exists)

    assert (record["exit_code"], record["restarts"]) == (8, 0)
    assert json.loads(copy.read_text()) == record
    assert "Traceback" not in words(shop, box)


def test_old_output_that_cannot_be_read_now_is_no_gap(shop) -> None:
    """It is in the log: who wants it waits until the server may open that."""
    options = ("-i", "--ring-size", "65536")
    box = shop.run("sh", "-c", f"{COUNT}; read x", options=options)
    server = wait_for(lambda: shop.server(box))
    shop.ctl("send", box, "")
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == len(SAID))
    wait_for(lambda: json.loads(shop.ctl("stats", box))["connected"] == 1)
    with pinched(server, 1):
        reader = shop.popen("attach", "--from", "start", "--read-only", box)
        wait_for(lambda: len(descriptors(server)) >= limit_of(server))
    shop.ctl("send", box, "")
    seen, told = reader.communicate(timeout=PATIENCE)

    assert (seen == SAID, told) == (True, b"")


def limit_of(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]


@pytest.mark.slow
@pytest.mark.parametrize("whose", ["server", "keeper"])
def test_an_exec_works_or_is_refused(shop, whose) -> None:
    """However few descriptors there are: in one line, and nothing of it is held afterwards."""
    box = shop.run("sleep", "1000")
    server, keeper = wait_for(lambda: shop.server(box)), shop.keeper(box)
    shop.ctl("exec", box, "--", "true")
    wait_for(lambda: not json.loads(shop.ctl("stats", box))["execs"])
    before = {pid: len(descriptors(pid)) for pid in (server, keeper)}
    outcomes = set()
    for room in range(1, 30, 2):
        with pinched(server if whose == "server" else keeper, room):
            done = shop.call("attachctl", "exec", box, "--", "echo", "x", check=False)
        assert shop.server(box) == server, words(shop, box)
        outcomes.add(done.returncode)
        assert (done.returncode, done.stdout) in ((0, b"x\n"), (125, b""))
        if done.returncode:
            assert done.stderr.count(b"\n") == 1
            assert b"descriptors left" in done.stderr or b"Too many open files" in done.stderr
        wait_for(lambda: not json.loads(shop.ctl("stats", box))["execs"])
        wait_for(lambda: {pid: len(descriptors(pid)) for pid in before} == before)

    assert outcomes == {0, 125}
    assert shop.server(box) == server, words(shop, box)
    assert "Traceback" not in words(shop, box)


def test_a_keeper_that_is_killed_has_an_heir_when_there_are_descriptors(shop) -> None:
    """The server lives on without one until then."""
    box = shop.run("sh", "-c", "read x; exit 5", options=("-i",))
    told = json.loads(shop.ctl("stats", box))
    with pinched(told["server_pid"]):
        os.kill(told["keeper_pid"], signal.SIGKILL)
        wait_for(lambda: not is_alive(told["keeper_pid"]))
        early = shop.popen("attachctl", "send", box, "")
    wait_for(lambda: shop.keeper(box) != told["keeper_pid"])
    early.communicate(timeout=PATIENCE)

    assert early.returncode == 0
    assert shop.ended(box)["exit_code"] == 5
    assert "Traceback" not in words(shop, box)


def test_a_keeper_without_descriptors_starts_a_server_when_there_are_some(shop) -> None:
    """The container waits; what the server has sent before its death is not lost."""
    options = ("-i", "--log-max-size", "64K")
    box = shop.run("sh", "-c", f"{COUNT}; read x; exit 5", options=options)
    server, keeper = wait_for(lambda: shop.server(box)), shop.keeper(box)
    shop.ctl("stats", box)
    with pinched(keeper):
        shop.ctl("send", box, "")
        wait_for(lambda: "no descriptors are left" in words(shop, box))
        wait_for(lambda: len(list(shop.path(box, "log").iterdir())) > 2)
        os.kill(server, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{server}").exists())
    wait_for(lambda: "there are descriptors again" in words(shop, box))
    shop.ctl("send", box, "")
    record = shop.ended(box)

    assert record["exit_code"] == 5
    assert record["restarts"] >= 1
    assert shop.ctl("logs", box) == SAID
    assert words(shop, box).count("no descriptors are left") == 1
