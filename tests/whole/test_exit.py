"""Requirement 3: the exit is exact."""

import json
import sys
from pathlib import Path

import pytest
from harness import wait_for

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


@pytest.mark.slow
def test_two_hundred_short_lives_lose_neither_byte_nor_code(shop) -> None:
    """`true` and `echo x` one after another: each record and each log is right."""
    for round_ in range(200):
        command = ["true"] if round_ % 2 else ["echo", "x"]
        box = shop.run(*command, options=("--linger", "0", "--rm"))
        record = shop.ended(box)
        expected = b"" if round_ % 2 else b"x\n"

        assert record["exit_code"] == 0
        assert record["bytes"]["stdout"] == len(expected)
        assert shop.output(box) == expected


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
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(seen)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
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
    assert seen.read_text() == "['a b', '-c']\n"


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
