"""Requirement 11, and what attachctl does: list, inspect, follow, signal, remove."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
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
    environment["ATTACHD_PASS_ALL"] = "1"  # a door's own, and nothing that a caller may say
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
    argv = shop.argv("attachd", "run", "--root", shop.root, box, "--", "echo", "x")
    words = shlex.join(argv)
    subprocess.run(["sh", "-c", f"exec {words} <&- >&- 2>&-"], check=True, timeout=PATIENCE)
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"x\n"


def test_ls_of_a_root_that_is_empty_or_missing(shop) -> None:
    """A heading and no rows; no error."""
    assert shop.ctl("ls").split() == [b"ID", b"PHASE", b"PID", b"END", b"BUNDLE"]
    assert json.loads(shop.ctl("ls", "--json")) == []
    shop.root.mkdir()
    assert json.loads(shop.ctl("ls", "--json")) == []


def test_inspect_of_a_running_container_tells_state_and_shim(shop) -> None:
    """No exit yet; the pids are those of the files."""
    box = shop.run("sh", "-c", "echo four; sleep 1000", options=("-i",))
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    found = json.loads(shop.ctl("inspect", box))

    assert found["exit"] is None
    assert found["state"]["phase"] == found["shim"]["phase"] == "running"
    assert found["state"]["pid"] == found["shim"]["pid"]
    assert found["shim"]["keeper_pid"] == shop.keeper(box)
    assert found["shim"]["server_pid"] == shop.server(box)
    assert found["shim"]["bytes"] == {"stdout": 5, "stderr": 0}
    assert os.path.isdir(f"/proc/{found['state']['pid']}")


def test_stats_count_the_servers_tasks(shop) -> None:
    """A client costs some while it is there, and none when it has gone."""
    box = shop.run("sleep", "1000")

    def tasks() -> int:
        return json.loads(shop.ctl("stats", box))["tasks"]

    before = tasks()
    with attach_blocking(box, root=str(shop.root), since="none"):
        during = tasks()
    wait_for(lambda: tasks() == before)

    assert during > before > 0


def test_stats_count_bytes_and_clients(shop) -> None:
    """Per stream, per log, per client."""
    box = shop.run("sh", "-c", "echo out; echo err!! >&2; sleep 1000")
    client = shop.popen("attach", "--from", "start", box)
    assert client.stdout.readline() == b"out\n"
    assert client.stderr.readline() == b"err!!\n"
    wait_for(lambda: json.loads(shop.ctl("stats", box))["logs"][0]["offset"] == 10)
    stats = json.loads(shop.ctl("stats", box))
    named = [c for c in stats["clients"] if c["pid"] == client.pid]
    client.kill()
    client.communicate(timeout=PATIENCE)

    assert stats["bytes"] == {"stdout": 4, "stderr": 6}
    assert stats["newest"] == 10
    assert [(c["sent"], c["lag"], c["gaps"], c["uid"]) for c in named] == [(10, 0, 0, 0)]
    assert stats["stdin"]["state"] == "closed"
    wait_for(lambda: client.pid not in [
        c["pid"] for c in json.loads(shop.ctl("stats", box))["clients"]
    ])  # fmt: skip


def test_wait_of_several_prints_each_code_in_their_order(shop) -> None:
    """Those that have ended and those that have not."""
    first, second = shop.run("sh", "-c", "read x; exit 3", options=("-i",)), shop.run("true")
    waiter = shop.popen("attachctl", "wait", first, second)
    shop.ended(second)
    assert waiter.poll() is None
    shop.call("attach", "--from", "live", first, input=b"\n", check=False)

    assert waiter.communicate(timeout=PATIENCE)[0] == b"3\n0\n"
    assert waiter.returncode == 0


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "term", "15"])
def test_a_signal_has_many_names(shop, signal) -> None:
    """With and without SIG, in any case, as a number."""
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done"
    box = shop.run("sh", "-c", script)
    wait_for(lambda: shop.path(box, "log/container.log").exists() and shop.log(box))
    shop.ctl("kill", "-s", signal, box)

    assert shop.ended(box)["exit_code"] == 5


@pytest.mark.parametrize("signal", ["9", "KILL", "kill", None])
def test_kill_kills(shop, signal) -> None:
    """By number, by name, and by default."""
    box = shop.run("sleep", "1000")
    shop.ctl("kill", *(["-s", signal] if signal else []), box)

    assert shop.ended(box)["signal"] == 9


@pytest.mark.parametrize("signal", ["NOPE", "0x9", "-1", "65", "999999", "", "9.0", "SIG_IGN"])
def test_nonsense_is_no_signal(shop, signal) -> None:
    """One line, 125, and the container runs on."""
    box = shop.run("sleep", "1000")
    done = shop.call("attachctl", "kill", f"--signal={signal}", box, check=False)

    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert json.loads(shop.ctl("stats", box))["phase"] == "running"


def test_kill_and_rm_of_several_do_them_all(shop) -> None:
    """One call, several containers."""
    boxes = [shop.run("sleep", "1000") for _ in range(3)]
    shop.ctl("kill", *boxes)
    assert [shop.ended(box)["signal"] for box in boxes] == [9, 9, 9]
    shop.ctl("rm", *boxes)
    assert json.loads(shop.ctl("ls", "--json")) == []


def test_rm_refuses_a_created_container(shop) -> None:
    """It has not ended; --force removes it, and its runtime's state."""
    box = shop.create("true")
    done = shop.call("attachctl", "rm", box, check=False)

    assert done.returncode == 125
    assert b"--force" in done.stderr
    assert json.loads(shop.ctl("stats", box))["phase"] == "created"
    shop.ctl("rm", "--force", box)
    listed = subprocess.run(["runc", "list", "-q"], capture_output=True, timeout=PATIENCE)
    assert box not in listed.stdout.decode().split()
    assert not shop.path(box).exists()


