"""Requirement 3: the exit is exact."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc


@pytest.mark.parametrize("code", [0, 7, 255])
def test_an_exit_code_is_recorded_as_it_was(shop, code) -> None:
    """exit.json and --exit-file tell the same code, times, bytes and offsets."""
    copy = shop.scratch / "exit-copy.json"
    box = shop.run(
        "sh", "-c", f"echo out; echo err >&2; exit {code}", options=("--exit-file", copy)
    )
    record = shop.ended(box)

    assert record["exit_code"] == code
    assert record["signal"] is None
    assert record["reason"] == "exited"
    assert record["bytes"] == {"stdout": 4, "stderr": 4}
    assert record["offset"] == record["log_offset"] == 8
    assert record["drained"] is True
    assert record["restarts"] == 0
    assert record["started_at"] <= record["finished_at"]
    shop.ctl("wait", box)
    assert json.loads(copy.read_text()) == record


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("SEGV", 11)])
def test_death_by_a_signal_is_told_as_a_signal(shop, name, number) -> None:
    """A signal is not a code over 128: signal is set, exit_code is null."""
    bundle = shop.bundle("sleep", "1000")
    # The kernel keeps the init of a pid namespace from every signal but SIGKILL.
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    shop.ctl("kill", "-s", name, box)
    record = shop.ended(box)

    assert (record["exit_code"], record["signal"], record["reason"]) == (
        None,
        number,
        "signaled",
    )
    assert shop.ctl("wait", box) == f"{128 + number}\n".encode()


def test_an_oom_kill_is_told_as_such(shop) -> None:
    """A container that outgrows its memory limit ends with the reason oom."""
    bundle = shop.bundle("tail", "/dev/zero")

    def limit(spec) -> None:
        spec["linux"]["resources"]["memory"] = {"limit": 16 << 20}

    shop.patch(bundle, limit)
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    record = shop.ended(box)

    assert (record["reason"], record["signal"], record["oom_killed"]) == ("oom", 9, True)


def test_a_timeout_is_told_as_such(shop) -> None:
    """--timeout kills the container, and the record says why."""
    box = shop.run("sleep", "1000", options=("--timeout", "0.3"))
    record = shop.ended(box)

    assert (record["reason"], record["signal"], record["timed_out"]) == ("timeout", 9, True)


def test_rm_deletes_from_the_runtime_and_frees_the_id(shop) -> None:
    """After --rm the record can be read, and the id used again."""
    box = shop.run("sh", "-c", "exit 3", options=("--rm", "--linger", "0"))
    assert shop.ended(box)["exit_code"] == 3
    shop.ctl("wait", box)
    wait_for(lambda: shop.state(box)["deleted"] and not shop.processes())
    shop.call("attachd", "run", box, "--", "sh", "-c", "exit 4")
    assert wait_for(lambda: shop.ended(box)["exit_code"] == 4)


def test_the_exit_command_runs_once_with_its_arguments(shop) -> None:
    """--exit-command gets its --exit-command-arg words, after the record was written."""
    seen = shop.scratch / "seen"
    script = shop.scratch / "hook"
    script.write_text(
        f"#!/bin/sh\nfor word; do printf '[%s]' \"$word\" >>{seen}; done; echo >>{seen}\n"
    )
    script.chmod(0o755)
    box = shop.run(
        "true",
        options=(
            "--exit-command",
            script,
            "--exit-command-arg",
            "a b",
            "--exit-command-arg=-c",
        ),
    )
    shop.ended(box)
    wait_for(lambda: seen.exists() and seen.read_text().endswith("\n"))
    assert seen.read_text() == "[a b][-c]\n"


def test_pid_files_hold_the_pids(shop) -> None:
    """--pid-file has the container's pid, --keeper-pid-file the shim's; so has the directory."""
    files = [shop.scratch / "pid", shop.scratch / "keeper"]
    box = shop.run(
        "sleep", "1000", options=("--pid-file", files[0], "--keeper-pid-file", files[1])
    )
    state = shop.state(box)

    assert [int(file.read_text()) for file in files] == [state["pid"], state["keeper_pid"]]
    assert int(Path(shop.path(box, "container.pid")).read_text()) == state["pid"]
    assert int(Path(shop.path(box, "keeper.pid")).read_text()) == state["keeper_pid"]


#: protocol.md, "The exit record".
SCHEMA = {
    "schema": int,
    "id": str,
    "reason": str,
    "unknown_because": str | None,
    "exit_code": int | None,
    "signal": int | None,
    "core_dumped": bool,
    "oom_killed": bool,
    "timed_out": bool,
    "started_at": str,
    "finished_at": str,
    "bytes": dict,
    "offset": int,
    "log_offset": int,
    "log_dropped": int,
    "drained": bool,
    "restarts": int,
    "recovered": int,
    "stream_id": str,
}


def in_host_pids(shop, *command: str) -> Path:
    """Return a bundle without a pid namespace: its init can be killed by any signal."""
    bundle = shop.bundle(*command)
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    return bundle


def test_the_record_has_every_field_and_each_its_type(shop) -> None:
    """Times in RFC 3339; the stream's id is state.json's."""
    box = shop.run("sh", "-c", "echo x; exit 2")
    record = shop.ended(box)

    assert list(record) == list(SCHEMA)
    assert all(isinstance(record[name], kind) for name, kind in SCHEMA.items())
    assert (record["schema"], record["id"]) == (1, box)
    assert record["stream_id"] == shop.state(box)["stream_id"]
    for name in ("started_at", "finished_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", record[name])


def test_the_schema_is_documented(shop) -> None:
    """protocol.md names every field and every reason."""
    text = (Path(__file__).parents[2] / "protocol.md").read_text()
    words = [*SCHEMA, "exited", "signaled", "oom", "timeout", "unknown"]

    assert [word for word in words if f"`{word}`" not in text] == []


@pytest.mark.parametrize(("name", "number"), [("SEGV", 11), ("KILL", 9), ("PIPE", 13)])
def test_a_program_that_kills_itself_died_by_that_signal(shop, name, number) -> None:
    """Nobody of ours sent it."""
    box = shop.name()
    bundle = in_host_pids(shop, "sh", "-c", f"kill -{name} $$")
    shop.call("attachd", "run", "--bundle", bundle, box)
    record = shop.ended(box)

    assert (record["signal"], record["exit_code"]) == (number, None)
    assert (record["reason"], record["oom_killed"]) == ("signaled", False)


def test_128_and_a_signal_as_a_code_is_a_code(shop) -> None:
    """`exit 137` is no death by SIGKILL."""
    record = shop.ended(shop.run("sh", "-c", "exit 137"))

    assert (record["exit_code"], record["signal"], record["reason"]) == (137, None, "exited")


def test_a_kill_by_the_runtime_is_told(shop) -> None:
    """`runc kill` goes past us; the record is the same."""
    box = shop.run("sleep", "1000")
    subprocess.run(["runc", "kill", box, "KILL"], check=True, timeout=PATIENCE)
    record = shop.ended(box)

    assert (record["signal"], record["exit_code"], record["reason"]) == (9, None, "signaled")


def test_a_created_container_that_is_killed_never_started(shop) -> None:
    """started_at is null."""
    box = shop.create("sleep", "1000")
    shop.ctl("kill", box)
    record = shop.ended(box)

    assert record["started_at"] is None
    assert (record["signal"], record["bytes"]) == (9, {"stdout": 0, "stderr": 0})


def test_an_oom_kill_of_a_child_is_counted_and_the_code_is_inits(shop) -> None:
    """init lives on and ends by itself: exited, with oom_killed."""
    bundle = shop.bundle("sh", "-c", "tail /dev/zero; exit 3")
    limit = {"memory": {"limit": 16 << 20}}
    shop.patch(bundle, lambda spec: spec["linux"]["resources"].update(limit))
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    record = shop.ended(box)

    assert (record["reason"], record["exit_code"]) == ("exited", 3)
    assert record["oom_killed"] is True


def test_a_sigkill_within_a_memory_limit_is_no_oom(shop) -> None:
    """The limit alone proves nothing."""
    bundle = shop.bundle("sleep", "1000")
    limit = {"memory": {"limit": 64 << 20}}
    shop.patch(bundle, lambda spec: spec["linux"]["resources"].update(limit))
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    shop.ctl("kill", box)

    assert shop.ended(box)["reason"] == "signaled"


def test_an_end_before_the_timeout_is_none(shop) -> None:
    """--timeout that is not reached leaves no mark."""
    record = shop.ended(shop.run("sh", "-c", "exit 1", options=("--timeout", "50")))

    assert (record["reason"], record["timed_out"]) == ("exited", False)


def test_a_timeout_is_no_sooner_than_it_was_asked_for(shop) -> None:
    """And counts from the start, not from the creation."""
    box = shop.create("sleep", "1000", options=("--timeout", "0.5"))
    shop.call("attachd", "start", box)
    record = shop.ended(box)
    started, finished = (
        datetime.fromisoformat(f"{record[name][:26]}+00:00")
        for name in ("started_at", "finished_at")
    )

    assert record["reason"] == "timeout"
    assert (finished - started).total_seconds() >= 0.5


def test_start_is_never_told_after_the_end(shop) -> None:
    """However short the life that `attachd start` began."""
    records = []
    for _ in range(10):
        box = shop.create("true", options=("--linger", "0"))
        shop.call("attachd", "start", box)
        records.append(shop.ended(box))

    assert all(record["exit_code"] == 0 for record in records)
    assert [r for r in records if not r["started_at"] <= r["finished_at"]] == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_record_is_on_the_disk_before_it_has_its_name(shop) -> None:
    """fsync, then rename: of exit.json and of --exit-file."""
    copy = shop.scratch / "copy.json"
    box = shop.run("cat", options=("-i", "--exit-file", copy))
    server = wait_for(lambda: shop.server(box))
    calls = shop.scratch / "calls"
    traced = "trace=fsync,fdatasync,rename,renameat,renameat2"
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-e", traced, "-o", calls, "-p", str(server)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    if b"attached" not in tracer.stderr.readline():
        tracer.communicate(timeout=PATIENCE)
        pytest.skip("strace may not attach here")
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send_eof(PATIENCE)
    shop.ended(box)
    shop.ctl("wait", box)
    tracer.communicate(timeout=PATIENCE)
    seen = calls.read_text().splitlines()
    for name in (shop.path(box, "exit.json"), copy):
        renamed = [
            n for n, line in enumerate(seen) if "rename" in line and f'"{name}"' in line
        ]
        synced = [n for n, line in enumerate(seen) if "sync(" in line and str(name) in line]
        assert len(renamed) == 1
        assert synced
        assert min(synced) < renamed[0]


def test_whoever_waits_for_the_file_reads_a_whole_record(shop) -> None:
    """The moment that the name is there, all of it is; nothing is left beside it."""
    for _ in range(5):
        copy = shop.scratch / "watched.json"
        box = shop.run("true", options=("--exit-file", copy, "--linger", "0"))
        while not copy.exists():
            pass
        assert json.loads(copy.read_bytes())["exit_code"] == 0
        copy.unlink()
        shop.ctl("wait", box)
        assert not list(shop.scratch.glob("*.new"))
        assert not list(shop.path(box).glob("exit*.new"))


def test_an_exit_file_that_cannot_be_written_costs_only_itself(shop) -> None:
    """exit.json and everything after it are as always."""
    box = shop.run("sh", "-c", "exit 6", options=("--exit-file", "/proc/nope/exit", "--rm"))

    assert shop.ended(box)["exit_code"] == 6
    assert shop.ctl("wait", box) == b"6\n"
    wait_for(lambda: shop.state(box)["deleted"])


LIVES = int(os.environ.get("ATTACHD_LIVES", "60"))


@pytest.mark.slow
@pytest.mark.parametrize("command", [("true",), ("echo", "x")])
def test_many_lives_in_a_row(shop, command) -> None:
    """Never a lost byte or code: in the record, in the log, in an attached launcher's hands.

    ATTACHD_LIVES=200 is the long form.
    """
    expected = b"x\n" if command[0] == "echo" else b""

    def live(number: int) -> tuple[object, ...]:
        box = shop.name()
        words = ("--linger", "0", "--rm", box, "--", *command)
        done = shop.call("attachd", "run", *(("-a",) if number % 2 else ()), *words)
        record = shop.ended(box)
        wait_for(lambda: shop.state(box)["deleted"])
        return (
            record["exit_code"],
            record["bytes"]["stdout"],
            shop.output(box),
            done.stdout if number % 2 else expected,
            done.stderr,
        )

    with ThreadPoolExecutor(4) as pool:
        lives = list(pool.map(live, range(LIVES)))

    assert set(lives) == {(0, len(expected), expected, expected, b"")}
    shop.ctl("rm", *shop.made)


def listed(*options: object) -> list[str]:
    words = ["runc", *map(str, options), "list", "-q"]
    # It fails when another container goes while it looks, and lists the others all the same.
    done = subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE)
    return done.stdout.decode().split()


def test_without_rm_the_runtime_keeps_the_container(shop) -> None:
    """Until attachctl rm; with --rm it is deleted after the exit."""
    kept, removed = shop.run("true"), shop.run("true", options=("--rm",))
    shop.ended(kept)
    shop.ended(removed)
    wait_for(lambda: shop.state(removed)["deleted"])

    assert kept in listed()
    assert removed not in listed()
    shop.ctl("rm", kept)
    assert kept not in listed()


def test_the_runtimes_root_and_arguments_are_ours_to_choose(shop) -> None:
    """--runtime-root and --runtime-arg reach every call: create, start, delete."""
    words = shop.scratch / "words"
    runtime = shop.scratch / "runtime"
    runtime.write_text(f'#!/bin/sh\necho "$@" >>{words}\nexec runc "$@"\n')
    runtime.chmod(0o755)
    root = shop.scratch / "runc-root"
    options = ("--runtime", runtime, "--runtime-root", root, "--runtime-arg=--debug")
    box = shop.run("sleep", "1000", options=options)

    assert box in listed("--root", root)
    assert box not in listed()
    shop.ctl("rm", "--force", box)
    assert box not in listed("--root", root)
    calls = words.read_text().splitlines()
    assert {"create", "start", "delete"} <= {word for call in calls for word in call.split()}
    assert all("--debug" in call and f"--root {root}" in call for call in calls)


def test_the_exit_command_finds_the_record_and_its_failure_hurts_nobody(shop) -> None:
    """It runs after exit.json was written; its code goes nowhere; a missing one is no error."""
    seen = shop.scratch / "seen"
    script = shop.scratch / "hook"
    script.write_text(f'#!/bin/sh\ncp "$1" {seen}.new; mv {seen}.new {seen}; exit 9\n')
    script.chmod(0o755)
    box = shop.name()
    record = shop.path(box, "exit.json")
    options = ("--exit-command", script, "--exit-command-arg", record)
    shop.call("attachd", "run", *options, box, "--", "sh", "-c", "exit 4")
    wait_for(seen.exists)
    missing = shop.run("sh", "-c", "exit 5", options=("--exit-command", "/no/such"))

    assert json.loads(seen.read_text())["exit_code"] == 4
    assert shop.ctl("wait", box, missing) == b"4\n5\n"


def test_the_oom_score_adjustment_is_the_shims_alone(shop) -> None:
    """--oom-score-adj: keeper and server have it, the container has not."""
    own = Path("/proc/self/oom_score_adj").read_text()
    box = shop.run("sleep", "1000", options=("--oom-score-adj", "500"))
    server = wait_for(lambda: shop.server(box))

    def score(pid: object) -> str:
        return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()

    assert [score(shop.keeper(box)), score(server)] == ["500", "500"]
    assert score(shop.state(box)["pid"]) == own.strip()
