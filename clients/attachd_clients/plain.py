"""``attach`` without a person: a container's output on ours, our stdin on its."""

import errno
import os
import select
import signal
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import trio

from attachd.errors import Refused
from attachd.state.modes import Modes
from attachd.wire import messages as say
from attachd_clients.aio import Client, unwrapped

#: What ``--sig-proxy`` passes on: all that a person or a manager sends to end or tell something.
#: What stops and continues us, and what the kernel sends, is ours.
PROXIED = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGALRM,
)  # fmt: skip

_LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STREAM_FDS = {"stdout": 1, "stderr": 2}
_READ_BYTES = 64 * 1024


@attrs.frozen
class Left:
    """We have left, by which signal, and up to which offset everything was written."""

    number: int
    offset: int


class Plain:
    """One attached client in front of our own standard descriptors."""

    def __init__(
        self,
        client: Client,
        *,
        stdin: bool,
        proxy: bool,
        modes: Modes | None = None,
        ours: bool = False,
    ) -> None:
        self._client = client
        self._modes = modes  #: what a program sets on the terminal that our stdout is
        #: The program has its stdin for our sake: then its end counts in any case.
        self._stdin = stdin and (ours or _is_input(0))
        self._proxy = proxy
        self._shown = client.offset  #: everything before it was written in full
        self._record: say.Record | None = None
        self._number = 0

    async def run(self) -> say.Record | Left:
        """Copy until the exit record, or until a signal has us leave."""
        client = self._client
        with trio.open_signal_receiver(*(PROXIED if self._proxy else _LEAVING)) as signals:
            async with unwrapped(), trio.open_nursery() as nursery:
                open_stdin = client.welcome is not None and client.welcome.stdin != "closed"
                if open_stdin and self._stdin:
                    nursery.start_soon(_copy_stdin, client)
                nursery.start_soon(self._heed_signals, signals, nursery.cancel_scope)
                await self._copy_output()
                nursery.cancel_scope.cancel()
        return self._record if self._record is not None else Left(self._number, self._shown)

    async def _copy_output(self) -> None:
        async for event in self._client:
            if isinstance(event, say.Output):
                self._shown = event.offset
                if self._modes is not None:
                    self._modes.feed(event.data)
                await _write(_STREAM_FDS[event.stream], event.data, self._advance)
            elif isinstance(event, say.Gap):
                missed = f"{event.end - event.start} bytes from offset {event.start}"
                print(f"attach: {missed} are no longer there", file=sys.stderr)
                self._shown = event.end
            elif isinstance(event, say.Notice):
                print(f"attach: {event.text}", file=sys.stderr)
            elif isinstance(event, say.Exit):
                self._record = event.record

    def _advance(self, count: int) -> None:
        self._shown += count

    async def _heed_signals(
        self, signals: AsyncIterator[int], scope: trio.CancelScope
    ) -> None:
        """Leave, or pass signals on. Ends by that, or when cancelled."""
        async for number in signals:
            if not self._proxy:
                self._number = number
                scope.cancel()
                return
            try:
                await self._client.signal(number)
            except Refused as error:
                print(f"attach: signal {number} was not passed on: {error}", file=sys.stderr)


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
        while data := await read(0):
            await client.send(data)
        await client.send_eof()
    except Refused as error:
        if error.code not in ("stdin_closed", "bad_phase"):
            print(f"attach: {error}", file=sys.stderr)


async def read(fd: int) -> bytes:
    """Read what is there, up to 64 KiB.

    Waits without touching the descriptor's flags, which others share.
    """
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
