"""``attachctl logs``: a container's output, from its log and from its shim."""

import argparse
import sys
import typing
from collections.abc import Iterator

from attachd.wire import messages as say
from attachd_clients.blocking import attach_blocking
from attachd_clients.conversation import Ended, Event
from attachd_clients.history import read_log
from attachd_clients.places import Place
from attachd_clients.verbs import ANSWER_SECONDS, Add, control


def add(verb: Add) -> None:
    """Add this verb."""
    logs = verb("logs", _logs, "print a container's output since its beginning")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until its end")
    logs.add_argument("id")


def _logs(wish: argparse.Namespace) -> int:
    place = Place.find(wish.id, wish.root)
    for event in _output(place, wish.follow):
        if isinstance(event, say.Output):
            sink = sys.stderr if event.stream == "stderr" else sys.stdout
            sink.flush()
            sink.buffer.write(event.data)
            sink.buffer.flush()
        elif isinstance(event, say.Gap):
            missed = f"{event.end - event.start} bytes from offset {event.start}"
            print(f"attachctl: {missed} are no longer there", file=sys.stderr)
    return 0


def _output(place: Place, follow: bool) -> Iterator[Event]:
    """Yield what the log has, then what the shim has beyond it: nothing twice, nothing left out."""
    log = _log_counters(place)
    if log is None:
        yield from read_log(place)
        return
    starts = dict.fromkeys(("stdout", "stderr"), 0) | log["starts"]
    if log["size"]:
        yield from read_log(place, log["size"])
    since = f"offset:{min(starts.values())}"
    with attach_blocking(
        place.id, root=place.root, since=since, role="viewer", name="logs"
    ) as client:
        newest = client.welcome.newest if client.welcome else 0
        while follow or client.offset < newest:
            event = client.receive()
            if event is None:
                return
            yield _after(event, starts)


class _LogCounters(typing.TypedDict):
    """What ``status`` tells of a log, as far as it matters here."""

    size: int
    starts: dict[str, int]


def _log_counters(place: Place) -> _LogCounters | None:
    """Return where the first log is in one consistent answer; None when the shim is gone."""
    try:
        with control(place, "viewer") as client:
            if client.welcome is None:
                return None
            logs = client.status(ANSWER_SECONDS)["logs"]
    except Ended as error:
        if error.code != "unreachable":
            raise
        return None
    return logs[0] if isinstance(logs, list) and logs else {"size": 0, "starts": {}}


def _after(event: Event, starts: dict[str, int]) -> Event:
    """Cut from an output what the log already had of its stream."""
    if not isinstance(event, say.Output):
        return event
    skip = max(0, starts[event.stream] - event.offset)
    return say.Output(
        offset=event.offset, stream=event.stream, time=event.time, data=event.data[skip:]
    )
