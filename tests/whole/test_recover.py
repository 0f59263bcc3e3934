"""Keeper and server are both killed: the container lives, and ``attachd recover`` takes it up."""

import contextlib
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from attachd_clients import Cursor, Ended, Line, attach_blocking, follow_blocking
from attachd_clients.lines import Position
from harness import PATIENCE, Shop, cri_streams, is_alive, wait_for

pytestmark = pytest.mark.runc

#: Says the numbers up to N, waits for the file /go, says them up to M, waits for /end.
COUNTS = (
    "i=0; while [ $i -lt $0 ]; do i=$((i+1)); echo $i; done; "
    "until [ -e /go ]; do usleep 10000; done; "
    "while [ $i -lt $1 ]; do i=$((i+1)); echo $i; done; "
    "touch /said; until [ -e /end ]; do usleep 10000; done; exit 7"
)


def numbers(first: int, last: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(first, last + 1))


def go(shop: Shop, box: str) -> None:
    """Let it go on."""
    Path(shop.state(box)["bundle"], "rootfs/go").touch()


def end(shop: Shop, box: str) -> None:
    """Let it go on, and end."""
    go(shop, box)
    Path(shop.state(box)["bundle"], "rootfs/end").touch()


def recover(shop: Shop, *words: object, check: bool = True):
    return shop.call("attachd", "recover", *words, check=check)


def logged(shop: Shop, box: str) -> int:
    """Return how many bytes of output are in the log for good."""
    return json.loads(shop.ctl("stats", box))["logs"][0]["written"]


@pytest.fixture
def orphan(shop: Shop) -> str:
    """A container that has said 1 to 1000, and whose shim is gone."""
    box = shop.run("sh", "-c", COUNTS, "1000", "2000")
    wait_for(lambda: logged(shop, box) == len(numbers(1, 1000)))
    shop.kill_shim(box)
    return box


def test_the_container_lives_and_says_on(shop, orphan) -> None:
    """Output, log, offsets and exit go on; nothing is missing of what was in the log."""
    init = shop.state(orphan)["pid"]
    assert is_alive(init)
    told = recover(shop, orphan)
    end(shop, orphan)

    record = shop.ended(orphan)
    assert (
        told.stdout
        == (
            f"{orphan}: taken up again; what it had said and was not in the log yet is lost\n"
        ).encode()
    )
    assert (record["reason"], record["exit_code"]) == ("exited", 7)
    assert (record["recovered"], record["drained"]) == (1, True)
    assert record["bytes"]["stdout"] == len(numbers(1001, 2000))
    assert record["offset"] == record["log_offset"] == len(numbers(1, 2000))
    assert shop.output(orphan) == numbers(1, 2000)
    assert shop.ctl("logs", orphan) == numbers(1, 2000)


def test_what_it_says_while_nobody_is_there_waits_in_the_pipe(shop, orphan) -> None:
    """Read by who comes later, as the container itself holds the pipe."""
    init = shop.state(orphan)["pid"]
    go(shop, orphan)
    wait_for(lambda: Path(shop.state(orphan)["bundle"], "rootfs/said").exists())
    assert is_alive(init)
    recover(shop, orphan)
    end(shop, orphan)

    assert shop.ended(orphan)["exit_code"] == 7
    assert shop.output(orphan) == numbers(1, 2000)


def _is_blocked(pid: int) -> bool:
    try:
        return "pipe_write" in Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return False


def test_a_container_that_says_a_lot_meanwhile_loses_nothing_of_it(shop) -> None:
    """It fills the pipe and waits; the successor reads on where the reader was killed."""
    last = 500_000
    box = shop.run("sh", "-c", COUNTS, "1000", str(last))
    wait_for(lambda: logged(shop, box) == len(numbers(1, 1000)))
    init = shop.state(box)["pid"]
    shop.kill_shim(box)
    end(shop, box)
    wait_for(lambda: _is_blocked(init))
    recover(shop, box)

    record = shop.ended(box)
    assert record["exit_code"] == 7
    said = hashlib.sha256(shop.output(box)).hexdigest()
    assert said == hashlib.sha256(numbers(1, last)).hexdigest()


