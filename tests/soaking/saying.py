"""What a container says: a pure function of the offset in each stream, and the order of both.

Each line has 16 bytes and tells its own number, so that a piece of output can be judged alone
as soon as it is known where it lies in its stream. That is what the follower knows, who has
been there from the first byte on.
"""

import bisect
from array import array
from typing import NamedTuple

from attachd_clients.conversation import Event

from attachd.wire import messages as say

LINE = 16


class Wrong(AssertionError):
    """Something is not as it must be."""


class Manner(NamedTuple):
    """How lines look: a letter, a number, and an end."""

    letter: bytes
    end: bytes = b"\n"

    @property
    def format(self) -> str:
        """For printf(1)."""
        digits = LINE - 1 - len(self.end)
        return (
            self.letter.decode() + f"%0{digits}d" + {b"\n": r"\n", b"\r\n": r"\r\n"}[self.end]
        )

    def said(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` to ``end`` of the stream."""
        first = start // LINE
        digits = LINE - 1 - len(self.end)
        lines = [
            b"%b%0*d%b" % (self.letter, digits, number, self.end)
            for number in range(first, -(-end // LINE))
        ]
        return b"".join(lines)[start - first * LINE : end - first * LINE]

    def find(self, data: bytes) -> int:
        """Return where in the stream ``data`` lies, which has a whole line; or raise Wrong."""
        at = data.find(self.letter)
        number = data[at + 1 : at + LINE - len(self.end)]
        if at < 0 or not number.isdigit():
            raise Wrong(f"this was never said: {data[:100]!r}")
        start = int(number) * LINE - at
        if start < 0 or self.said(start, start + len(data)) != data:
            raise Wrong(f"this was never said: {data[:100]!r} ... {data[-100:]!r}")
        return start


class Said:
    """All that a container has said until now, as its follower was told; holds no bytes."""

    def __init__(self, manners: dict[str, Manner]) -> None:
        self._manners = manners
        self._streams = sorted(manners)
        self._starts = array("Q")  #: of runs of one stream
        self._places = array("Q")  #: where each begins in its stream
        self._which = bytearray()  #: the number of its stream
        self.sizes = dict.fromkeys(manners, 0)
        self.end = 0

    def add(self, output: say.Output) -> None:
        """Take the next piece from the follower. Raises Wrong."""
        size = self.sizes[output.stream]
        if output.offset != self.end:
            raise Wrong(f"the follower is at {self.end}, and is told {output.offset}")
        if self._manners[output.stream].said(size, size + len(output.data)) != output.data:
            raise Wrong(f"{output.stream} at {size}: {output.data[:100]!r} was never said")
        which = self._streams.index(output.stream)
        if not self._which or self._which[-1] != which:
            self._starts.append(output.offset)
            self._places.append(size)
            self._which.append(which)
        self.sizes[output.stream] += len(output.data)
        self.end += len(output.data)

    def check(self, output: say.Output) -> None:
        """Judge what somebody else was told, of what is before ``end``. Raises Wrong."""
        run = bisect.bisect_right(self._starts, output.offset) - 1
        stream = self._streams[self._which[run]]
        end = self._starts[run + 1] if run + 1 < len(self._starts) else self.end
        if stream != output.stream or output.offset + len(output.data) > end:
            raise Wrong(f"{output.stream} at {output.offset} was not said there, but {stream}")
        place = self._places[run] + output.offset - self._starts[run]
        if self._manners[stream].said(place, place + len(output.data)) != output.data:
            raise Wrong(
                f"{stream} at {output.offset}: {output.data[:100]!r} was not said there"
            )


class Story:
    """What one client is told, from one offset on: no hole, and nothing twice."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.bytes = self.missed = 0
        self.gaps: list[say.Gap] = []

    def take(self, event: Event) -> None:
        """Move on. Raises Wrong."""
        if not isinstance(event, say.Output | say.Gap):
            return
        start = event.start if isinstance(event, say.Gap) else event.offset
        if self.at not in (None, start):
            raise Wrong(
                f"a client is at {self.at}, and is told {start}: {type(event).__name__}"
            )
        if isinstance(event, say.Gap):
            self.at = event.end
            self.missed += event.end - event.start
            self.gaps.append(event)
        else:
            self.at = event.offset + len(event.data)
            self.bytes += len(event.data)
