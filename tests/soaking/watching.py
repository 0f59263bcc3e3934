"""Who looks: clients and programs that are told what a container says, and judge it."""

import json
import random
from collections.abc import Callable

import trio
from attachd_clients.conversation import Ended

from attachd.wire import messages as say
from soaking.boxes import PATIENCE, Box, cut
from soaking.saying import LINE, Story, Wrong
from soaking.steps import Step

#: A client with a small window is told in small pieces.
_WINDOWS = (1 << 20, 30_000, 2_000)


async def watch(step: Step) -> None:
    """Attach somewhere, read for a moment at some pace, perhaps be cut off, and leave."""
    box, chance = step.box, step.chance
    origin, first = _origin(box, chance)
    seconds, most = chance.uniform(0.1, 1.5), chance.randrange(100, 200_000)
    cuts = [chance.randrange(most) for _ in range(chance.choice((0, 0, 1)))]
    pause = chance.choice((0, 0, 0.05, 0.3))
    sleep = chance.choice((0, 0, 0, 0, 0, 6))
    flow = chance.choice(("gap", "gap", "disconnect"))
    step.note(
        f"from {origin}, flow {flow}, {most} bytes, cut at {cuts}, pauses {pause} {sleep}"
    )
    options = {"since": origin, "flow": flow, "window": chance.choice(_WINDOWS)}
    story = Story()
    stream = await box.connect()
    try:
        async with box.attach(connection=stream, stream_id=box.stream_id, **options) as client:
            await trio.sleep(sleep)  # what is said meanwhile is more than a ring holds
            with trio.move_on_after(seconds):
                while story.bytes < most and (event := await client.receive()) is not None:
                    if story.at is None and isinstance(event, say.Output | say.Gap):
                        first(event.start if isinstance(event, say.Gap) else event.offset)
                    story.take(event)
                    await _judge(box, event)
                    if cuts and story.bytes > cuts[0]:
                        cuts.pop()
                        cut(stream)
                    await trio.sleep(pause)
    except Ended as ended:
        if ended.code != "slow" or flow != "disconnect" or box.kind.keeps_all:
            raise
    for gap in story.gaps:
        await _judge_gap(box, gap)


def _origin(box: Box, chance: random.Random) -> tuple[str, Callable[[int], None]]:
    """Return where a client begins, and who judges its first offset."""
    known = box.said.end
    kind, share, lines = chance.randrange(4), chance.random(), chance.randrange(1, 50)
    offset = int(share * known)

    def must(right: Callable[[int], bool]) -> Callable[[int], None]:
        def judge(told: int) -> None:
            if not right(told):
                raise Wrong(
                    f"{box}: a client begins at {told}, kind {kind}, {known} were said"
                )

        return judge

    if kind == 0:
        return "start", must(lambda told: told == 0)
    if kind == 1:
        return "live", must(lambda told: told >= known)
    if kind == 2:
        # Each line is LINE bytes, and the one that is being written counts.
        return f"tail:{lines}", must(lambda told: told >= known - (lines + 1) * LINE)
    return f"offset:{offset}", must(lambda told: told == offset)


async def _judge(box: Box, event: object) -> None:
    """Compare with what the follower was told. Raises Wrong."""
    if isinstance(event, say.Output):
        await box.wait_said(event.offset + len(event.data))
        box.said.check(event)


async def _judge_gap(box: Box, gap: say.Gap) -> None:
    """Nothing is missing that was there: neither in the ring nor in a file. Raises Wrong."""
    if box.kind.keeps_all:
        raise Wrong(f"{box}: {gap}, but its log has everything")
    if box.kind.logs:
        kept = json.loads((box.path / "log0.json").read_text())["files"][0]["first"]
    else:
        kept = (await box.report())["oldest"]
    if not 0 <= gap.start < gap.end <= kept:
        raise Wrong(f"{box}: {gap}, but everything from {kept} on is kept")


