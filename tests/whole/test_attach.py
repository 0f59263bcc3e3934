"""Requirements 4, 5 and 9: attach before start, many clients, and an ordered end."""

import itertools
import json
import os
import signal
import subprocess
import sys
from datetime import datetime

import pytest
import trio
from attachd_clients import Place, attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.wire import messages as say
from attachd.wire.session import VERSION, Pause, Role, Session

pytestmark = pytest.mark.runc


async def collect(client) -> list:
    """Return every event until the end."""
    return [event async for event in client]


def joined(events, stream="stdout") -> bytes:
    return b"".join(e.data for e in events if isinstance(e, say.Output) and e.stream == stream)


async def test_a_client_attached_before_start_sees_the_first_byte(shop) -> None:
    """create, attach with from=start, start."""
    box = shop.create("sh", "-c", "echo first; echo second")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            assert client.welcome.phase == "created"
            await client.start()
            events = await collect(client)

    assert joined(events) == b"first\nsecond\n"


def test_a_late_client_gets_everything_since_the_beginning(shop) -> None:
    """from=start, tail:N and offset:N, while it runs."""
    box = shop.run("sh", "-c", "for i in 1 2 3 4 5; do echo line $i; done; sleep 1000")
    wait_for(lambda: shop.log(box).count(b"\n") == 5)

    def seen(since: str, size: int) -> bytes:
        data = b""
        with attach_blocking(box, root=str(shop.root), since=since) as client:
            while len(data) < size:
                data += client.receive(PATIENCE).data
        return data

    everything = b"".join(b"line %d\n" % i for i in range(1, 6))
    assert seen("start", len(everything)) == everything
    assert seen("tail:2", 14) == b"line 4\nline 5\n"
    assert seen("offset:10", len(everything) - 10) == everything[10:]


def test_an_offset_in_the_future_is_refused(shop) -> None:
    """With the code that says so."""
    box = shop.run("sleep", "1000")
    done = shop.call("attach", "--from", "offset:99", box, check=False)

    assert done.returncode == 125
    assert b"in the future" in done.stderr


async def test_sixteen_clients_see_the_same_bytes_whoever_leaves(shop) -> None:
    """One that leaves half way disturbs nobody."""
    box = shop.create("sh", "-c", "for i in $(seq 2000); do echo number $i; done")
    expected = b"".join(b"number %d\n" % i for i in range(1, 2001))
    results: list[bytes] = []
    ready = trio.Semaphore(0)

    async def watch() -> None:
        async with attach(box, root=str(shop.root), since="start") as client:
            ready.release()
            results.append(joined(await collect(client)))

    async def leave_early() -> None:
        async with attach(box, root=str(shop.root), since="start") as client:
            ready.release()
            await client.receive()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(watch)
            nursery.start_soon(leave_early)
            for _ in range(17):
                await ready.acquire()
            async with attach(box, root=str(shop.root), since="none") as client:
                await client.start()

    assert results == [expected] * 16


