"""``attachctl``: list, inspect, follow, signal and remove containers under a state root."""

import argparse
import contextlib
import json
import os
import signal
import sys
import typing
from collections.abc import Callable, Iterator
from typing import NoReturn

from attachd.errors import AttachdError, Refused, UsageError
from attachd.state.sizes import parse_size
from attachd.wire import messages as say
from attachd_clients import listing
from attachd_clients.arguments import end, parser
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.conversation import Ended, Event
from attachd_clients.history import read_log
from attachd_clients.outcome import shell_code
from attachd_clients.places import Place
from attachd_clients.removal import remove

#: A request is answered at once, or something is wrong with the shim.
ANSWER_SECONDS = 30.0


def main() -> NoReturn:
    """Run ``attachctl`` with the arguments of this process; never returns."""
    end("attachctl", lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Do what ``words`` say; return the exit code."""
    wish = _parse(words)
    act: Callable[[argparse.Namespace], int] = wish.act
    return act(wish)


def _parse(words: list[str]) -> argparse.Namespace:
    top = parser("attachctl", "Look after containers that run under attachd.")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(
        name: str, act: Callable[[argparse.Namespace], int], about: str
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=about, description=about, allow_abbrev=False)
        made.set_defaults(act=act)
        return made

    verb("ls", _ls, "list containers").add_argument("--json", action="store_true")
    verb("inspect", _inspect, "print all that is known, as JSON").add_argument("id")
    logs = verb("logs", _logs, "print a container's output since its beginning")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until its end")
    logs.add_argument("id")
    verb("wait", _wait, "wait for containers to end; print each one's code").add_argument(
        "ids", nargs="+", metavar="id"
    )
    kill = verb("kill", _kill, "send a signal to containers")
    kill.add_argument("-s", "--signal", default="KILL", help="name or number (%(default)s)")
    kill.add_argument("ids", nargs="+", metavar="id")
    verb("start", _start, "start a created container").add_argument("id")
    resize = verb("resize", _resize, "set the size of a container's terminal")
    resize.add_argument("id")
    resize.add_argument("size", metavar="COLSxROWS")
    rm = verb("rm", _rm, "remove ended containers, their records and their logs")
    rm.add_argument("-f", "--force", action="store_true", help="kill what runs")
    rm.add_argument("ids", nargs="+", metavar="id")
    verb("stats", _stats, "print a running shim's counters and clients, as JSON").add_argument(
        "id"
    )
    return top.parse_args(words)


# Looking


def _ls(wish: argparse.Namespace) -> int:
    rows = listing.rows(wish.root)
    print(json.dumps(rows, indent=2) if wish.json else "\n".join(listing.table(rows)))
    return 0


def _inspect(wish: argparse.Namespace) -> int:
    place = Place.find(wish.id, wish.root)
    found: dict[str, object] = {"state": place.state(), "exit": place.exit_record()}
    with contextlib.suppress(AttachdError, TimeoutError):
        with _control(place) as client:
            found["shim"] = client.status(ANSWER_SECONDS)
    print(json.dumps(found, indent=2))
    return 0


def _stats(wish: argparse.Namespace) -> int:
    with _control(Place.find(wish.id, wish.root)) as client:
        print(json.dumps(client.status(ANSWER_SECONDS), indent=2))
    return 0


# Output


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
        with _control(place, "viewer") as client:
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


# Acting


def _control(
    place: Place, role: str = "full"
) -> contextlib.AbstractContextManager[BlockingClient]:
    return attach_blocking(
        place.id, root=place.root, since="none", role=role, name="attachctl"
    )


def _wait(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        place = Place.find(container, wish.root)
        with _control(place, "viewer") as client:
            records = [event.record for event in client if isinstance(event, say.Exit)]
        if not records:
            raise UsageError(f"{container} has ended without a record")
        print(shell_code(records[0]))
    return 0


def _kill(wish: argparse.Namespace) -> int:
    number = _signal_number(wish.signal)
    for container in wish.ids:
        with _control(Place.find(container, wish.root)) as client:
            client.signal(number, ANSWER_SECONDS)
    return 0


def _signal_number(text: str) -> int:
    """Return the number of ``KILL``, ``sigkill`` or ``9``; raises UsageError."""
    name = text.upper()
    if name.isascii() and name.isdigit() and int(name) in signal.valid_signals():
        return int(name)
    found = signal.__dict__.get(name if name.startswith("SIG") else f"SIG{name}")
    if isinstance(found, signal.Signals):
        return found.value
    raise UsageError(f"no signal {text!r:.80}: see kill -l")


def _start(wish: argparse.Namespace) -> int:
    with _control(Place.find(wish.id, wish.root)) as client:
        try:
            client.start(ANSWER_SECONDS * 2)
        except Refused as error:
            raise UsageError(str(error)) from None
    return 0


def _resize(wish: argparse.Namespace) -> int:
    size = parse_size(wish.size)
    with _control(Place.find(wish.id, wish.root)) as client:
        try:
            client.resize(size, ANSWER_SECONDS)
        except Refused as error:
            raise UsageError(f"{wish.id}: {error}") from None
    return 0


def _rm(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        place = Place.find(container, wish.root)
        try:
            remove(place, force=wish.force)
        except Ended as error:
            raise UsageError(str(error)) from None
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