def test_clients_attach_again_and_read_history_and_what_comes(shop, orphan) -> None:
    """History from before, live output, and an exec; offsets are one sequence."""
    recover(shop, orphan)
    with attach_blocking(orphan, root=str(shop.root), since="start") as client:
        seen = b""
        while len(seen) < len(numbers(1, 1000)):
            seen += client.receive(PATIENCE).data
        done = shop.call(
            "attachctl", "exec", orphan, "sh", "-c", "echo inside; exit 3", check=False
        )
        end(shop, orphan)
        rest = list(client)
    assert seen == numbers(1, 1000)
    assert (done.returncode, done.stdout) == (3, b"inside\n")
    assert b"".join(event.data for event in rest if hasattr(event, "data")) == numbers(
        1001, 2000
    )
    assert rest[-1].record["exit_code"] == 7


def test_a_client_that_was_attached_is_told_that_the_stream_is_another(shop) -> None:
    """It cannot go on at its byte: some that it has seen may not be in the log."""
    box = shop.run("sh", "-c", COUNTS, "1000", "2000")
    with attach_blocking(box, root=str(shop.root), since="start") as client:
        stream = shop.state(box)["stream_id"]
        seen = b""
        while len(seen) < len(numbers(1, 1000)):
            seen += client.receive(PATIENCE).data
        shop.kill_shim(box)
        _forget_last_line(shop.path(box, "log/container.log"))
        recover(shop, box)
        assert shop.state(box)["stream_id"] != stream
        with pytest.raises(Ended, match="not the one the offset belongs to"):
            list(client)
    end(shop, box)
    assert shop.ended(box)["stream_id"] != stream


def _forget_last_line(log: Path) -> None:
    """As if the server had been killed before it was written."""
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))


def test_a_client_that_has_seen_no_more_than_the_log_goes_on(shop) -> None:
    """At its very byte: a sweep is a pause, then, as any death."""
    box = shop.run("sh", "-c", COUNTS, "1000", "2000")
    wait_for(lambda: logged(shop, box) == len(numbers(1, 1000)))
    with attach_blocking(box, root=str(shop.root), since="start") as client:
        seen = b""
        while len(seen) < len(numbers(1, 1000)):
            seen += client.receive(PATIENCE).data
        shop.kill_shim(box)
        recover(shop, box)
        end(shop, box)
        rest = list(client)
    assert b"".join(event.data for event in rest if hasattr(event, "data")) == numbers(
        1001, 2000
    )
    assert rest[-1].record["exit_code"] == 7


def test_a_follower_goes_on_where_it_was(shop, orphan) -> None:
    """It has seen no more than the log has: nothing comes twice, and nothing is missing."""
    recover(shop, orphan)
    assert _follow(shop, orphan, live=False) == numbers(1, 1000)
    shop.kill_shim(orphan)
    recover(shop, orphan)
    end(shop, orphan)
    shop.ended(orphan)

    assert _follow(shop, orphan, live=True) == numbers(1001, 2000)


def _follow(shop: Shop, box: str, *, live: bool) -> bytes:
    """Return what comes after the cursor, and set it behind that."""
    cursor = Cursor(shop.scratch / "cursor")
    with contextlib.closing(
        iter(follow_blocking(box, root=str(shop.root), from_=cursor, live=live))
    ) as records:
        lines = [record for record in records if isinstance(record, Line)]
    cursor.save(Position(lines[-1].end), None)
    return b"".join(line.text + b"\n" for line in lines)


def test_follow_all_over_a_recovery_has_every_line_once(shop, orphan) -> None:
    """It says that it cannot reach the shim, and goes on when there is one again."""
    recover(shop, orphan)
    file = shop.scratch / f"out/{orphan}.log"
    words = ("--into", file.parent, "--format", "text", "--cursors", shop.scratch / "cursors")
    with shop.popen("attachctl", "follow-all", *words) as follower:
        try:
            wait_for(lambda: file.exists() and file.read_bytes().count(b"\n") == 1000)
            shop.kill_shim(orphan)
            recover(shop, orphan)
            end(shop, orphan)
            wait_for(lambda: file.read_bytes().count(b"\n") >= 2000)
            shop.ended(orphan)
        finally:
            follower.send_signal(signal.SIGTERM)
            follower.communicate(timeout=PATIENCE)

    said = [line.rpartition(b" ")[2] for line in file.read_bytes().splitlines(keepends=True)]
    assert b"".join(said) == numbers(1, 2000)


def test_all_that_need_it_are_taken_up_and_no_others(shop, orphan) -> None:
    """Without a name: running and ended ones are left alone."""
    other = shop.run("sleep", "1000")
    ended = shop.run("true")
    shop.ended(ended)
    keeper = shop.keeper(other)

    told = recover(shop)

    assert [line.split(b":")[0].decode() for line in told.stdout.splitlines()] == [orphan]
    assert shop.keeper(other) == keeper
    assert json.loads(shop.ctl("stats", orphan))["phase"] == "running"
    assert recover(shop).stdout == b""


