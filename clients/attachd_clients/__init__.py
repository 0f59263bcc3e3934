"""Clients of attachd: a Trio one, a blocking one, and the programs ``attach`` and ``attachctl``.

Both colours are thin: the protocol lives in `attachd.wire`, and what a client must remember
across a lost connection in `attachd_clients.conversation`.
"""

from attachd_clients.aio import Client, attach
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.conversation import Ended
from attachd_clients.places import NoSuchContainer, Place

__all__ = [
    "BlockingClient",
    "Client",
    "Ended",
    "NoSuchContainer",
    "Place",
    "attach",
    "attach_blocking",
]