def test_after_rm_the_id_is_free(shop) -> None:
    """The next container has its own log, its own stream, its own record."""
    box = shop.run("sh", "-c", "echo one; exit 1")
    first = shop.ended(box)
    shop.ctl("rm", box)
    shop.call("attachd", "run", box, "--", "sh", "-c", "echo two; exit 2")
    second = shop.ended(box)

    assert (first["exit_code"], second["exit_code"]) == (1, 2)
    assert first["stream_id"] != second["stream_id"]
    assert shop.ctl("logs", box) == b"two\n"


def test_rm_takes_an_orphan_of_the_container_along(shop) -> None:
    """A grandchild in the host's pid namespace ends with what it belonged to."""
    bundle = shop.bundle("sh", "-c", "sleep 987654 >/dev/null 2>&1 & exit 0")
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    shop.call("attachd", "run", "--linger", "0", "--bundle", bundle, box)
    shop.ended(box)
    cgroup = [x for x in shop.state(box)["cgroups"] if x]
    assert cgroup
    shop.ctl("rm", "--force", box)

    def alive() -> bool:
        for process in Path("/proc").iterdir():
            try:
                if (process / "cmdline").read_bytes() == b"sleep\x00987654\x00":
                    return True
            except OSError:
                continue
        return False

    wait_for(lambda: not alive(), 5)


def test_a_second_start_at_the_same_moment_is_refused(shop) -> None:
    """Of several, one starts it."""
    box = shop.create("sleep", "1000")
    rivals = [shop.popen("attachd", "start", box) for _ in range(4)]
    ends = [(rival.communicate(timeout=PATIENCE)[1], rival.returncode) for rival in rivals]

    assert sorted(code for _, code in ends) == [0, 125, 125, 125]
    assert all(b"start" in words for words, code in ends if code)


def test_the_environment_names_the_root_as_well_as_the_option(shop) -> None:
    """--root wins over ATTACHD_ROOT."""
    box = shop.run("sleep", "1000")
    elsewhere = {"env": os.environ | {"ATTACHD_ROOT": str(shop.scratch / "elsewhere")}}

    assert box not in shop.call("attachctl", "ls", **elsewhere).stdout.decode()
    found = shop.call("attachctl", "--root", shop.root, "ls", **elsewhere)
    assert box in found.stdout.decode()


def test_the_programs_tell_their_version_and_their_help(shop) -> None:
    """On stdout, with 0."""
    for program in ("attachd", "attach", "attachctl"):
        assert shop.call(program, "--version").stdout.startswith(program.encode())
        assert b"usage" in shop.call(program, "--help").stdout
