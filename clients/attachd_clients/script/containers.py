"""Containers for a script, in Trio: there for a block, and gone after it."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Unpack

import trio

from attachd_clients.lines import STREAMS
from attachd_clients.script import making
from attachd_clients.script.buffer import LIMIT
from attachd_clients.script.making import Made, Wish, Wishes
from attachd_clients.script.options import TIMEOUT_SECONDS, AttachOptions
from attachd_clients.script.session import Session, attach


class Container(Made):
    """A container of ours, with its ``id`` and, when it has ended, its ``record``."""

    @contextlib.asynccontextmanager
    async def session(
        self,
        *,
        since: str = "start",
        timeout: float | None = TIMEOUT_SECONDS,
        limit: int = LIMIT,
        streams: Iterable[str] = STREAMS,
        **options: Unpack[AttachOptions],
    ) -> AsyncIterator[Session]:
        """Give a session that sees the output from its start on; otherwise as ``attach``."""
        async with attach(
            self.id,
            root=self.root,
            since=since,
            timeout=timeout,
            limit=limit,
            streams=streams,
            **options,
        ) as session:
            self.transcripts.append(session.transcript)
            yield session


@contextlib.asynccontextmanager
async def open_container(
    command: Sequence[str] = (), **wishes: Unpack[Wishes]
) -> AsyncIterator[Container]:
    """Run a command, or a ``bundle``, in a container; kill and remove it when the block is left.

    With ``terminal`` a shell's prompt is ``"$ "``, unless ``env`` is given. Raises UsageError
    with attachd's words when it cannot be run. On cancel: it is removed first, which is waited
    for.
    """
    wish = Wish.of(command, wishes)
    container = making.begin(Container, wish)
    try:
        with trio.CancelScope(shield=True):  # half a container could not be removed
            await trio.to_thread.run_sync(making.make, container, wish)
        await trio.lowlevel.checkpoint()
        yield container
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(making.unmake, container)
