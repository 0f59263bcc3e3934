"""``attachctl exec``: another program in a container, attached to or left to itself.

Exit codes: the program's own (128+n for a signal), 126 and 127 when it could not be executed
or is not there, 123 after leaving it by the detach keys, 125 for a failure of ours.
"""

import argparse
import os
import sys

from attachd.errors import UsageError
from attachd.state.faults import SHELL_CODES
from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd_clients.arguments import warn_of_trouble
from attachd_clients.attaching import Wish, attach_as
from attachd_clients.blocking import attach_blocking
from attachd_clients.conversation import Ended
from attachd_clients.places import Place
from attachd_clients.verbs import Add

#: Longer than anybody waits, in seconds: output that we do not take must not get lost.
FOR_EVER = 1_000_000_000


def add(verb: Add) -> None:
    """Add this verb."""
    made = verb("exec", _exec, "run another program in a container")
    add = made.add_argument
    add("-i", "--stdin", action="store_true", help="give it our stdin")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-d", "--detach", action="store_true", help="let it run, and print its name")
    add("-e", "--env", metavar="K[=V]", action="append", default=[],
        help="a variable, without =V as we have it")  # fmt: skip
    add("-w", "--workdir", metavar="DIR", default="", help="its directory")
    add("-u", "--user", metavar="USER[:GROUP]", default="",
        help="who it runs as, by the container's own names, or numbers")  # fmt: skip
    add("--name", metavar="NAME", default="", help="for attach --exec (a number)")
    add("--stdin-eof", metavar="WHO", help="who may close its stdin: any, once, owner, never"
        " (once with -i alone: it ends with us; else any)")  # fmt: skip
    add("--detach-keys", metavar="KEYS", help="what leaves its terminal, as for attach")
    add("id")
    add("command", nargs=argparse.REMAINDER, metavar="-- CMD")


def _exec(wish: argparse.Namespace) -> int:
    command = wish.command[1:] if wish.command[:1] == ["--"] else wish.command
    if not command:
        raise UsageError("nothing to execute: give a command after the id")
    if wish.detach_keys is not None and (wish.detach or not wish.tty):
        raise UsageError("--detach-keys leave a terminal: add -t")
    place = Place.find(wish.id, wish.root)
    warn_of_trouble("attachctl", place)
    spec = _spec(wish, command)
    try:
        return _leave_running(wish, place, spec) if wish.detach else _watch(wish, place, spec)
    except Ended as error:
        if error.code not in SHELL_CODES:
            raise
        print(f"attachctl: {' '.join(str(error).split())}", file=sys.stderr)
        return SHELL_CODES[error.code]


def _spec(wish: argparse.Namespace, command: list[str]) -> dict[str, object]:
    """Return the map that the server gets; what is wrong in it, the server tells."""
    once = wish.stdin and not wish.tty and not wish.detach
    spec: dict[str, object] = {
        "argv": [_sendable(word) for word in command],
        "env": [_sendable(entry) for word in wish.env for entry in _variable(word)],
        "cwd": _sendable(wish.workdir),
        "user": _sendable(wish.user),
        "terminal": wish.tty,
        "stdin": wish.stdin,
        "stdin_eof": wish.stdin_eof or ("once" if once else "any"),
        "allow_block": 0 if wish.tty or wish.detach else FOR_EVER,
    }
    size = _own_size() if wish.tty and not wish.detach else None
    return spec | ({"columns": size.columns, "rows": size.rows} if size else {})


def _variable(word: str) -> list[str]:
    """Return NAME=VALUE; of a name alone our own value, nothing when we have none."""
    if "=" in word:
        return [word]
    return [f"{word}={os.environ[word]}"] if word in os.environ else []


def _sendable(word: str) -> str:
    """Raise UsageError for what is not UTF-8: OCI configurations are JSON."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{os.fsencode(word)!r:.80} is not UTF-8, which JSON needs") from None
    return word


def _own_size() -> Size | None:
    for fd in (1, 0, 2):
        try:
            size = Size(*os.get_terminal_size(fd))
        except OSError:
            continue
        return size if size.usable else None
    return None


def _leave_running(wish: argparse.Namespace, place: Place, spec: say.Record) -> int:
    with attach_blocking(
        place.id, root=place.root, since="none", name="attachctl", exec=wish.name, spec=spec
    ) as client:
        assert client.welcome is not None, "an exec that was made has welcomed us"
        print(client.welcome.exec)
    return 0


def _watch(wish: argparse.Namespace, place: Place, spec: say.Record) -> int:
    return attach_as(
        Wish(
            place=place,
            terminal=wish.tty,
            since="start",
            no_stdin=not wish.stdin,
            keys=wish.detach_keys,
            sig_proxy=not wish.tty,
            execution=wish.name,
            spec=spec,
            waits=not wish.tty,
        )
    )
