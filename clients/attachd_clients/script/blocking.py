"""`attachd_clients.script` without Trio: the same names.

with open_container(["sh", "-i"], terminal=True) as container:
    with container.session() as session:
        session.expect("$ ")
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Unpack

from attachd_clients.lines import STREAMS
from attachd_clients.script import making
from attachd_clients.script.buffer import LIMIT
from attachd_clients.script.failures import (
    ExpectEnded,
    ExpectTimeout,
    ScriptError,
    SendRefused,
)
from attachd_clients.script.making import Made, Wish, Wishes
from attachd_clients.script.match import Match
from attachd_clients.script.options import TIMEOUT_SECONDS, USUAL, AttachOptions, Timeout
from attachd_clients.script.patterns import EOF, EXIT
from attachd_clients.script.plain_session import Session, attach
from attachd_clients.script.screen import Snapshot
from attachd_clients.script.transcript import Transcript

__all__ = [
    "Container",
    "Session",
    "attach",
    "open_container",
    "EOF",
    "EXIT",
    "USUAL",
    "Match",
    "Snapshot",
    "Timeout",
    "Transcript",
    "ExpectEnded",
    "ExpectTimeout",
    "ScriptError",
    "SendRefused",
]


class Container(Made):
    """A container of ours, with its ``id`` and, when it has ended, its ``record``."""

    @contextlib.contextmanager
    def session(
        self,
        *,
        since: str = "start",
        timeout: float | None = TIMEOUT_SECONDS,
        limit: int = LIMIT,
        streams: Iterable[str] = STREAMS,
        **options: Unpack[AttachOptions],
    ) -> Iterator[Session]:
        """Give a session that sees the output from its start on; otherwise as ``attach``."""
        with attach(
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


@contextlib.contextmanager
def open_container(
    command: Sequence[str] = (), **wishes: Unpack[Wishes]
) -> Iterator[Container]:
    """Run a command, or a ``bundle``, in a container; kill and remove it when the block is left.

    With ``terminal`` a shell's prompt is ``"$ "``, unless ``env`` is given. Raises UsageError
    with attachd's words when it cannot be run.
    """
    wish = Wish.of(command, wishes)
    container = making.begin(Container, wish)
    try:
        making.make(container, wish)
        yield container
    finally:
        making.unmake(container)
