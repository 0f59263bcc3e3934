"""asciicast files, read line by line: version 2, and 3, which counts time from event to event.

Pure: lines in, events out. Source: https://docs.asciinema.org/manual/asciicast/v2/ and v3/.
"""

import json
import math
from typing import NamedTuple, TypeGuard

import attrs

from attachd.errors import UsageError

#: The longest line that is taken: our own are below 400 kB, 64 KiB of output at six characters
#: for each byte.
MAX_LINE = 16 << 20

#: No recording is longer, in seconds: 30 years.
_MAX_TIME = 1e9


class Happening(NamedTuple):
    """One event: ``time`` is seconds since the beginning, ``code`` as `attachd.state.asciicast`."""

    time: float
    code: str
    data: str


@attrs.define(eq=False)
class Cast:
    """A recording whose header was read, and whose lines come one by one."""

    _name: str  #: for people
    _is_relative: bool  #: times count from the event before
    idle_limit: float | None  #: seconds: no pause is to be longer
    _now: float = 0.0
    _number: int = 1  #: of the last line

    @classmethod
    def begin(cls, name: str, first: bytes) -> "Cast":
        """Take the first line; raises UsageError when it is no header, or of another version."""
        header = _parsed(first)
        if not isinstance(header, dict) or "version" not in header:
            raise UsageError(f"{name} is no asciicast: its first line is no header")
        version = header["version"]
        if version not in (2, 3):
            raise UsageError(f"{name} is asciicast {version!r:.20}: only 2 and 3 are known")
        limit = header.get("idle_time_limit")
        return cls(name, version == 3, limit if _is_time(limit) else None)

    def take(self, line: bytes) -> Happening | None:
        """Return a line's event, None for a comment or a blank one; raises UsageError.

        A line has its newline, but for a last one that was cut.
        """
        self._number += 1
        if line.isspace() or (self._is_relative and line.startswith(b"#")):
            return None
        found = _happening(_parsed(line))
        if found is None:
            raise UsageError(self._complaint(line))
        self._now = self._now + found.time if self._is_relative else found.time
        return found._replace(time=self._now)

    def _complaint(self, line: bytes) -> str:
        if not line.endswith(b"\n") and len(line) < MAX_LINE:
            return (
                f"{self._name} is cut short: line {self._number}, its last one, is not whole"
            )
        return f"{self._name} is damaged: line {self._number} is no event"


def _parsed(line: bytes) -> object:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value


def _happening(value: object) -> Happening | None:
    if not isinstance(value, list) or len(value) != 3:
        return None
    time, code, data = value
    if not (_is_time(time) and isinstance(code, str) and isinstance(data, str)):
        return None
    return Happening(float(time), code, data)


def _is_time(value: object) -> TypeGuard[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= _MAX_TIME


@attrs.define(eq=False)
class Pace:
    """When events are to be shown: pauses are cut to ``limit`` seconds, then all is sped up.

    In this order, as asciinema has it.
    """

    speed: float = 1.0
    limit: float = math.inf
    _last: float = 0.0
    _due: float = 0.0

    def due(self, time: float) -> float:
        """Return after how many seconds an event of this time is to be shown."""
        self._due += min(max(0.0, time - self._last), self.limit) / self.speed
        self._last = max(self._last, time)
        return self._due
