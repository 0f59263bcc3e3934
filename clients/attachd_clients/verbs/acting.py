"""``attachctl wait``, ``start``, ``kill``, ``resize``, ``rm``: what is done to a container."""

import argparse

from attachd.errors import Refused, UsageError
from attachd.state.sizes import parse_size
from attachd.wire import messages as say
from attachd_clients.conversation import Ended
from attachd_clients.outcome import shell_code
from attachd_clients.places import Place
from attachd_clients.removal import remove
from attachd_clients.signals import signal_number
from attachd_clients.verbs import ANSWER_SECONDS, Add, control


def add(verb: Add) -> None:
    """Add these verbs."""
    wait = verb("wait", _wait, "wait for containers to end; print each one's code")
    wait.add_argument("ids", nargs="+", metavar="id")
    kill = verb("kill", _kill, "send a signal to containers")
    kill.add_argument("-s", "--signal", default="KILL", help="name or number (%(default)s)")
    kill.add_argument("ids", nargs="+", metavar="id")
    verb("start", _start, "start a created container").add_argument("id")
    resize = verb("resize", _resize, "set the size of a container's terminal")
    resize.add_argument("id")
    resize.add_argument("size", metavar="COLSxROWS")
    for made in (wait, kill, resize):
        made.add_argument("--exec", metavar="NAME", default="",
            help="not the container, but what 'attachctl exec' runs there")  # fmt: skip
    for name, act, about in (
        ("rotate", _rotate, "begin a new file of each log"),
        ("reopen", _reopen, "have logs go on in the files that have their names now"),
    ):
        verb(name, act, about).add_argument("ids", nargs="+", metavar="id")
    rm = verb("rm", _rm, "remove ended containers, their records and their logs")
    rm.add_argument("-f", "--force", action="store_true", help="kill what runs")
    rm.add_argument("ids", nargs="+", metavar="id")


def _wait(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        place = Place.find(container, wish.root)
        with control(place, "viewer", wish.exec) as client:
            records = [event.record for event in client if isinstance(event, say.Exit)]
        if not records:
            raise UsageError(f"{container} has ended without a record")
        print(shell_code(records[0]))
    return 0


def _kill(wish: argparse.Namespace) -> int:
    number = signal_number(wish.signal)
    for container in wish.ids:
        with control(Place.find(container, wish.root), execution=wish.exec) as client:
            client.signal(number, ANSWER_SECONDS)
    return 0


def _start(wish: argparse.Namespace) -> int:
    with control(Place.find(wish.id, wish.root)) as client:
        try:
            client.start(ANSWER_SECONDS * 2)
        except Refused as error:
            raise UsageError(str(error)) from None
    return 0


def _resize(wish: argparse.Namespace) -> int:
    size = parse_size(wish.size)
    with control(Place.find(wish.id, wish.root), execution=wish.exec) as client:
        try:
            client.resize(size, ANSWER_SECONDS)
        except Refused as error:
            raise UsageError(f"{wish.id}: {error}") from None
    return 0


def _rotate(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        with control(Place.find(container, wish.root)) as client:
            client.rotate(ANSWER_SECONDS)
    return 0


def _reopen(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        with control(Place.find(container, wish.root)) as client:
            client.reopen(ANSWER_SECONDS)
    return 0


def _rm(wish: argparse.Namespace) -> int:
    for container in wish.ids:
        place = Place.find(container, wish.root)
        try:
            remove(place, force=wish.force)
        except Ended as error:
            raise UsageError(str(error)) from None
    return 0