def test_one_that_has_a_shim_or_has_ended_is_refused_in_one_line(shop) -> None:
    """And what never was."""
    running, ended = shop.run("sleep", "1000"), shop.run("true")
    shop.ended(ended)
    wait_for(lambda: not shop.processes() or not shop.server(ended))
    for box, why in (
        (running, f"{running} has a shim"),
        ("nobody", f"no container 'nobody' under {shop.root}: see 'attachctl ls'"),
    ):
        told = recover(shop, box, check=False)
        assert (told.returncode, told.stdout) == (125, b"")
        assert told.stderr == f"attachd: {why}\n".encode() or why in told.stderr.decode()


def test_one_that_has_ended_meanwhile_is_written_down_as_unknown(shop, orphan) -> None:
    """Never a made up code; the exit command is run, as for any end."""
    os.kill(shop.state(orphan)["pid"], signal.SIGKILL)
    wait_for(lambda: not is_alive(shop.state(orphan)["pid"]))
    told = recover(shop, orphan)

    record = shop.ended(orphan)
    assert b"it has ended meanwhile, and nobody knows how" in told.stdout
    assert (record["reason"], record["exit_code"], record["signal"]) == ("unknown", None, None)
    assert record["unknown_because"] == "it ended while keeper and server were both gone"
    assert shop.ctl("logs", orphan) == numbers(1, 1000)


def test_a_terminal_cannot_be_saved_and_recover_says_so(shop) -> None:
    """The kernel hangs it up; a container that outlives this is seen to its end."""
    script = "trap '' HUP; echo up; until [ -e /go ]; do usleep 10000; done; exit 7"
    box = shop.run("sh", "-c", script, options=("-td",))
    wait_for(lambda: b"up" in shop.output(box))
    shop.kill_shim(box)
    told = recover(shop, box)
    assert b"its terminal is lost" in told.stdout
    end(shop, box)

    assert shop.ended(box)["exit_code"] == 7


def test_stdin_that_may_never_end_goes_on(shop) -> None:
    """With ``--stdin-eof never`` the container holds it open, too."""
    options = ("-i", "--stdin-eof", "never")
    box = shop.run("sh", "-c", "while read x; do echo $x; done; exit 9", options=options)
    shop.ctl("send", box, "one")
    wait_for(lambda: logged(shop, box) == 4)
    shop.kill_shim(box)
    told = recover(shop, box)
    shop.ctl("send", box, "two")

    wait_for(lambda: shop.output(box) == b"one\ntwo\n")
    assert b"stdin" not in told.stdout


def test_stdin_of_the_usual_kind_has_ended_and_recover_says_so(shop) -> None:
    """Linux ends a pipe when its last writer is gone; who was not reading sees nothing of it."""
    script = "echo up; until [ -e /go ]; do usleep 10000; done; read x; echo got $x; exit 7"
    box = shop.run("sh", "-c", script, options=("-i",))
    wait_for(lambda: b"up" in shop.output(box))
    shop.kill_shim(box)
    told = recover(shop, box)
    assert b"whoever was reading its stdin has seen the end of it" in told.stdout
    shop.ctl("send", box, "this")
    end(shop, box)

    assert shop.ended(box)["exit_code"] == 7
    assert shop.output(box) == b"up\ngot this\n"


def test_an_exec_that_was_running_has_ended_nobody_knows_how(shop, orphan) -> None:
    """Its record says so, and its name is told."""
    recover(shop, orphan)
    beside = shop.popen("attachctl", "exec", "--name", "job", "-i", orphan, "cat", stdin=-1)
    beside.stdin.write(b"up\n")
    assert beside.stdout.readline() == b"up\n"
    shop.kill_shim(orphan)
    told = recover(shop, orphan)
    beside.communicate(timeout=PATIENCE)

    assert b"nobody knows how exec job ends" in told.stdout
    (row,) = json.loads(shop.ctl("inspect", orphan))["execs"]
    assert row["exit"]["reason"] == "unknown"
    assert shop.state(orphan)["recovered"] == 2


def test_half_a_line_in_the_log_is_cut_and_the_log_is_whole_again(shop, orphan) -> None:
    """The server was killed in the middle of a write."""
    path = shop.path(orphan, "log/container.log")
    with path.open("ab") as log:
        log.write(b"2026-11-25T10:00:00.000000000Z stdout F 10")
    recover(shop, orphan)
    end(shop, orphan)

    shop.ended(orphan)
    assert shop.output(orphan) == numbers(1, 2000)
    assert shop.ctl("logs", orphan) == numbers(1, 2000)


