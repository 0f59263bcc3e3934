"""``attach``: a container's output on ours, our stdin on its, until it ends or we leave.

Ctrl-C leaves; the container goes on. The end of our stdin (ctrl-D at a terminal) closes the
container's, but for ``/dev/null`` and a closed descriptor, which count as ``--no-stdin``. Exit
codes: the container's own (128+n for a signal), 123 after leaving, 125 for a failure of ours.
"""

import argparse
import errno
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

import trio

from attachd.errors import Refused
from attachd.wire import messages as say
from attachd.wire.origin import parse_origin
from attachd_clients.aio import Client, attach, unwrapped
from attachd_clients.arguments import end, parser
from attachd_clients.outcome import shell_code

#: We have left, the container goes on. Not used by shells, docker or timeout(1).
LEFT = 123

_STREAM_FDS = {"stdout": 1, "stderr": 2}
_READ_BYTES = 64 * 1024


def main() -> NoReturn:
    """Run ``attach`` with the arguments of this process; never returns."""
    end("attach", lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Attach as ``words`` say; return the exit code."""
    wish = _parse(words)
    parse_origin(wish.since)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return trio.run(_attach, wish)


def _parse(words: list[str]) -> argparse.Namespace:
    made = parser("attach", "See a container's output and type to it; ctrl-C leaves.")
    made.add_argument("id", metavar="ID")
    made.add_argument("--from", metavar="WHERE", dest="since", default="tail:10",
        help="start, live, tail:LINES or offset:BYTES (%(default)s)")  # fmt: skip
    made.add_argument("--no-stdin", action="store_true", help="do not read our stdin")
    made.add_argument("--read-only", action="store_true",
        help="only look: the server refuses anything else")  # fmt: skip
    made.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    return made.parse_args(words)


async def _attach(wish: argparse.Namespace) -> int:
    role = "viewer" if wish.read_only else "full"
    name = os.environ.get("USER", "")[:64] or "attach"
    async with attach(
        wish.id,
        root=wish.root,
        since=wish.since,
        role=role,
        name=name,
        connection=_inherited(wish.fd),
    ) as client:
        return await Screen(client).show(wish.no_stdin or wish.read_only)


def _inherited(fd: int | None) -> trio.SocketStream | None:
    if fd is None:
        return None
    peer = socket.socket(fileno=fd)
    peer.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(peer))


class Screen:
    """One attached client in front of our own standard descriptors."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._shown = client.offset  #: everything before it was written in full
        self._record: say.Record | None = None

    async def show(self, no_stdin: bool) -> int:
        """Copy until the exit record or ctrl-C; return the exit code."""
        client = self._client
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            async with unwrapped(), trio.open_nursery() as nursery:
                stdin_wanted = client.welcome is not None and client.welcome.stdin != "closed"
                if stdin_wanted and not no_stdin and _is_input(0):
                    nursery.start_soon(_copy_stdin, client)
                nursery.start_soon(_leave_on, interrupts, nursery.cancel_scope)
                await self._copy_output()
                nursery.cancel_scope.cancel()
        if self._record is not None:
            return shell_code(self._record)
        again = f"attach --from offset:{self._shown} {client.place.id}"
        line = (
            f"attach: left {client.place.id} at offset {self._shown}; come back with: {again}"
        )
        print(line, file=sys.stderr)
        return LEFT

    async def _copy_output(self) -> None:
        async for event in self._client:
            if isinstance(event, say.Output):
                self._shown = event.offset
                await _write(_STREAM_FDS[event.stream], event.data, self._advance)
            elif isinstance(event, say.Gap):
                missed = f"{event.end - event.start} bytes from offset {event.start}"
                print(f"attach: {missed} are no longer there", file=sys.stderr)
                self._shown = event.end
            elif isinstance(event, say.Exit):
                self._record = event.record

    def _advance(self, count: int) -> None:
        self._shown += count


async def _leave_on(interrupts: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in interrupts:
        scope.cancel()


def _is_input(fd: int) -> bool:
    """False for a closed descriptor and for /dev/null: their end of file means nothing."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    null = os.stat(os.devnull)
    return not (stat.S_ISCHR(found.st_mode) and found.st_rdev == null.st_rdev)


async def _copy_stdin(client: Client) -> None:
    """Send our stdin to the container, and its end. Ends when either side has no more."""
    try:
        while data := await _read(0):
            await client.send(data)
        await client.send_eof()
    except Refused as error:
        if error.code not in ("stdin_closed", "bad_phase"):
            print(f"attach: {error}", file=sys.stderr)


async def _read(fd: int) -> bytes:
    """Read what is there; wait without touching the descriptor's flags, which others share."""
    await _wait_ready(trio.lowlevel.wait_readable, fd)
    return os.read(fd, _READ_BYTES)


async def _wait_ready(wait: Callable[[int], Awaitable[None]], fd: int) -> None:
    """Wait for a descriptor; epoll takes no regular files, which are always ready."""
    try:
        await wait(fd)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        await trio.lowlevel.checkpoint()


async def _write(fd: int, data: bytes, wrote: Callable[[int], None]) -> None:
    """Write all, and tell ``wrote`` of each piece; a slow reader of ours makes only us wait.

    What poll says is writable takes PIPE_BUF bytes without blocking (pipe(7)); more is written
    in a thread, which a cancelled caller leaves behind.
    """
    rest = memoryview(data)
    while rest:
        await _wait_ready(trio.lowlevel.wait_writable, fd)
        if len(rest) <= select.PIPE_BUF:
            count = os.write(fd, rest)
        else:
            count = await trio.to_thread.run_sync(os.write, fd, rest, abandon_on_cancel=True)
        wrote(count)
        rest = rest[count:]


if __name__ == "__main__":
    main()
