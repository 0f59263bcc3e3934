"""Requirement 11, and what attachctl does: list, inspect, follow, signal, remove."""

import json
import os

import pytest
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc


def gone(shop, box: str) -> None:
    """Wait until the shim of an ended container is gone."""
    shop.ended(box)
    wait_for(lambda: not shop.processes())


def test_after_the_end_the_files_answer(shop) -> None:
    """logs, inspect, wait and attach: last output, exit code, no hang."""
    script = "for i in $(seq 30); do echo line $i; done; echo err >&2; exit 7"
    box = shop.run("sh", "-c", script, options=("--linger", "0"))
    gone(shop, box)
    everything = b"".join(b"line %d\n" % i for i in range(1, 31))

    logs = shop.call("attachctl", "logs", box)
    assert (logs.stdout, logs.stderr) == (everything, b"err\n")
    assert shop.call("attachctl", "logs", "-f", box).stdout == everything
    assert json.loads(shop.ctl("inspect", box))["exit"]["exit_code"] == 7
    assert shop.ctl("wait", box) == b"7\n"
    attached = shop.call("attach", "--from", "start", box, check=False)
    assert (attached.returncode, attached.stdout, attached.stderr) == (7, everything, b"err\n")
    tail = shop.call("attach", "--from", "tail:1", box, check=False)
    assert tail.stdout + tail.stderr in (b"line 30\n", b"err\n")
    rest = shop.call("attach", "--from", "offset:201", box, check=False)
    assert everything.endswith(rest.stdout)
    assert len(rest.stdout + rest.stderr) == len(everything) + len(b"err\n") - 201


def test_logs_follows_to_the_end(shop) -> None:
    """What is in the file and what comes later are one sequence."""
    box = shop.run("sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done")
    follower = shop.popen("attachctl", "logs", "-f", box)
    out, _ = follower.communicate(timeout=PATIENCE)

    assert out == b"1\n2\n3\n4\n5\n6\n"


def test_followers_get_each_stream_exactly_whenever_they_come(shop) -> None:
    """A line of one stream that is open while the other one speaks is neither lost nor doubled."""
    script = "for i in $(seq 150); do printf a; echo b >&2; sleep 0.01; echo c; done"
    box = shop.run("sh", "-c", script)
    followers = []
    for lines in range(0, 150, 25):
        wait_for(
            lambda n=lines: shop.path(box, "log/container.log").read_bytes().count(b"\n") >= n
        )
        followers.append(shop.popen("attachctl", "logs", "-f", box))
    for follower in followers:
        assert follower.communicate(timeout=PATIENCE) == (b"ac\n" * 150, b"b\n" * 150)


def test_ls_tells_phases_and_ends(shop) -> None:
    """created, running, stopped with how it ended."""
    created, running = shop.create("true"), shop.run("sleep", "1000")
    ended = shop.run("sh", "-c", "exit 3")
    shop.ended(ended)
    rows = {row["id"]: row for row in json.loads(shop.ctl("ls", "--json"))}

    assert [rows[box]["phase"] for box in (created, running, ended)] == [
        "created",
        "running",
        "stopped",
    ]
    assert rows[ended]["end"] == "exited with 3"
    assert f"{running}  running" in shop.ctl("ls").decode()


def test_start_works_once(shop) -> None:
    """A second start is refused with the reason."""
    box = shop.create("sleep", "1000")
    shop.call("attachd", "start", box)
    again = shop.call("attachd", "start", box, check=False)

    assert again.returncode == 125
    assert b"cannot start a container that is running" in again.stderr
    assert shop.state(box)["phase"] == "running"


def test_rm_removes_what_ended_and_refuses_what_runs(shop) -> None:
    """With --force it kills first; log, directory and runtime state are gone."""
    box = shop.run("sleep", "1000")
    refused = shop.call("attachctl", "rm", box, check=False)
    assert refused.returncode == 125
    assert b"--force" in refused.stderr
    shop.ctl("rm", "--force", box)
    assert not shop.path(box).exists()

    wait_for(lambda: not shop.processes())
    log = shop.scratch / "kept" / "x.log"
    other = shop.run("true", options=("--log", log))
    shop.ended(other)
    shop.ctl("rm", other)
    assert not log.exists()


def test_kill_takes_names_and_numbers(shop) -> None:
    """TERM reaches a program that handles it; nonsense is refused."""
    script = "trap 'echo caught; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    box = shop.run("sh", "-c", script)
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    bad = shop.call("attachctl", "kill", "-s", "NOPE", box, check=False)
    assert bad.returncode == 125
    shop.ctl("kill", "-s", "term", box)

    assert shop.ended(box)["exit_code"] == 5


def test_an_unknown_container_is_told_in_one_line(shop) -> None:
    """Whatever the verb."""
    for words in (("inspect", "nope"), ("logs", "nope"), ("wait", "../x"), ("rm", "nope")):
        done = shop.call("attachctl", *words, check=False)
        assert done.returncode == 125
        assert done.stderr.count(b"\n") == 1
    assert shop.call("attach", "nope", check=False).returncode == 125


def test_nothing_of_the_launcher_leaks(shop) -> None:
    """A descriptor and a secret of the launcher reach neither container nor shim."""
    read, write = os.pipe()
    box = shop.name()
    script = "ls -l /proc/self/fd; env; sleep 1000"
    environment = os.environ | {"ATTACHD_ROOT": str(shop.root), "SECRET": "hunter2"}
    shop.call(
        "attachd", "run", box, "--", "sh", "-c", script, pass_fds=(read,), env=environment
    )
    link = os.readlink(f"/proc/self/fd/{read}")
    wait_for(
        lambda: shop.path(box, "log/container.log").exists() and b"PATH=" in shop.log(box)
    )
    server = wait_for(lambda: shop.server(box))
    os.close(read)
    os.close(write)

    assert b"hunter2" not in shop.log(box)
    assert link.encode() not in shop.log(box)
    with open(f"/proc/{server}/environ", "rb") as file:
        assert b"hunter2" not in file.read()
    for pid in (server, shop.keeper(box)):
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        assert link not in links


def test_a_launcher_without_standard_descriptors_works(shop) -> None:
    """0, 1 and 2 closed: no pipe of ours gets their numbers."""
    box = shop.name()
    words = " ".join(shop.argv("attachd", "run", "--root", shop.root, box, "--", "echo", "x"))
    import subprocess

    subprocess.run(["sh", "-c", f"exec {words} <&- >&- 2>&-"], check=True, timeout=PATIENCE)
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"x\n"
