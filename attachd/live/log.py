"""A log: what every one of them can do, wherever it keeps output."""

from typing import NamedTuple, Protocol

from attachd.history.segments import Segment
from attachd.state.retention import Limits


class Care(NamedTuple):
    """How the logs of a container are to be treated."""

    limits: Limits = Limits()
    blocks: bool = False  #: the container waits when a log cannot be written
    syncs: bool = False  #: each write is on the disk before it counts
    patience: float = 2.0  #: seconds that an ended container's log is still tried for
    cuts: bool = (
        False  #: a file may end with a piece of a line, and so is never over its limit
    )
    max_ever: int = (
        0  #: a log that has so much text, in all its files, gets no more; 0: no limit
    )


class Log(Protocol):
    """A cursor that takes all output to a place outside; the pump waits for what it has not."""

    @property
    def form(self) -> str:
        """The format's name."""

    @property
    def offset(self) -> int:
        """The offset up to which output was taken, or given up."""

    @property
    def written(self) -> int:
        """The offset up to which output is at its place, or given up: what needs no ring."""

    @property
    def dropped(self) -> int:
        """How many bytes of output are not at their place."""

    @property
    def counters(self) -> dict[str, object]:
        """Where it is, in bytes, and what is wrong with it."""

    def segments(self) -> list[Segment]:
        """Return the files in which output can be read again. For any thread."""

    async def rotate(self) -> None:
        """Begin a new file, where there are files. Raises nothing."""

    async def reopen(self) -> None:
        """Go on in what has the log's name now. Raises nothing."""

    async def run(self) -> None:
        """Write until the feed has ended and all is there or given up; then return."""
