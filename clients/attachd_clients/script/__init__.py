r"""Say something to a container, and expect an answer.

    async with open_container(["sh", "-i"], terminal=True) as container:
        async with container.session() as session:
            await session.expect("$ ")
            await session.send_line("read x; echo got $x")
            await session.send_line("42")
            match = await session.expect(r"got (\d+)", timeout=5)
            assert await session.exit(send_eof=True) == 0

`attachd_clients.script.blocking` has the same names without Trio. What is pure is the same for
both: `search` finds, `plans` says what is next, `failures` tells what went wrong.

What needs Trio is loaded when it is asked for (PEP 562): the blocking twin does not.
"""

import importlib
from typing import TYPE_CHECKING

from attachd_clients.script.failures import (
    ExpectEnded,
    ExpectTimeout,
    ScriptError,
    SendRefused,
)
from attachd_clients.script.match import Match
from attachd_clients.script.options import USUAL, Timeout
from attachd_clients.script.patterns import EOF, EXIT
from attachd_clients.script.screen import Snapshot
from attachd_clients.script.transcript import Transcript

if TYPE_CHECKING:
    from attachd_clients.script.containers import Container, open_container
    from attachd_clients.script.session import Session, attach

_HOMES = {
    "Container": "containers",
    "open_container": "containers",
    "Session": "session",
    "attach": "session",
}

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


def __getattr__(name: str) -> object:
    """Return a name of ``__all__`` that needs Trio, loaded now."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