@pytest.mark.slow
@pytest.mark.parametrize("log", ["raw", "none"])
async def test_a_client_that_never_reads_delays_nobody_and_misses_nothing_in_silence(
    shop, log
) -> None:
    """While it sleeps 100 MB go to the log, from which it gets them; without one it is told."""
    size = 100_000_000
    path = shop.scratch / "raw.log"
    box = shop.create(
        "sh", "-c", f"yes 0123456789abcdef | head -c {size}",
        options=("--log", f"raw:{path}" if log == "raw" else "none", "--linger", "10"),
    )  # fmt: skip
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start", window=4096) as client:
            await client.start()
            record = await trio.to_thread.run_sync(shop.ended, box)
            events = await collect(client)

    said = (b"0123456789abcdef\n" * (size // 17 + 1))[:size]
    assert record["bytes"]["stdout"] == size
    gaps = [e for e in events if isinstance(e, say.Gap)]
    outputs = [e for e in events if isinstance(e, say.Output)]
    assert bool(gaps) == (log == "none")
    assert all(said[e.offset : e.offset + len(e.data)] == e.data for e in outputs)
    assert sum(e.end - e.start for e in gaps) + sum(len(e.data) for e in outputs) == size


async def test_the_end_is_ordered_for_every_client(shop) -> None:
    """Data, eof of each stream, then the exit record, and nothing after it."""
    box = shop.create("sh", "-c", "echo out; echo err >&2; exit 5")
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            events = await collect(client)

    kinds = [type(event) for event in events]
    assert kinds == [say.Output, say.Output, say.Eof, say.Eof, say.Exit]
    assert events[-1].record["exit_code"] == 5
    assert events[-1].record == json.loads(shop.path(box, "exit.json").read_text())


def test_a_grandchild_that_keeps_the_pipe_meets_the_drain_deadline(shop) -> None:
    """The record says drained: false, and comes in time."""
    bundle = shop.bundle("sh", "-c", "echo before; sleep 1000 & exit 6")
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    shop.call("attachd", "run", "--drain-timeout", "0.3", "--bundle", bundle, box)
    record = shop.ended(box)

    assert (record["drained"], record["exit_code"]) == (False, 6)
    assert shop.output(box) == b"before\n"


@pytest.mark.parametrize("code", [0, 7])
def test_run_attach_ends_with_the_containers_code(shop, code) -> None:
    """attachd run -a: both streams, from the first byte."""
    box = shop.name()
    script = f"echo out; echo err >&2; exit {code}"
    done = shop.call("attachd", "run", "-a", box, "--", "sh", "-c", script, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (code, b"out\n", b"err\n")


def test_run_attach_tells_a_signal_as_128_and_its_number(shop) -> None:
    """SIGKILL is 137."""
    box = shop.name()
    process = shop.popen("attachd", "run", "-a", box, "--", "sh", "-c", "echo up; sleep 1000")
    assert process.stdout.readline() == b"up\n"
    shop.ctl("kill", box)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 137


def test_leaving_by_ctrl_c_says_how_to_come_back(shop) -> None:
    """Exit code 123; the container goes on; the offset goes on exactly there."""
    box = shop.run("sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    client = shop.popen("attach", "--from", "start", box)
    first = b"".join(client.stdout.readline() for _ in range(5))
    os.kill(client.pid, signal.SIGINT)
    rest, words = client.communicate(timeout=PATIENCE)
    left = first + rest
    assert client.returncode == 123
    offset = len(left)
    assert f"attach --from offset:{offset} {box}".encode() in words

    again = shop.popen("attach", "--from", f"offset:{offset}", box)
    more = again.stdout.readline()
    again.terminate()
    again.communicate(timeout=PATIENCE)
    assert int(more) == len(left.split()) + 1


async def test_a_viewer_may_look_and_nothing_else(shop) -> None:
    """The server refuses its stdin and its signals; nothing reaches the container."""
    box = shop.run("cat", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start", role="viewer") as viewer:
            with pytest.raises(Exception, match="only look"):
                await viewer.signal(9)
            with pytest.raises(Exception, match="only look"):
                await viewer.send(b"x\n")
    assert json.loads(shop.ctl("stats", box))["stdin"]["accepted"] == 0


def test_another_user_is_refused(shop) -> None:
    """By the peer's credentials, even where the file modes would let it in."""
    box = shop.run("sleep", "1000")
    for path in (*shop.root.parents, shop.root, shop.path(box)):
        if str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    shop.path(box, "attach.sock").chmod(0o666)
    code = (
        "import os, sys; from attachd_clients import attach_blocking; import attachd_clients.aio\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"\nwith attach_blocking({box!r}, root={str(shop.root)!r}): pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=PATIENCE)
    assert b"user 65534 may not attach" in done.stderr


def test_attach_before_start_on_the_command_line(shop) -> None:
    """create, `attach --from start`, start: the first byte, both streams, the code."""
    box = shop.create("sh", "-c", "echo first; echo err >&2; exit 3")
    early = shop.popen("attach", "--from", "start", box)
    wait_for(lambda: clients_of(shop, box))
    shop.call("attachd", "start", box)
    out, err = early.communicate(timeout=PATIENCE)

    assert (out, err, early.returncode) == (b"first\n", b"err\n", 3)


def clients_of(shop, box: str) -> list[dict]:
    """Return the counters of a shim's attached clients, but for attachctl's own."""
    clients = json.loads(shop.ctl("stats", box))["clients"]
    return [client for client in clients if client["name"] not in ("", "attachctl")]


async def test_any_offset_resumes_without_a_byte_lost_or_doubled(shop) -> None:
    """offset:N for every N: inside of lines, at their ends, at the newest byte."""
    expected = b"".join(b"%d\n" % i for i in range(30))
    box = shop.run("sh", "-c", "i=0; while [ $i -lt 30 ]; do echo $i; i=$((i+1)); done; cat",
        options=("-i",))  # fmt: skip
    wait_for(lambda: shop.path(box, "log/container.log").exists())
    wait_for(lambda: shop.output(box) == expected)
    with trio.fail_after(PATIENCE):
        for offset in range(len(expected) + 1):
            async with attach(box, root=str(shop.root), since=f"offset:{offset}") as client:
                data = b""
                while offset + len(data) < len(expected):
                    event = await client.receive()
                    assert event.offset == offset + len(data)
                    data += event.data
                assert data == expected[offset:]


async def test_a_chain_of_clients_reads_what_one_would(shop) -> None:
    """Each goes on at the offset where the one before left, while output flows.

    The chain has an end, a client that stays: on a busy machine an event may be one line, and a
    client for every third line would be a test of connecting.
    """
    script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; exit 2"
    box = shop.create("sh", "-c", script)
    data, offset, clients = b"", 0, 0
    record = None
    shop.call("attachd", "start", box)
    with trio.fail_after(PATIENCE):
        while record is None:
            clients += 1
            since = f"offset:{offset}"
            async with attach(box, root=str(shop.root), since=since) as client:
                for _ in range(3) if clients <= 50 else itertools.count():
                    event = await client.receive()
                    if isinstance(event, say.Output):
                        data += event.data
                    elif isinstance(event, say.Exit):
                        record = event.record
                        break
                offset = client.offset

    assert clients > 2
    assert record["exit_code"] == 2
    assert joined_lines(data) == 20000


def joined_lines(data: bytes) -> int:
    """Return how many numbered lines there are; -1 when one is not the next.

    Not a comparison of two long texts, whose difference pytest would look for until tomorrow.
    """
    for number, line in enumerate(data.splitlines(), 1):
        if line != b"line %d" % number:
            return -1
    return data.count(b"\n")


async def test_a_chain_of_clients_goes_on_in_the_files(shop) -> None:
    """When the shim has gone, each begins where the one before has left, as before."""
    box = shop.run("sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.01; done; exit 2",
                   options=("--linger", "0"))  # fmt: skip
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    data, offset = b"", 0
    for _ in range(3):
        async with attach(box, root=str(shop.root), since=f"offset:{offset}") as client:
            event = await client.receive()
            data += event.data if isinstance(event, say.Output) else b""
            offset = client.offset

    assert offset == len(data)
    assert joined_lines(data) in (1, 2, 3)


@pytest.mark.parametrize(
    ("since", "seen"),
    [
        ("tail:0", b""),
        ("tail:1", b"c\n"),
        ("tail:3", b"a\nb\nc\n"),
        ("tail:99", b"a\nb\nc\n"),
        ("live", b""),
        ("start", b"a\nb\nc\n"),
        ("offset:4", b"c\n"),
        ("offset:6", b""),
    ],
)
def test_where_a_late_client_begins(shop, since, seen) -> None:
    """--from, on a running container; what comes later follows without a seam."""
    box = shop.run("sh", "-c", "echo a; echo b; echo c; read x; echo later", options=("-i",))
    wait_for(lambda: shop.path(box, "log/container.log").exists())
    wait_for(lambda: shop.output(box) == b"a\nb\nc\n")
    client = shop.popen("attach", "--from", since, box)
    wait_for(lambda: clients_of(shop, box))
    shop.call("attach", "--from", "live", box, input=b"\n")
    out, _ = client.communicate(timeout=PATIENCE)

    assert out == seen + b"later\n"


@pytest.mark.slow
def test_a_socket_that_nobody_reads_delays_nobody(shop) -> None:
    """A client with endless credit that never calls recv: 100 MB pass by meanwhile."""
    size = 100_000_000
    box = shop.create(
        "sh", "-c", f"yes 0123456789abcdef | head -c {size}; cat",
        options=("-i", "--log", "none"),
    )  # fmt: skip
    peer = Place.find(box, str(shop.root)).connect()
    peer.settimeout(PATIENCE)
    session = Session(Role.CLIENT)
    peer.sendall(session.send(say.Hello(version=VERSION, since="start", credit=1 << 40)))
    shop.call("attachd", "start", box)
    wait_for(lambda: json.loads(shop.ctl("stats", box))["newest"] == size)
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send_eof(PATIENCE)
    record = shop.ended(box)

    events = []
    while not (events and isinstance(events[-1], say.Exit)):
        message = session.next_message()
        if message is Pause.NEED_DATA:
            session.receive_data(peer.recv(1 << 20))
        else:
            assert isinstance(message, say.Message)
            events.append(message)
    peer.close()
    log = (b"0123456789abcdef\n" * (size // 17 + 1))[:size]
    outputs = [e for e in events if isinstance(e, say.Output)]
    gaps = [e for e in events if isinstance(e, say.Gap)]
    assert gaps
    assert all(log[e.offset : e.offset + len(e.data)] == e.data for e in outputs)
    at = 0
    for event in events[1:]:
        if isinstance(event, say.Output | say.Gap):
            begin = event.offset if isinstance(event, say.Output) else event.start
            assert begin == at
            at = begin + len(event.data) if isinstance(event, say.Output) else event.end
    assert at == size == record["bytes"]["stdout"]


def test_an_attach_that_is_killed_disturbs_nobody(shop) -> None:
    """SIGKILL and a closed pipe; the other one sees every line."""
    script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $i; done"
    box = shop.create("sh", "-c", script)
    stays, killed, closed = (shop.popen("attach", "--from", "start", box) for _ in range(3))
    wait_for(lambda: len(clients_of(shop, box)) == 3)
    shop.call("attachd", "start", box)
    killed.stdout.readline()
    killed.kill()
    closed.stdout.readline()
    closed.stdout.close()
    out, _ = stays.communicate(timeout=PATIENCE)
    killed.communicate(timeout=PATIENCE)
    closed.stderr.close()
    closed.wait(PATIENCE)

    assert out == b"".join(b"%d\n" % i for i in range(1, 3001))
    assert stays.returncode == 0


async def test_the_end_is_ordered_for_sixteen_at_once(shop) -> None:
    """Whoever attached early or late, with output on both streams up to the last moment."""
    script = "for i in $(seq 500); do echo out $i; echo err $i >&2; done; exit 8"
    box = shop.create("sh", "-c", script, options=("--linger", "5"))
    seen: list[list] = []
    ready = trio.Semaphore(0)

    async def watch(since: str) -> None:
        async with attach(box, root=str(shop.root), since=since) as client:
            ready.release()
            seen.append(await collect(client))

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(15):
                nursery.start_soon(watch, "start")
            for _ in range(15):
                await ready.acquire()
            async with attach(box, root=str(shop.root), since="none") as client:
                await client.start()
        await watch("start")

    for events in seen:
        told = [(type(event), getattr(event, "stream", "")) for event in events]
        assert told[-1] == (say.Exit, "")
        for stream in ("stdout", "stderr"):
            kinds = [kind for kind, which in told if which == stream]
            assert kinds[-1] == say.Eof
            assert set(kinds[:-1]) == {say.Output}
        assert joined(events) == b"".join(b"out %d\n" % i for i in range(1, 501))
        assert joined(events, "stderr") == b"".join(b"err %d\n" % i for i in range(1, 501))
        assert events[-1].record == seen[0][-1].record
    assert len(seen) == 16


def in_host_pids(shop, *command: str):
    """Return a bundle without a pid namespace: a grandchild outlives init there."""
    bundle = shop.bundle(*command)
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    return bundle


async def test_the_drain_deadline_is_two_seconds_and_the_end_is_still_ordered(shop) -> None:
    """By default; the ends of both streams and the record come to a client all the same."""
    box = shop.name()
    bundle = in_host_pids(shop, "sh", "-c", "echo before; sleep 1000 & exit 6")
    shop.call("attachd", "create", "--bundle", bundle, box)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as client:
            await client.start()
            events = await collect(client)
    record = events[-1].record
    waited = (
        shop.path(box, "exit.json").stat().st_mtime
        - datetime.fromisoformat(f"{record['finished_at'][:26]}+00:00").timestamp()
    )

    assert [type(event) for event in events] == [say.Output, say.Eof, say.Eof, say.Exit]
    assert (record["drained"], record["exit_code"]) == (False, 6)
    assert 1.9 < waited < 4


def test_what_a_grandchild_says_before_the_deadline_is_output(shop) -> None:
    """It ends in time: drained is true, and its words are in the log and the count."""
    box = shop.name()
    script = "(sleep 0.3; echo late; echo late err >&2) & echo early; exit 0"
    bundle = in_host_pids(shop, "sh", "-c", script)
    shop.call("attachd", "run", "--drain-timeout", "30", "--bundle", bundle, box)
    record = shop.ended(box)

    assert record["drained"] is True
    assert record["bytes"] == {"stdout": 11, "stderr": 9}
    assert shop.output(box) == b"early\nlate\n"


def test_a_run_attached_passes_a_sigint_by(shop) -> None:
    """`attachd run -a` and ctrl-C: 123, and the container goes on."""
    box = shop.name()
    process = shop.popen("attachd", "run", "-a", box, "--", "sh", "-c", "echo up; sleep 1000")
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=PATIENCE)

    assert process.returncode == 123
    assert b"come back with" in words
    assert json.loads(shop.ctl("stats", box))["phase"] == "running"


def test_run_attach_tells_an_error_of_creation(shop) -> None:
    """127 and the runtime's words; no client is left waiting."""
    done = shop.call("attachd", "run", "-a", shop.name(), "--", "bahs", check=False)

    assert done.returncode == 127
    assert b"executable file not found in $PATH" in done.stderr
    assert done.stdout == b""
