"""Who runs something: execs of all kinds, and containers that end soon and are made again."""

import json
import subprocess
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio
from attachd_clients import attach
from attachd_clients.conversation import Ended
from storming import kill_server as kill_server_of

from attachd.wire import messages as say
from soaking.boxes import PATIENCE, Box, traces, wait_until
from soaking.saying import Story, Wrong
from soaking.steps import Step

T = TypeVar("T")


async def hear(client) -> tuple[dict[str, bytes], say.Record]:
    """Return all of each stream, and the exit record. Raises Wrong for a gap."""
    got: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}
    story, record = Story(), {}
    with trio.fail_after(PATIENCE):
        async for event in client:
            story.take(event)
            if isinstance(event, say.Gap):
                raise Wrong(f"{event} of a short output")
            if isinstance(event, say.Output):
                got[event.stream] += event.data
            elif isinstance(event, say.Exit):
                record = event.record
    return {stream: bytes(data) for stream, data in got.items()}, record


async def _born(step: Step, what: Callable[[], Awaitable[T]]) -> T:
    """Do what makes an exec; once more when its keeper was killed while the runtime was at work.

    That is the one thing that may fail of a kill, and it must say so.
    """
    while True:
        keepers = step.box.keepers
        try:
            return await what()
        except Ended as ended:
            if (
                ended.code != "runtime"
                or "137" not in str(ended)
                or step.box.keepers == keepers
            ):
                raise
        step.note("its keeper was killed while it was made")


def _compare(what: str, told: tuple[object, ...], wanted: tuple[object, ...]) -> None:
    if told != wanted:
        raise Wrong(f"{what}: {str(told)[:600]}, and not {str(wanted)[:600]}")


async def execute(step: Step) -> None:
    """An exec, with a terminal or without: its output and its code are what they must be."""
    box, chance = step.box, step.chance
    code, word, terminal = (
        chance.randrange(120),
        chance.randbytes(8).hex(),
        chance.random() < 0.4,
    )
    step.note(f"code {code}{', at a terminal' if terminal else ''}")
    script = f"echo {word}; echo e{word} >&2; exit {code}"
    spec = {"argv": ["sh", "-c", script], "terminal": terminal}

    async def run() -> tuple[dict[str, bytes], say.Record]:
        async with box.attach(spec=spec, since="start") as client:
            return await hear(client)

    got, record = await _born(step, run)
    out, err = f"{word}\n".encode(), f"e{word}\n".encode()
    if terminal:
        out, err = (out + err).replace(b"\n", b"\r\n"), b""
    _compare(f"{box}: an exec", (got, _end(record)), (_streams(out, err), (code, None)))


async def execute_and_feed(step: Step) -> None:
    """One that is left alone, found again by its name, fed, and ended by a code or a signal."""
    box, chance = step.box, step.chance
    code, name = chance.randrange(120), f"soak{step.number}"
    data = chance.randbytes(chance.randrange(1, 100_000))
    kill = chance.random() < 0.3
    step.note(f"{name}: {len(data)} bytes, {'killed' if kill else f'code {code}'}")
    spec = {
        "argv": ["sh", "-c", f"cat; exit {code}"],
        "stdin": True,
        "stdin_eof": "any",
        "ring_size": 1 << 20,
    }

    async def make() -> None:
        async with box.attach(exec=name, spec=spec, since="none"):
            pass

    with trio.fail_after(PATIENCE):
        await _born(step, make)
        async with box.attach(exec=name, since="start") as client:
            await client.send(data)
            if kill:
                await _hear_echo(client, len(data))
                await box.ask(lambda other: other.signal(9), exec=name)
            else:
                await client.send_eof()
            got, record = await hear(client)
    told = ({} if kill else got, _end(record))
    wanted = ({} if kill else _streams(data), (None, 9) if kill else (code, None))
    _compare(f"{box}: exec {name}", told, wanted)


async def _hear_echo(client, size: int) -> None:
    count = 0
    while count < size:
        event = await client.receive()
        count += len(event.data) if isinstance(event, say.Output) else 0


async def execute_by_program(step: Step) -> None:
    """``attachctl exec``: a filter with an exit code of its own."""
    box, chance = step.box, step.chance
    code, data = chance.randrange(120), chance.randbytes(chance.randrange(1, 20_000))
    step.note(f"{len(data)} bytes, code {code}")
    words = ("exec", "-i", box.id, "sh", "-c", f"cat; exit {code}")

    async def run() -> subprocess.CompletedProcess[bytes]:
        done = await trio.to_thread.run_sync(
            lambda: step.shop.call("attachctl", *words, input=data, check=False)
        )
        if b"it ended with 137" in done.stderr:
            raise Ended("runtime", done.stderr.decode())
        return done

    done = await _born(step, run)
    _compare(f"{box}: attachctl exec {done.stderr[:300]!r}",
        (done.stdout, done.returncode), (data, code))  # fmt: skip