async def watch_and_die(step: Step) -> None:
    """``attach``, the program, is killed at some moment; what it has printed is exact."""
    box, chance = step.box, step.chance
    number, most = chance.choice((9, 15)), chance.randrange(100, 100_000)
    origin = "start" if box.kind.keeps_all else "tail:50"
    step.note(f"from {origin}, signal {number} after {most} bytes")
    got = bytearray()
    async with step.program("attach", "--no-stdin", "--from", origin, box.id) as process:
        with trio.move_on_after(chance.uniform(0.5, 1.5)):
            while len(got) < most and (data := await process.stdout.receive_some()):
                got += data
        process.send_signal(number)
        while data := await process.stdout.receive_some():
            got += data
        code = await process.wait()
    manner = box.kind.manners["stdout"]
    if len(got) >= 2 * LINE:
        place = manner.find(bytes(got))
        if origin == "start" and place != 0:
            raise Wrong(f"{box}: attach --from start has begun with byte {place} of stdout")
    if code not in (-9, 128 + 15, -15):
        raise Wrong(f"{box}: attach has ended with {code}")


async def read_logs(step: Step) -> None:
    """``attachctl logs``: so many lines, or those since a moment, and nothing else."""
    box, chance = step.box, step.chance
    stream, lines = chance.choice(sorted(box.kind.manners)), chance.randrange(1, 100)
    which = ("--tail", lines) if chance.random() < 0.6 else ("--since", "3s")
    step.note(" ".join(map(str, (*which, stream))))
    enough = box.said.sizes[stream] >= lines * LINE
    data = await step.call("attachctl", "logs", *which, "--stream", stream, box.id)
    if len(data) >= 2 * LINE:
        box.kind.manners[stream].find(data)
    # Of both streams, so many lines; with two of them a half may be of this one.
    least = lines // 4 * LINE if enough and which[0] == "--tail" else 0
    if len(data) < least and len(box.kind.manners) == 1:
        raise Wrong(f"{box}: logs {which} has {len(data)} bytes")


async def record(step: Step) -> None:
    """``attachctl record`` for a moment: a whole file, with what was said."""
    box, path = step.box, step.scratch("record.cast")
    lines = step.chance.randrange(2, 40)
    step.note(f"from tail:{lines}")
    words = ("record", "--from", f"tail:{lines}", "--for", "0.3", "-o", path, box.id)
    await step.call("attachctl", *words)
    head, *events = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    data = "".join(text for _, code, text in events if code == "o").encode()
    data = data.replace(b"\r\n", b"\n")
    if head["version"] != 2:
        raise Wrong(f"{box}: a recording of version {head}")
    # A terminal's begins with its screen, drawn anew; of two streams pieces may alternate.
    if len(data) >= 2 * LINE and box.kind.name == "echo":
        box.kind.manners["stdout"].find(data)


async def picture(step: Step) -> None:
    """``attachctl snapshot``: the screen has the lines that were said last."""
    text = await step.call("attachctl", "snapshot", "--format", "txt", step.box.id)
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    manner = step.box.kind.manners["stdout"]
    whole = [row for row in rows if len(row) == LINE - len(manner.end)]
    if len(whole) > 2:
        manner.find(b"".join(row + manner.end for row in whole))


async def look(step: Step) -> None:
    """``ls``, ``inspect``, ``stats``, ``metrics``: each knows the container."""
    verb = step.chance.choice(("ls", "inspect", "stats", "metrics"))
    step.note(verb)
    words = (verb,) if verb == "ls" else (verb, step.box.id)
    text = await step.call("attachctl", *words)
    if step.box.id.encode() not in text:
        raise Wrong(f"{step.box}: {verb} does not tell of it: {text[:500]!r}")


async def ask_all(step: Step) -> None:
    """A client that asks and asks gets one answer for each question, in order."""
    count = step.chance.randrange(1, 30)

    async def ask(client) -> None:
        before = 0
        for _ in range(count):
            newest = await client.ping()
            if newest < before:
                raise Wrong(f"{step.box}: the newest offset went from {before} to {newest}")
            before = newest

    with trio.fail_after(PATIENCE):
        await step.box.ask(ask)
