"""Who hurts: kills and upgrades of server and keeper, and hostile bytes at the socket."""

import os
import signal
import socket

import hostile
import trio

from soaking.boxes import PATIENCE, Box
from soaking.saying import Wrong
from soaking.steps import Step


async def kill_server(step: Step) -> None:
    """SIGKILL; the keeper starts another one."""
    await _kill(step.box, "server_pid")


async def kill_keeper(step: Step) -> None:
    """SIGKILL; the server starts an heir."""
    await _kill(step.box, "keeper_pid")


async def upgrade(step: Step) -> None:
    """``attachctl upgrade``: another server, by the same keeper's pid, and nobody has died."""
    box = step.box
    async with box.life:
        before = await box.report()
        await step.call("attachctl", "upgrade", box.id)
        after = await box.report()
    told = [after[key] for key in ("keeper_pid", "upgrades", "restarts")]
    wanted = [before["keeper_pid"], before["upgrades"] + 1, before["restarts"]]
    if told != wanted or after["server_pid"] == before["server_pid"]:
        raise Wrong(f"{box}: after an upgrade {told}, and not {wanted}")


async def _kill(box: Box, which: str) -> None:
    """Kill one of the two, and wait until there is another one of it; never both at once."""
    async with box.life:
        before = await box.report()
        box.killed += which == "server_pid"
        box.keepers += which == "keeper_pid"
        os.kill(before[which], signal.SIGKILL)
        await box.until(lambda report: report[which] != before[which])


async def be_hostile(step: Step) -> None:
    """Says hello, or an odd one, then anything, and hangs up; the server has closed, too."""
    chance = step.chance
    data = hostile.hello(chance, odd=chance.random() < 0.3)
    data += b"".join(hostile.words(chance) for _ in range(chance.randrange(1, 12)))
    step.note(f"{len(data)} bytes")
    peer = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with peer, trio.fail_after(PATIENCE):
        await peer.connect(str(step.box.path / "attach.sock"))
        try:
            stream = trio.SocketStream(peer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_listen, stream)
                await stream.send_all(data)
                await stream.send_eof()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def _listen(stream: trio.SocketStream) -> None:
    """Take whatever comes, until the server closes."""
    while await stream.receive_some():
        pass
