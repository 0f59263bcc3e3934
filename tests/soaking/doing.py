"""Who does something to a container: writes, holds the lease, resizes, rotates, signals."""

import json
import signal
import subprocess

import trio
from attachd_clients.conversation import Ended

from attachd.errors import Refused
from attachd.state.sizes import Size
from attachd.wire import messages as say
from soaking.boxes import PATIENCE, Box, cut, wait_until
from soaking.saying import Wrong
from soaking.steps import Step


async def write(step: Step) -> None:
    """What is acknowledged has been written once and in order, also by who was cut off."""
    box, chance = step.box, step.chance
    size, pieces = chance.randrange(1, 60_000), chance.randrange(1, 6)
    is_cut = chance.random() < 0.3
    step.note(f"{size} bytes in {pieces} pieces{', and is cut off' if is_cut else ''}")
    async with box.pen:
        data, stream = box.data(size), await box.connect()
        with trio.fail_after(PATIENCE):
            async with box.attach(since="none", connection=stream) as client:
                for piece in range(pieces):
                    await client.post(
                        data[size * piece // pieces : size * (piece + 1) // pieces]
                    )
                    if is_cut and piece == pieces // 2:
                        cut(stream)
                await client.wait_written(size)
        box.typed += size
        await box.wait_said(box.kind.prologue + box.typed)


async def write_and_die(step: Step) -> None:
    """``attachctl send`` is killed in the middle: what has arrived is the beginning of it."""
    box, chance = step.box, step.chance
    size, seconds = chance.randrange(1, 300_000), chance.uniform(0.2, 0.6)
    step.note(f"{size} bytes, killed after {seconds:.2f} s")
    async with box.pen:
        data = box.data(size)
        words = ("send", "--timeout", "30", box.id, "-")
        async with step.program("attachctl", *words, stdin=subprocess.PIPE) as process:
            with trio.move_on_after(seconds):
                try:
                    await process.stdin.send_all(data)
                except trio.BrokenResourceError:
                    raise Wrong(f"{box}: send does not read its stdin") from None
            process.kill()
            await process.wait()
        accepted = await _settled(box)
        if not box.typed <= accepted <= box.typed + size:
            raise Wrong(f"{box}: {accepted} bytes of stdin, {box.typed} and at most {size}")
        box.typed = accepted
        await box.wait_said(box.kind.prologue + box.typed)


async def _settled(box: Box) -> int:
    """Return how much stdin was accepted when the last program that sends has gone."""

    def settled(report: say.Record) -> bool:
        names = {client["name"] for client in report["clients"]}
        stdin = report["stdin"]
        return names <= {"follower", "soak"} and stdin["accepted"] == stdin["delivered"]

    return (await box.until(settled))["stdin"]["accepted"]


async def hold_the_lease(step: Step) -> None:
    """Who has it writes; nobody else does, and nothing of theirs arrives."""
    box, size = step.box, step.chance.randrange(1, 5000)
    async with box.pen:
        data = box.data(size)
        with trio.fail_after(PATIENCE):
            async with box.attach(since="none", name="holder") as holder:
                await _take(holder)
                await _fail_to_write(box)
                await holder.send(data)
                box.typed += size
            await box.wait_said(box.kind.prologue + box.typed)
            await box.until(lambda report: not report["writer"])


async def _take(holder) -> None:
    while True:
        try:
            return await holder.lease("take")
        except Refused as refused:
            if refused.code != "lost":
                raise


async def _fail_to_write(box: Box) -> None:
    async with box.attach(since="none", name="other") as other:
        try:
            await other.send(b"never\n")
        except Refused as refused:
            if refused.code == "leased":
                return
            raise
    raise Wrong(f"{box}: somebody has written without the lease")


async def resize(step: Step) -> None:
    """The terminal gets the size that was asked for, and keeps it."""
    box = step.box
    size = Size(step.chance.randrange(20, 200), step.chance.randrange(5, 60))
    step.note(str(size))
    async with box.size:
        await box.ask(lambda client: client.resize(size))
        await box.until(lambda report: _size_of(report) == size)


def _size_of(report: dict) -> Size:
    terminal = report["terminal"]
    return Size(terminal["columns"], terminal["rows"])


async def rotate(step: Step) -> None:
    """A new file of the log; in a log with limits no more files than it may have."""
    box = step.box
    async with box.shelf:
        await box.ask(lambda client: client.rotate())
        files = json.loads((box.path / "log0.json").read_text())["files"]
    # One may be about to be removed.
    if not box.kind.keeps_all and len(files) > 7:
        raise Wrong(f"{box}: {len(files)} files of a log that may have 6")


async def rename_and_reopen(step: Step) -> None:
    """As logrotate does; the container's history goes on through both files."""
    box = step.box
    path = box.path / "log/container.log"
    async with box.shelf:
        if not box.kind.keeps_all or not path.exists():
            step.note("nothing to rename")
            return await box.ask(lambda client: client.reopen())
        path.rename(path.with_name(f"moved-{step.number}"))
        await box.ask(lambda client: client.reopen())
        await wait_until(path.exists, f"{box}: the log was not opened again")


async def send_signal(step: Step) -> None:
    """A signal arrives in the container, whose program does not die of it."""
    box = step.box
    seen = box.rootfs / "signalled"
    async with box.bell:
        seen.unlink(missing_ok=True)
        await box.ask(lambda client: client.signal(signal.SIGUSR1))
        await wait_until(seen.exists, f"{box}: a signal did not arrive")


async def resume_another(step: Step) -> None:
    """Who means another container's stream is told so, and gets no byte of this one."""
    try:
        async with step.box.attach(since="offset:0", stream_id="0" * 32):
            pass
    except Ended as ended:
        if ended.code == "other_stream":
            return
        raise
    raise Wrong(f"{step.box}: another stream's offset was taken for its own")
