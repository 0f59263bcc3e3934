"""Clients of attachd: a Trio one, a blocking one, and the programs ``attach`` and ``attachctl``.

Both colours are thin: the protocol lives in `attachd.wire`, and what a client must remember
across a lost connection in `attachd_clients.conversation`. Whoever wants lines rather than a
conversation, and to go on where it left off, takes `attachd_clients.following`.
"""

from attachd_clients.aio import Client, attach
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.conversation import Ended
from attachd_clients.cursor import Cursor
from attachd_clients.following import BlockingFollower, Follower, follow, follow_blocking
from attachd_clients.lines import Line, Position
from attachd_clients.places import NoSuchContainer, Place
from attachd_clients.trail import Heartbeat

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
