"""Exec, and kill -9: what the server's death does to an exec, which is a pause and no more."""

import hashlib
import json
import os
import random
import signal
from pathlib import Path

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, wait_for
from storming import kill_server

from attachd.wire import messages as say

pytestmark = pytest.mark.runc

IDLE = ("sleep", "1000")


def inside(shop, box: str, name: str) -> Path:
    """Return a file of the container."""
    return Path(shop.state(box)["bundle"]) / "rootfs" / name


def restart_server(shop, box: str) -> None:
    before = wait_for(lambda: shop.server(box))
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: shop.server(box) not in (0, before))


async def test_output_and_code_are_exact_across_deaths(shop) -> None:
    """A client that waits for nothing sees every byte of 20 MB, over kills at random moments."""
    box, chance = shop.run(*IDLE), random.Random(5)
    spec = {
        "argv": ["sh", "-c", "yes 0123456789 | head -c 20000000; exit 3"],
        "allow_block": 100,
    }
    digest, size, kills, record = hashlib.sha256(), 0, 0, {}

    async def storm() -> None:
        nonlocal kills
        while kills < 3:
            await trio.sleep(chance.uniform(0.05, 0.2))
            kills += kill_server(shop, box)

    with trio.fail_after(PATIENCE):
        async with attach(
            box, root=str(shop.root), exec="x", spec=spec, since="start", flow="block"
        ) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm)
                async for event in client:
                    assert not isinstance(event, say.Gap)
                    if isinstance(event, say.Output):
                        assert event.offset == size
                        size += len(event.data)
                        digest.update(event.data)
                        await trio.sleep(0.001)  # the kills fall into the middle of it
                    elif isinstance(event, say.Exit):
                        record = event.record
                nursery.cancel_scope.cancel()

    assert (size, record["exit_code"], record["drained"]) == (20_000_000, 3, True)
    assert digest.digest() == hashlib.sha256(b"0123456789\n" * 1818181 + b"012345678").digest()
    assert record["restarts"] >= 1


async def test_stdin_arrives_once_and_in_order_across_deaths(shop) -> None:
    """5 MB into sha256sum, over kills at random moments."""
    box, chance, data = shop.run(*IDLE), random.Random(6), os.urandom(5_000_000)
    spec = {"argv": ["sha256sum"], "stdin": True, "stdin_eof": "once"}
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), spec=spec, since="start") as client:
            async with trio.open_nursery() as nursery:

                async def storm() -> None:
                    for _ in range(2):
                        await trio.sleep(chance.uniform(0.02, 0.1))
                        kill_server(shop, box)

                nursery.start_soon(storm)
                for at in range(0, len(data), 100_000):
                    await client.send(data[at : at + 100_000])
                    await trio.sleep(0.002)
            await client.send_eof()
            out = b"".join([e.data async for e in client if isinstance(e, say.Output)])

    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_a_death_at_any_moment_of_its_birth_makes_it_once(shop) -> None:
    """The client is welcomed all the same; the program has run exactly once."""
    box = shop.run(*IDLE)
    ran = inside(shop, box, "ran")
    for number in range(5):
        command = ("sh", "-c", f"echo {number} >>/ran; echo out; exit {number}")
        client = shop.popen("attachctl", "exec", "--name", f"x{number}", box, *command)
        trying = shop.path(box, f"exec/x{number}")
        moments = (
            lambda: True,
            trying.exists,
            lambda trying=trying: (trying / "process.json").exists(),
            lambda trying=trying: (trying / "container.pid").exists(),
            lambda number=number: ran.exists() and f"{number}\n" in ran.read_text(),
        )
        wait_for(
            lambda here=moments[number], client=client: here() or client.poll() is not None
        )
        wait_for(lambda: kill_server(shop, box))
        out, words = client.communicate(timeout=PATIENCE)
        assert (client.returncode, out, words) == (number, b"out\n", b""), number

    assert ran.read_text() == "0\n1\n2\n3\n4\n"
    # One whose end was told just before a death may be kept: no server knows that it was.
    told = json.loads(shop.ctl("stats", box))["execs"]
    assert {one["phase"] for one in told} <= {"stopped"}