@pytest.mark.parametrize("form", ["json-file", "raw"])
def test_other_formats_go_on_as_well(shop, form) -> None:
    """Offsets are counted from what is in the file."""
    log = shop.scratch / "other.log"
    box = shop.run("sh", "-c", COUNTS, "100", "200", options=("--log", f"{form}:{log}"))
    wait_for(lambda: logged(shop, box) == len(numbers(1, 100)))
    shop.kill_shim(box)
    recover(shop, box)
    end(shop, box)

    assert shop.ended(box)["offset"] == len(numbers(1, 200))
    assert shop.call("attach", "--from", "start", box, check=False).stdout == numbers(1, 200)


def test_a_log_that_lags_behind_another_tells_what_it_lacks(shop) -> None:
    """The one that has most says where output goes on."""
    one, two = shop.scratch / "one.log", shop.scratch / "two.log"
    box = shop.run("sh", "-c", COUNTS, "100", "200", options=("--log", one, "--log", two))
    wait_for(lambda: logged(shop, box) == len(numbers(1, 100)))
    wait_for(lambda: one.read_bytes() == two.read_bytes())
    shop.kill_shim(box)
    lines = two.read_bytes().splitlines(keepends=True)
    two.write_bytes(b"".join(lines[:90]))
    recover(shop, box)
    end(shop, box)
    shop.ended(box)

    first, last = len(numbers(1, 90)), len(numbers(1, 100))
    assert f" stderr F:gap:{first}:{last} ".encode() in two.read_bytes()
    assert b"gap" not in one.read_bytes()


def test_a_log_that_was_moved_away_is_begun_anew(shop, orphan) -> None:
    """History knows both files."""
    path = shop.path(orphan, "log/container.log")
    path.rename(path.with_name("moved.log"))
    recover(shop, orphan)
    end(shop, orphan)

    shop.ended(orphan)
    assert shop.output(orphan) == numbers(1001, 2000)
    assert shop.ctl("logs", orphan) == numbers(1, 2000)


def test_a_keeper_that_dies_before_its_first_server_is_recovered_from(shop) -> None:
    """Nobody sees it go; afterwards all of the output is there."""
    box = shop.run("sh", "-c", COUNTS, "100", "200")
    keeper, init = shop.keeper(box), shop.state(box)["pid"]
    os.kill(keeper, signal.SIGSTOP)
    # Its server may be there, be about to become one, or not be there yet.
    children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    ours = [keeper, *(pid for pid in map(int, children) if pid != init)]
    for pid in reversed(ours):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(is_alive, ours)))
    recover(shop, box)
    end(shop, box)

    assert shop.ended(box)["exit_code"] == 7


def kill_both(shop: Shop, box: str) -> None:
    """Kill keeper and server, whichever of them is the other's parent."""
    report = json.loads(shop.ctl("stats", box))
    pids = (report["keeper_pid"], report["server_pid"])
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def test_recovered_again_and_killed_in_turn(shop, orphan) -> None:
    """What was taken up is as good as new: server and keeper have successors, too."""
    for _ in range(2):
        recover(shop, orphan)
        server = json.loads(shop.ctl("stats", orphan))["server_pid"]
        os.kill(server, signal.SIGKILL)
        wait_for(lambda server=server: shop.server(orphan) not in (0, server))
        wait_for(lambda: shop.ctl("stats", orphan))
        keeper = shop.keeper(orphan)
        os.kill(keeper, signal.SIGKILL)
        wait_for(lambda keeper=keeper: shop.keeper(orphan) != keeper)
        kill_both(shop, orphan)
    recover(shop, orphan)
    end(shop, orphan)

    record = shop.ended(orphan)
    assert (record["exit_code"], record["recovered"]) == (7, 3)
    assert shop.ctl("logs", orphan) == numbers(1, 2000)


def test_a_timeout_counts_from_the_first_start(shop) -> None:
    """It is over when the container is taken up again: it is enforced at once."""
    box = shop.run("sleep", "1000", options=("--timeout", "3"))
    wait_for(lambda: shop.ctl("stats", box))
    shop.kill_shim(box)
    started = shop.state(box)["started_clock"]
    wait_for(lambda: time.monotonic_ns() > started + 3 * 10**9)
    recover(shop, box)

    record = shop.ended(box)
    assert (record["reason"], record["timed_out"]) == ("timeout", True)


