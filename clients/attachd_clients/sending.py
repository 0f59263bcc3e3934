"""Stdin from here into a container, and how far it has come."""

import os
import select

import attrs
import trio

from attachd.errors import AttachdError, Refused
from attachd_clients.aio import Client, unwrapped
from attachd_clients.plain import read

#: How far we read ahead of what the container has: with what one read returns (64 KiB) no more
#: than a server's window of 512 KiB, which keeps a pipe busy.
AHEAD_BYTES = 448 * 1024


@attrs.define(eq=False)
class Sending:
    """What one client sends, counted in bytes. Raises Refused for what is not taken."""

    _client: Client
    sent: int = 0
    _error: AttachdError | None = None

    @property
    def told(self) -> str:
        """How far it has come, in words."""
        written, rest = min(self._client.written, self.sent), self._client.pending
        more = f", and {rest} more are on their way and may still be" if rest else ""
        return f"{written} bytes were written to it{more}"

    async def send(self, data: bytes) -> None:
        """Return when all is written to the container."""
        self.sent = await self._client.post(data)
        await self._client.wait_written(self.sent)

    async def copy(self, fd: int) -> None:
        """Send what can be read from a descriptor to its end; return when all is written."""
        try:
            async with unwrapped(), trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, nursery.cancel_scope)
                await self._copy(fd)
                nursery.cancel_scope.cancel()
            if self._error is not None:
                raise self._error
        except Refused:
            # A container that has all it wanted may close its stdin before we see our own end.
            if self._client.written < self.sent or not _at_end(fd):
                raise

    async def _watch(self, scope: trio.CancelScope) -> None:
        """Stop reading when nothing more is taken. Ends by that, or when cancelled."""
        try:
            await self._client.wait_refused()
        except AttachdError as error:
            self._error = error
            scope.cancel()

    async def _copy(self, fd: int) -> None:
        while data := await read(fd):
            self.sent = await self._client.post(data)
            await self._client.wait_written(self.sent - AHEAD_BYTES)
        await self._client.wait_written(self.sent)


def _at_end(fd: int) -> bool:
    """Return whether nothing more can be read; what can be is lost."""
    ready, _, _ = select.select([fd], [], [], 0)
    return bool(ready) and os.read(fd, 1) == b""