async def execute_and_die(step: Step) -> None:
    """The client of an exec is killed: its program reads the end of its stdin, and ends."""
    box, name = step.box, f"soak{step.number}"
    words = ("exec", "-i", "--name", name, box.id, "cat")
    keepers = box.keepers
    async with step.program("attachctl", *words, stdin=subprocess.PIPE) as process:
        await process.stdin.send_all(b"x\n")
        first = await process.stdout.receive_some()
        process.kill()
    if not first and box.keepers != keepers:
        return step.note("its keeper was killed while it was made")
    async with box.attach(exec=name, since="start") as client:
        got, record = await hear(client)
    _compare(f"{box}: exec {name}", (first, got, _end(record)),
        (b"x\n", _streams(b"x\n"), (0, None)))  # fmt: skip


async def live_briefly(step: Step) -> None:
    """A container with a known end; then it is removed, and made again under its name."""
    chance, shop = step.chance, step.shop
    name = f"{step.shop.name()}b"
    shop.made.append(name)
    streams: set[str] = set()
    for _ in range(chance.randrange(1, 3)):
        code, lines = chance.randrange(120), chance.randrange(1, 2000)
        step.note(f"{name}: {lines} lines, code {code}")
        await _live_once(step, name, code, lines, streams)
    shop.made.remove(name)


async def _live_once(step: Step, name: str, code: int, lines: int, streams: set[str]) -> None:
    shop, path = step.shop, step.shop.path(name)
    script = f"seq 1 {lines}; echo done >&2; exit {code}"
    await step.call("attachd", "run", "--linger", 5, name, "--", "sh", "-c", script)
    kills = step.chance.random() < 0.5 and kill_server_of(shop, name)
    out, err = b"".join(b"%d\n" % i for i in range(1, lines + 1)), b"done\n"
    async with attach(name, root=str(shop.root), since="start") as client:
        stream = json.loads((path / "state.json").read_text())["stream_id"]
        got, record = await hear(client)
    _compare(f"{name}", (got, _end(record)), (_streams(out, err), (code, None)))
    if record["restarts"] not in (0, kills):  # it may have been about to end by itself
        raise Wrong(f"{name}: {record['restarts']} new servers, {kills} were killed")
    _compare(f"{name}: exit.json", (json.loads((path / "exit.json").read_text()),), (record,))
    if stream in streams or record["stream_id"] != stream:
        raise Wrong(f"{name}: its stream is {stream}, as before: {streams}")
    for earlier in streams:
        await _fail_to_resume(step, name, earlier)
    streams.add(stream)
    logged = await step.call("attachctl", "logs", "--stream", "stdout", name)
    _compare(f"{name}: its log", (logged,), (out,))
    await step.call("attachctl", "rm", name)
    await wait_until(lambda: not traces(path), f"{name}: after rm there is {traces(path)}")
    asked = await trio.run_process(
        ["runc", "state", name], check=False, capture_stdout=True, capture_stderr=True
    )
    if asked.returncode == 0:
        raise Wrong(f"{name}: the runtime has it after rm")


async def _fail_to_resume(step: Step, name: str, earlier: str) -> None:
    options = {"root": str(step.shop.root), "since": "offset:0", "stream_id": earlier}
    try:
        async with attach(name, **options):
            pass
    except Ended as ended:
        if ended.code == "other_stream":
            return
        raise
    raise Wrong(f"{name}: an earlier container's offset was taken for its own")


async def tidy(box: Box) -> None:
    """Look at each exec that nobody has looked at, so that it is forgotten.

    At all of it: who wanted no output has not seen it.
    """
    for told in (await box.report())["execs"]:
        try:
            async with box.attach(exec=told["name"], since="start") as client:
                with trio.move_on_after(PATIENCE):
                    async for _ in client:
                        pass
        except Ended as ended:
            if ended.code != "no_exec":
                raise


def _streams(out: bytes, err: bytes = b"") -> dict[str, bytes]:
    return {"stdout": out, "stderr": err}


def _end(record: say.Record) -> tuple[object, object]:
    return record.get("exit_code"), record.get("signal")
