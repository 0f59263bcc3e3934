"""Another way in than our own socket: what a door (`attachd.doors`) adds to a shim."""

from typing import Protocol

from attachd.keeper.parcels import Post
from attachd.live.program import Program


class Entrance(Protocol):
    """The server half of a door. One for each server; a successor goes on where it was."""

    @property
    def clients(self) -> int:
        """How many clients the door has just now."""

    @property
    def behind(self) -> bool:
        """True while a client of the door has not been given all output."""

    def open(self, program: Program, post: Post) -> None:
        """Take in who is waiting, before anything moves."""

    async def run(self) -> None:
        """Serve the door's own clients and orders. Ends when cancelled."""

    async def finish(self, record: dict[str, object]) -> None:
        """Give the door's clients their last bytes, then tell of the end as the door tells it.

        Called when the record is on the disk, and again by a successor that finds it there.
        Everything is repeatable. What cannot be written is logged.
        """


class NoEntrance:
    """Our own socket is the only way."""

    clients = 0
    behind = False

    def open(self, program: Program, post: Post) -> None:
        """Nobody is waiting."""

    async def run(self) -> None:
        """Return at once."""

    async def finish(self, record: dict[str, object]) -> None:
        """Nobody else is to be told."""
