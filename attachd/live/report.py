"""What ``status`` is told: as much as fits into one message, however many clients there are."""

import heapq
from collections.abc import Callable, Iterable
from typing import Protocol

from attachd.errors import LocalProtocolError
from attachd.wire import messages as say
from attachd.wire.frames import encode_frame

#: Of each program so many clients are told, and of them all their number. Some 20 kB: what a
#: client does not read of it is kept, once for each.
MAX_TOLD = 64

#: Tried one after another until the report of very many execs fits, too.
_FEWER = (MAX_TOLD, 8, 1, 0)

#: The last resort: so many execs, without their clients.
_FEW_EXECS = 200


class Counted(Protocol):
    """What is asked of a connection."""

    @property
    def number(self) -> int:
        """Which client it is, in the order of their coming."""

    @property
    def counters(self) -> dict[str, object]:
        """What is told of it."""


def report_on_clients(clients: Iterable[Counted], most: int) -> list[dict[str, object]]:
    """Return the counters of those that have been there for longest: a flood comes later."""
    oldest = heapq.nsmallest(most, clients, key=lambda client: client.number)
    return [client.counters for client in oldest]


def report_that_fits(number: int, make: Callable[[int], dict[str, object]]) -> say.Report:
    """Return the answer to request ``number``; ``make`` is told how many clients to tell."""
    report: dict[str, object] = {}
    for most in _FEWER:
        report = make(most)
        if _fits(answer := say.Report(id=number, report=report)):
            return answer
    execs = report.get("execs")
    few = execs[:_FEW_EXECS] if isinstance(execs, list) else []
    return say.Report(id=number, report=report | {"execs": few})


def _fits(answer: say.Report) -> bool:
    try:
        return bool(encode_frame(say.encode(answer)))
    except LocalProtocolError:
        return False
