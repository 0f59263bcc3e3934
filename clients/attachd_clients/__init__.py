"""Clients of attachd: a Trio one, a blocking one, and the programs ``attach`` and ``attachctl``.

Both colours are thin: the protocol lives in `attachd.wire`, and what a client must remember
across a lost connection in `attachd_clients.conversation`. Whoever wants lines rather than a
conversation, and to go on where it left off, takes `attachd_clients.following`.

Names are loaded when they are asked for (PEP 562): who wants the blocking client does not wait
for Trio.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attachd_clients.aio import Client, attach
    from attachd_clients.blocking import BlockingClient, attach_blocking
    from attachd_clients.conversation import Ended
    from attachd_clients.cursor import Cursor
    from attachd_clients.following import BlockingFollower, Follower, follow, follow_blocking
    from attachd_clients.lines import Line, Position
    from attachd_clients.places import NoSuchContainer, Place
    from attachd_clients.trail import Heartbeat

_HOMES = {
    "aio": ("Client", "attach"),
    "blocking": ("BlockingClient", "attach_blocking"),
    "conversation": ("Ended",),
    "cursor": ("Cursor",),
    "following": ("BlockingFollower", "Follower", "follow", "follow_blocking"),
    "lines": ("Line", "Position"),
    "places": ("NoSuchContainer", "Place"),
    "trail": ("Heartbeat",),
}

__all__ = [
    "BlockingClient",
    "Client",
    "attach",
    "attach_blocking",
    "BlockingFollower",
    "Cursor",
    "Follower",
    "Heartbeat",
    "Line",
    "Position",
    "follow",
    "follow_blocking",
    "Ended",
    "NoSuchContainer",
    "Place",
]


def __getattr__(name: str) -> object:
    """Return a name of ``__all__``, loaded now."""
    for home, names in _HOMES.items():
        if name in names:
            found: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            globals()[name] = found  # the next one finds it at once, and before a submodule's
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
