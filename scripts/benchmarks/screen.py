"""Screen: from coming back to a container with a terminal to the bytes that paint its screen.

The container has written more than a screen is rebuilt from. "Server and wire" is from the
hello to the last replayed byte; "client" is the library's `Rebuild`, fed all that and made to
paint. ``attach`` does both at once and so is quicker than the sum.

Beside it the other way: a change of the terminal's size makes a full-screen program draw anew,
here busybox's vi. From the request to the last byte of what it draws; a client that has missed
something has to change the size back, too, which costs that time again and a pause.
"""

import contextlib
import itertools
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from attachd_clients import BlockingClient, attach_blocking
from attachd_clients.rebuild import Rebuild

from attachd.state.sizes import Size
from attachd.wire import messages as say
from benchmarks.place import STEP_SECONDS, WATCHES, Failed, Place, attachd

HEADER = ("coming back to a screen", "server and wire", "client", "together")

SIZE = Size(120, 40)

#: How much a container has written; a screen is rebuilt from its last 256 KiB.
WRITTEN_BYTES = 320 * 1024

#: What stands on the screen in the end.
MARK = "this is the end"

ROUNDS = 3

#: A program that has drawn nothing for so long is done.
QUIET_SECONDS = 0.3

WORDS = [
    "root",
    "kworker",
    "sleeping",
    "S",
    "R",
    "0.0",
    "12.7",
    "systemd",
    "python3",
    "/usr/bin/vi",
    "INFO",
    "items",
    "4096",
]


class Taken(NamedTuple):
    """Seconds of one coming back."""

    server: float
    client: float


def rows(place: Place, _quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row for each kind of output, and one for vi."""
    for name, text in (("plain lines", plain_lines()), ("full-screen drawing", drawing())):
        best = min(coming_back(place, text), key=sum)
        yield (
            f"{name}, {len(text) >> 10} KiB at {SIZE}, best of {ROUNDS}",
            f"{best.server * 1e3:.1f} ms",
            f"{best.client * 1e3:.1f} ms",
            f"{sum(best) * 1e3:.1f} ms",
        )
    seconds, size = min(redraws(place))
    yield (
        f"vi draws anew for a change of size, {size} bytes, best of {ROUNDS}",
        "-",
        "-",
        f"{seconds * 1e3:.1f} ms",
    )


# What is written


def plain_lines() -> str:
    """Return lines of words, as a shell's commands and logs write them."""
    line = "2026-01-01 12:00:00 INFO handled: method=GET path=/api/v1/items/%07d status=200\n"
    numbers = range(WRITTEN_BYTES // len(line % 0))
    return "".join(line % number for number in numbers) + MARK


def drawing() -> str:
    """Return what top and vi write: all rows anew, then a few words here and there."""
    dice = random.Random(1)
    parts, size = ["\x1b[?1049h\x1b[H\x1b[2J"], 0
    while size < WRITTEN_BYTES:
        frame = _table(dice) + "".join(_edit(dice) for _ in range(100))
        parts.append(frame)
        size += len(frame)
    return "".join(parts) + f"\x1b[{SIZE.rows};1H\x1b[0m\x1b[K{MARK}"


def _table(dice: random.Random) -> str:
    rows = [
        f"\x1b[{row};1H\x1b[{30 + row % 8}m{row:5}\x1b[39m {_words(dice, 9)}\x1b[K"
        for row in range(2, SIZE.rows + 1)
    ]
    return f"\x1b[H\x1b[1;7m{_words(dice, 12)}\x1b[K\x1b[0m" + "".join(rows)


def _edit(dice: random.Random) -> str:
    place = f"\x1b[{dice.randint(1, SIZE.rows)};{dice.randint(1, SIZE.columns - 30)}H"
    return f"{place}\x1b[38;5;{dice.randrange(256)}m{_words(dice, 2)}\x1b[m"


def _words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(WORDS, k=count))


# The measurements


def coming_back(place: Place, text: str) -> list[Taken]:
    """Return the seconds of each round; raises Failed when what is painted is not it."""

    def fill(bundle: Path) -> None:
        (bundle / "rootfs" / "text").write_text(text)

    with _container(place, fill, "sh", "-c", "cat /text && exec sleep 1000") as attach:
        _wait_written(attach)
        return [_come_back(attach) for _ in range(ROUNDS)]


def redraws(place: Place) -> list[tuple[float, int]]:
    """Return seconds and bytes of each redraw that vi makes when it is resized."""

    def fill(bundle: Path) -> None:
        (bundle / "rootfs" / "text").write_text(plain_lines())

    with _container(place, fill, "vi", "/text") as attach:
        with attach("start") as client:
            _read_until_quiet(client)  # vi has come up
            sizes = itertools.cycle([SIZE._replace(rows=SIZE.rows - 1), SIZE])
            return [_redraw(client, next(sizes)) for _ in range(ROUNDS)]


def _come_back(attach: "Attach") -> Taken:
    begun = time.perf_counter()
    with attach("screen") as client:
        welcome = client.welcome
        assert welcome is not None
        pieces = list(_output_until(client, welcome.newest))
        replayed = time.perf_counter()
        size = Size(welcome.columns, welcome.rows)
        rebuild = Rebuild(welcome.offset, welcome.newest, size, welcome.modes)
        for piece in pieces:
            rebuild.feed(piece)
        painted = rebuild.paint(size)
        done = time.perf_counter()
    if MARK.encode() not in painted:
        raise Failed(f"the painted screen does not say {MARK!r}")
    return Taken(replayed - begun, done - replayed)


def _redraw(client: BlockingClient, size: Size) -> tuple[float, int]:
    begun = time.perf_counter()
    client.resize(size, STEP_SECONDS)
    last, count = _read_until_quiet(client)
    if not count:
        raise Failed("vi did not draw anew")
    return last - begun, count


def _wait_written(attach: "Attach") -> None:
    """Return when the container has written everything."""
    with attach("start") as client:
        tail = b""
        while not tail.endswith(MARK.encode()):
            tail = (tail + _next_output(client, STEP_SECONDS))[-len(MARK) :]


def _output_until(client: BlockingClient, end: int) -> Iterator[bytes]:
    while client.offset < end:
        yield _next_output(client, STEP_SECONDS)


def _read_until_quiet(client: BlockingClient) -> tuple[float, int]:
    """Return when the last output came, and how many bytes came in all."""
    last, count = 0.0, 0
    with contextlib.suppress(TimeoutError):
        while True:
            count += len(_next_output(client, STEP_SECONDS if not count else QUIET_SECONDS))
            last = time.perf_counter()
    return last, count


def _next_output(client: BlockingClient, timeout: float) -> bytes:
    while event := client.receive(timeout):
        if isinstance(event, say.Output):
            return event.data
    raise Failed("the container has ended")


Attach = Callable[[str], contextlib.AbstractContextManager[BlockingClient]]


@contextlib.contextmanager
def _container(place: Place, fill: Callable[[Path], None], *command: str) -> Iterator[Attach]:
    """A container with a terminal under attachd; gives what attaches to it."""
    container = place.name()
    bundle = place.bundle(f"screen-{container}", *command, terminal=True)
    fill(bundle)
    log = place.logs / f"{container}.log"
    end = attachd(place, container, bundle, log, "--stdin", "--size", str(SIZE))
    WATCHES["attachd"](place, container)
    yield lambda since: attach_blocking(container, root=str(end.parent.parent), since=since)
    place.delete(container)
