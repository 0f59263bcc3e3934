"""``attachctl record``, ``play`` and ``snapshot``: what a terminal has shown, kept to be seen."""

import argparse
import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator

from attachd.errors import UsageError
from attachd.state.sizes import parse_size
from attachd.wire.origin import parse_origin
from attachd_clients.moments import parse_moment
from attachd_clients.pictures.drawing import FORMS, draw, form_of
from attachd_clients.pictures.taking import take_picture
from attachd_clients.places import Place
from attachd_clients.verbs import Add

_SECOND = 1_000_000_000

#: As a shell tells SIGINT.
_INTERRUPTED = 130

_ABOUT_RECORD = (
    "Record a container's output as asciicast v2, until it ends or ctrl-C: what comes from now"
    " on, of one that has ended everything. Ends with 0 when the file is whole, also after ctrl-C."
)
_ABOUT_PLAY = (
    "Play an asciicast, version 2 or 3, in this terminal. Ends with 130 after ctrl-C, and with"
    " 125 and one line when the file is cut short, after everything that is in it."
)
_ABOUT_SNAPSHOT = (
    "Draw a container's terminal as it looks now, or as its end has left it: as text, SVG or PNG."
    " Nobody at the terminal notices. A PNG needs attachd[pictures]."
)

_STDOUT = "-"
_EXEC = "not the container, but what 'attachctl exec' runs there"


def add(verb: Add) -> None:
    """Add these verbs."""
    record = verb("record", _record, "record a container's output, for asciinema's players")
    record.description = _ABOUT_RECORD
    option = record.add_argument
    option("id")
    option("-o", "--output", metavar="FILE", required=True, help="a new file, or - for stdout")
    option("--overwrite", action="store_true", help="also one that is there already")
    begin = record.add_mutually_exclusive_group()
    begin.add_argument("--from", metavar="WHERE", dest="origin",
        help="start, live, tail:LINES, offset:BYTES or time:NS")  # fmt: skip
    begin.add_argument("--since", metavar="T", help="from then on: a time, a date, or 10m")
    end = record.add_mutually_exclusive_group()
    end.add_argument("--until", metavar="T", help="up to then")
    end.add_argument("--for", metavar="SECONDS", type=_nanoseconds, dest="duration",
        default=math.inf, help="so long from its beginning")  # fmt: skip
    option("--size", metavar="COLSxROWS",
        help="of a container without a terminal (80x24)")  # fmt: skip
    option("--title", metavar="TEXT", help="for players (the container's id)")
    option("--input", action="store_true",
        help="also what is typed, passwords as well: it is not hidden")  # fmt: skip
    option("--exec", metavar="NAME", default="", help=_EXEC)
    play = verb("play", _play, "play a recording")
    play.description = _ABOUT_PLAY
    play.add_argument("-s", "--speed", metavar="FACTOR", type=_positive, default=1.0)
    play.add_argument("-i", "--idle-time-limit", metavar="SECONDS", type=_positive,
        dest="limit", help="cut pauses to this (what the file says)")  # fmt: skip
    play.add_argument("file", metavar="FILE", help="- is our stdin")
    snapshot = verb("snapshot", _snapshot, "take a picture of a container's terminal")
    snapshot.description = _ABOUT_SNAPSHOT
    snapshot.add_argument("id")
    snapshot.add_argument("-o", "--output", metavar="FILE", default=_STDOUT,
        help="a name that ends with .svg, .png or .txt (stdout)")  # fmt: skip
    snapshot.add_argument("--exec", metavar="NAME", default="", help=_EXEC)
    snapshot.add_argument("--format", choices=FORMS, help="whatever the file is called")
    snapshot.add_argument("--font", metavar="FILE",
        help="a monospaced font for a PNG (JetBrains Mono)")  # fmt: skip


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r:.80} is no positive number")
    return number


def _nanoseconds(text: str) -> int:
    """Return the nanoseconds in a number of seconds; whole ones, as times are."""
    return round(_positive(text) * _SECOND)


def _record(wish: argparse.Namespace) -> int:
    import trio  # not for snapshots: it is half of the time that they would take

    from attachd_clients.recording.job import Job, Plan

    place = Place.find(wish.id, wish.root)
    now = time.time_ns()
    plan = Plan(
        since=_since(wish, place, now),
        until=math.inf if wish.until is None else parse_moment(wish.until, now),
        duration=wish.duration,
        size=parse_size(wish.size) if wish.size else None,
        input=wish.input,
        execution=wish.exec,
        more={"title": place.id if wish.title is None else wish.title},
        path=wish.output,
        overwrite=wish.overwrite,
    )
    return _code(trio.run(Job(place, plan).run), interrupted=0)


def _since(wish: argparse.Namespace, place: Place, now: int) -> str:
    """Return where to begin: of a container that has ended there is nothing to come."""
    if wish.since is not None:
        return f"time:{parse_moment(wish.since, now)}"
    if wish.origin is None:
        return "live" if place.record(wish.exec) is None else "start"
    origin = parse_origin(wish.origin)
    if origin.kind == "none":
        raise UsageError("--from none: nothing is to be recorded")
    return "live" if origin.kind == "screen" else str(wish.origin)


def _code(number: int, *, interrupted: int) -> int:
    """Return the exit code after a signal, or none (0)."""
    if number == signal.SIGINT:
        return interrupted
    return 128 + number if number else 0


def _play(wish: argparse.Namespace) -> int:
    import trio

    from attachd_clients.recording.player import Player

    with _opened(wish.file) as (name, fd):
        player = Player(name, fd, wish.speed, wish.limit)
        return _code(trio.run(player.run), interrupted=_INTERRUPTED)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[tuple[str, int]]:
    """Yield the name and the descriptor of a file, or of our stdin; raises UsageError."""
    if path == "-":
        yield "stdin", 0
        return
    try:
        file = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    with file:
        yield path, file.fileno()


def _snapshot(wish: argparse.Namespace) -> int:
    form = wish.format or ("txt" if wish.output == _STDOUT else form_of(wish.output))
    if wish.font is not None and form != "png":
        raise UsageError("--font is for a PNG; an SVG is drawn in its viewer's")
    if form == "png" and wish.output == _STDOUT and sys.stdout.isatty():
        raise UsageError("a PNG is nothing for a terminal: name a file with -o")
    place = Place.find(wish.id, wish.root)
    data = draw(take_picture(place, wish.exec), form, place.id, wish.font)
    if wish.output == _STDOUT:
        sys.stdout.buffer.write(data)
        return 0
    try:
        with open(wish.output, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {wish.output}: {error.strerror}") from None
    return 0
