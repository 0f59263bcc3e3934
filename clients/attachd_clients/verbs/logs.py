"""``attachctl logs``: what containers have said, and what they say, wherever it is kept."""

import argparse
import contextlib
import heapq
import math
import operator
import time
from collections.abc import Iterator

import attrs
import trio

from attachd.errors import AttachdError
from attachd.wire import messages as say
from attachd_clients.aio import unwrapped
from attachd_clients.arguments import FAILED
from attachd_clients.clock import wait_until
from attachd_clients.following import follow, follow_blocking
from attachd_clients.lines import STREAMS, Line, Position
from attachd_clients.moments import parse_moment
from attachd_clients.places import Place
from attachd_clients.printer import Printer
from attachd_clients.trail import Record
from attachd_clients.verbs import Add

#: As a shell tells SIGINT.
_INTERRUPTED = 130


def add(verb: Add) -> None:
    """Add this verb."""
    logs = verb("logs", _logs, "print what containers have said since their beginning")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until their end")
    begin = logs.add_mutually_exclusive_group()
    begin.add_argument("--since", metavar="T", help="from then on: a time, a date, or 10m")
    begin.add_argument("--tail", type=_count, metavar="N", help="the last N lines")
    begin.add_argument(
        "--from", type=_count, metavar="OFFSET", dest="offset", help="from this byte on"
    )
    logs.add_argument("--until", metavar="T", help="up to then")
    logs.add_argument("--stream", choices=STREAMS, help="this one alone")
    logs.add_argument("-t", "--timestamps", action="store_true", help="before each line")
    logs.add_argument("--json", action="store_true", help="one object a line")
    logs.add_argument("--prefix", action=argparse.BooleanOptionalAction,
        help="the id before each line (when there are several)")  # fmt: skip
    logs.add_argument("ids", nargs="+", metavar="id")


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no count")
    return int(text)


def _logs(wish: argparse.Namespace) -> int:
    ids = list(dict.fromkeys(wish.ids))
    several = len(ids) > 1
    prefix = several if wish.prefix is None else wish.prefix
    printer = Printer(ids if prefix else [], json=wish.json, timestamps=wish.timestamps)
    query = _Query.of(wish, lines=several or wish.json or wish.timestamps or prefix)
    places = [Place.find(container, wish.root) for container in ids]
    try:
        if wish.follow and (several or query.until < math.inf):
            return trio.run(_follow_all, query, places, printer)
        for place, records in _merged([query.read(place) for place in places]):
            printer.tell(place.id, records)
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


Batch = tuple[Place, list[Record]]


@attrs.frozen
class _Query:
    """Which of a container's records are wanted."""

    since: str
    until: float  #: no record of a later time, nanoseconds since the epoch
    streams: tuple[str, ...]
    lines: bool
    live: bool

    @classmethod
    def of(cls, wish: argparse.Namespace, *, lines: bool) -> "_Query":
        """Return what the words mean. Raises UsageError."""
        now = time.time_ns()
        since = "start"
        if wish.since is not None:
            since = f"time:{parse_moment(wish.since, now)}"
        elif wish.tail is not None:
            since = f"tail:{wish.tail}"
        elif wish.offset is not None:
            since = f"offset:{wish.offset}"
        until = math.inf if wish.until is None else parse_moment(wish.until, now)
        streams = (wish.stream,) if wish.stream else STREAMS
        return cls(since, until, streams, lines, wish.follow)

    def read(self, place: Place) -> Iterator[Batch]:
        """Yield a container's records as they come, until its end or ``until``."""
        follower = follow_blocking(
            place.id,
            root=place.root,
            from_=self.since,
            streams=self.streams,
            lines=self.lines,
            live=self.live,
            name="logs",
        )
        for records in follower.batches():
            early = self.early(records)
            yield place, early
            if len(early) < len(records):
                return

    def early(self, records: list[Record]) -> list[Record]:
        """Return the records before the first that is too late."""
        for number, record in enumerate(records):
            if _time(record) > self.until:
                return records[:number]
        return records


def _time(record: Record) -> int:
    return record.time if isinstance(record, Line | say.Output) else 0


def _merged(sources: list[Iterator[Batch]]) -> Iterator[Batch]:
    """Merge what several containers have said by its time; one alone passes as it comes."""
    if len(sources) == 1:
        yield from sources[0]
        return
    timed = (_timed(source) for source in sources)
    for _, place, record in heapq.merge(*timed, key=operator.itemgetter(0)):
        yield place, [record]


def _timed(source: Iterator[Batch]) -> Iterator[tuple[int, Place, Record]]:
    """Yield each record with its time; what has none happened when the one before it did."""
    last = 0
    for place, records in source:
        for record in records:
            last = max(last, _time(record))
            yield last, place, record


async def _follow_all(query: _Query, places: list[Place], printer: Printer) -> int:
    """Print from all containers as it comes; return the exit code when all have ended."""
    failed: list[str] = []
    with _one_error():
        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(_follow, query, place, printer, failed)
    return FAILED if failed else 0


@contextlib.contextmanager
def _one_error() -> Iterator[None]:
    """When several could not print, which they notice at once, one says so."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


async def _follow(query: _Query, place: Place, printer: Printer, failed: list[str]) -> None:
    """Print a container's records. Ends with it; what is wrong with it stops no other.

    When the time is over, what was said before, and is not read yet, is still printed.
    """
    told = _Told(query.since)
    try:
        async with unwrapped(), trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_at, query.until, nursery.cancel_scope)
            await _print(query, place, printer, told, live=True)
            told.all = True
            nursery.cancel_scope.cancel()
        if not told.all:
            await _print(query, place, printer, told, live=False)
    except AttachdError as error:
        printer.warn(place.id, str(error))
        failed.append(place.id)


async def _cancel_at(moment: float, scope: trio.CancelScope) -> None:
    await wait_until(moment)
    scope.cancel()


@attrs.define
class _Told:
    """Up to where a container's records were printed."""

    since: str | Position
    all: bool = False


async def _print(
    query: _Query, place: Place, printer: Printer, told: _Told, *, live: bool
) -> None:
    """Print what was not told yet. On cancel: ``told`` is what was printed."""
    async with follow(
        place.id,
        root=place.root,
        from_=told.since,
        streams=query.streams,
        lines=query.lines,
        live=live,
        name="logs",
    ) as follower:
        while records := await follower.batch():
            early = query.early(records)
            printer.tell(place.id, early)
            told.since = follower.position
            if len(early) < len(records):
                return