def test_created_and_not_started_is_recovered_and_started(shop) -> None:
    """The shim died between create and start."""
    box = shop.create("sh", "-c", "echo first; exit 4")
    wait_for(lambda: shop.ctl("stats", box))
    shop.kill_shim(box)
    recover(shop, box)
    shop.call("attachd", "start", box)

    assert shop.ended(box)["exit_code"] == 4
    assert shop.output(box) == b"first\n"


def test_ls_says_that_it_is_lost_until_it_is_recovered(shop, orphan) -> None:
    """A person sees what to do."""

    def phase() -> str:
        (row,) = [r for r in json.loads(shop.ctl("ls", "--json")) if r["id"] == orphan]
        return row["phase"]

    assert phase() == "lost"
    told = shop.call("attach", orphan, check=False)
    assert f"see attachd recover {orphan}".encode() in told.stderr
    recover(shop, orphan)
    assert phase() == "running"


STATE_KEYS = ("stream_id", "pid_start", "runtime", "recovered", "pipes")
CONFIG_KEYS = (
    "ring_size", "stdin_eof", "oom_score_adj", "runtime_args", "id", "keeper_pid_file", "log_care",
)  # fmt: skip


def test_one_whose_state_is_not_understood_is_left_alone_and_keeps_no_other(
    shop, orphan
) -> None:
    """Each key that anybody needs is missed before anything is begun; the others are taken up."""
    last = shop.run("sleep", "1000")
    wait_for(lambda: shop.ctl("stats", last))
    first, other = sorted((orphan, last))
    shop.kill_shim(last)
    path, state = shop.path(first, "state.json"), shop.state(first)
    for key in STATE_KEYS + CONFIG_KEYS:
        config = {k: v for k, v in state["config"].items() if k not in CONFIG_KEYS or k != key}
        damaged = {k: v for k, v in state.items() if k not in STATE_KEYS or k != key}
        path.write_text(json.dumps(damaged | {"config": config}))
        told = recover(shop, check=False)
        (line,) = told.stderr.splitlines()
        assert line.startswith(f"attachd: {first}: ".encode())
        assert b"of another attachd" in line
        assert key.encode() in line
        assert told.returncode == 125
    assert json.loads(shop.ctl("stats", other))["phase"] == "running"
    path.write_text(json.dumps(state))
    assert recover(shop, first).stdout


def test_what_is_no_directory_of_a_container_is_no_error(shop, orphan) -> None:
    """Files that somebody has put into the root are left alone."""
    (shop.root / "README").touch()
    told = recover(shop)
    assert told.stdout.startswith(orphan.encode())
    assert told.stderr == b""


def test_after_another_boot_no_number_is_believed(shop, orphan) -> None:
    """Pids and inodes are those of strangers then: what the files tell of has ended."""
    path, state = shop.path(orphan, "state.json"), shop.state(orphan)
    path.write_text(json.dumps(state | {"boot_id": "another"}))
    told = recover(shop, orphan)

    assert b"it has ended meanwhile, and nobody knows how" in told.stdout
    record = shop.ended(orphan)
    assert (record["reason"], record["bytes"]["stdout"]) == ("unknown", 0)
    assert is_alive(state["pid"])


def test_a_log_that_is_no_file_goes_on(shop) -> None:
    """A named pipe cannot tell what it was given: output is counted anew from 0."""
    fifo = shop.scratch / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    try:
        words = ("--log", fifo, "--log", "/dev/null")
        box = shop.run("sh", "-c", COUNTS, "100", "200", options=words)
        wait_for(lambda: logged(shop, box) == len(numbers(1, 100)))
        shop.kill_shim(box)
        recover(shop, box)
        end(shop, box)
        assert shop.ended(box)["bytes"]["stdout"] == len(numbers(101, 200))
        said = cri_streams(os.read(reader, 1 << 16))["stdout"]
    finally:
        os.close(reader)
    assert said == numbers(1, 200)


def test_a_log_that_is_gone_is_begun_anew(shop, orphan) -> None:
    """Deleted, or compressed by somebody: what it had is lost, and the container goes on."""
    path = shop.path(orphan, "log/container.log")
    with path.open("rb"):  # another file gets another inode
        path.unlink()
        recover(shop, orphan)
    end(shop, orphan)

    record = shop.ended(orphan)
    assert (record["exit_code"], record["bytes"]["stdout"]) == (7, len(numbers(1001, 2000)))
    assert shop.output(orphan) == shop.ctl("logs", orphan) == numbers(1001, 2000)