def test_an_exit_while_the_server_is_dead_is_told_by_the_next(shop) -> None:
    """The keeper notes it, whatever number it is."""
    box = shop.run(*IDLE)
    client = shop.popen(
        "attachctl", "exec", box, "sh", "-c", "echo up; read x </fifo; exit 42"
    )
    os.mkfifo(inside(shop, box, "fifo"))
    assert client.stdout.readline()
    out, _ = _end_while_dead(shop, box, client)

    assert (client.returncode, out) == (42, b"")


def _end_while_dead(shop, box: str, client) -> tuple[bytes, bytes]:
    """Kill the server, and have the exec end before the next one can be there."""
    server = wait_for(lambda: shop.server(box))
    os.kill(server, signal.SIGSTOP)
    with inside(shop, box, "fifo").open("w") as fifo:
        fifo.write("go\n")
    os.kill(server, signal.SIGKILL)
    return client.communicate(timeout=PATIENCE)


def test_a_terminal_is_handed_to_the_next_server(shop) -> None:
    """What is typed before and after a death arrives; the size is kept."""
    box = shop.run(*IDLE)
    spec = {
        "argv": ["sh", "-c", "stty -echo; while read x; do echo got $x $(stty size); done"],
        "terminal": True, "stdin": True, "columns": 91, "rows": 17,
    }  # fmt: skip
    with attach_blocking(box, root=str(shop.root), spec=spec, since="start") as client:

        def wait_line(line: bytes) -> None:
            seen = b""
            while line not in seen:
                event = client.receive(PATIENCE)
                seen += event.data if isinstance(event, say.Output) else b""

        for word in (b"one", b"two", b"three"):
            client.send(word + b"\n", PATIENCE)
            wait_line(b"got %s 17 91\r\n" % word)
            if word != b"three":
                restart_server(shop, box)
        client.signal(signal.SIGKILL, PATIENCE)
        record = next(event.record for event in client if isinstance(event, say.Exit))

    assert (record["signal"], record["restarts"]) == (signal.SIGKILL, 2)


def test_an_ended_execs_record_survives_and_its_output_is_still_there(shop) -> None:
    """Nobody has seen its end: the next server tells it, byte for byte."""
    box = shop.run(*IDLE)
    shop.ctl("exec", "-d", "--name", "x", box, "sh", "-c", "echo out; exit 8")
    path = shop.path(box, "exec/x/exit.json")
    wait_for(path.exists)
    before = path.read_bytes()
    restart_server(shop, box)
    done = shop.call("attach", "--exec", "x", "--from", "start", box, check=False)

    assert (done.returncode, done.stdout) == (8, b"out\n")
    assert path.read_bytes() == before


def test_the_keepers_death_does_not_leave_a_client_waiting(shop) -> None:
    """An heir takes over: the program's end is told, and what is new is executed."""
    box = shop.run(*IDLE)
    client = shop.popen("attachctl", "exec", box, "sh", "-c", "echo up; sleep 0.5; exit 9")
    assert client.stdout.readline()
    os.kill(shop.keeper(box), signal.SIGKILL)
    client.communicate(timeout=PATIENCE)
    new = shop.call("attachctl", "exec", box, "true", check=False)

    assert client.returncode == 9
    assert (new.returncode, new.stderr) == (0, b"")


def test_what_a_killed_birth_has_said_is_not_told_as_the_runtimes_words(shop) -> None:
    """The program ran already, and spoke, when its keeper was killed: the reason is that.

    Nor are the runtime's own last words, which are about what the kill has done to it.
    """
    runtime = shop.scratch / "runtime"
    runtime.write_text(
        '#!/bin/sh\nrunc "$@" || exit\ncase "$*" in *exec*)\n'
        """echo '{"level":"error","msg":"broken pipe"}' >>"$2"; exec sleep 1000;; esac\n"""
    )
    runtime.chmod(0o755)
    box = shop.run("sleep", "1000", options=("--runtime", runtime))
    ran = inside(shop, box, "ran")
    command = ("sh", "-c", "echo my own words >&2; echo >/ran; sleep 1000")
    client = shop.popen("attachctl", "exec", box, *command)
    wait_for(ran.exists)
    os.kill(shop.keeper(box), signal.SIGKILL)
    _, words = client.communicate(timeout=PATIENCE)

    assert client.returncode == 125
    assert b"my own words" not in words
    assert b"broken pipe" not in words  # what it says when its half made program is killed
    assert b"137" in words
