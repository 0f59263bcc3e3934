"""``attach``: a container's terminal in ours, or its output on ours and our stdin on its.

In front of a person keys go to the program as bytes, and the detach keys leave. Elsewhere
ctrl-C leaves, unless ``--sig-proxy`` passes it on, and the end of our stdin (ctrl-D at a
terminal) closes the container's, but for ``/dev/null`` and a closed descriptor, which count as
``--no-stdin``. Exit codes: the container's own (128+n for a signal), 123 after leaving, 128+n
after leaving by SIGTERM or SIGHUP, 125 for a failure of ours.
"""

import argparse
import sys
from typing import NoReturn

from attachd.errors import UsageError
from attachd.state.keys import parse_keys
from attachd.wire.origin import parse_origin
from attachd_clients import choice
from attachd_clients.arguments import end, parser, warn_of_trouble
from attachd_clients.attaching import Wish, attach_as, has_terminal
from attachd_clients.configuration import DEFAULT_KEYS
from attachd_clients.places import Place


def main() -> NoReturn:
    """Run ``attach`` with the arguments of this process; never returns."""
    end("attach", lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Attach as ``words`` say; return the exit code."""
    said = _parse(words)
    _check(said)
    if said.id is None:
        said.id = choice.choose(said.root)
    place = Place.find(said.id, said.root)
    warn_of_trouble("attach", place)
    terminal = has_terminal(place, said.exec)
    if said.detach_keys is not None and not terminal:
        raise UsageError(f"--detach-keys: {place.id} has no terminal; ctrl-C leaves it")
    wish = Wish(
        place=place,
        terminal=terminal,
        since=said.since,
        read_only=said.read_only,
        no_stdin=said.no_stdin,
        keys=said.detach_keys,
        exclusive=said.exclusive,
        wait=said.wait,
        steal=said.steal,
        sig_proxy=said.sig_proxy,
        fd=said.fd,
        execution=said.exec,
    )
    return attach_as(wish)


def _parse(words: list[str]) -> argparse.Namespace:
    made = parser("attach", "See a container's output and type to it.")
    add = made.add_argument
    add("id", metavar="ID", nargs="?", help="without one, choose among those that run")
    add("--from", metavar="WHERE", dest="since",
        help="start, live, screen, tail:LINES or offset:BYTES"
        " (screen at a terminal, otherwise tail:10)")  # fmt: skip
    add("--exec", metavar="NAME", default="",
        help="to what 'attachctl exec' runs in the container under this name")  # fmt: skip
    add("--no-stdin", action="store_true", help="do not read our stdin")
    add("--read-only", action="store_true",
        help="only look: the server refuses anything else")  # fmt: skip
    add("--detach-keys", metavar="KEYS",
        help="what leaves a terminal, also ATTACHD_DETACH_KEYS and detach-keys in config.toml;"
        f" none: nothing does ({DEFAULT_KEYS})")  # fmt: skip
    add("--exclusive", action="store_true", help="be the only one who types, or fail")
    add("--wait", action="store_true", help="with --exclusive: look on until it is your turn")
    add("--steal", action="store_true", help="be the only one who types, whoever was before")
    add("--sig-proxy", action="store_true",
        help="without a terminal: pass signals on instead of leaving")  # fmt: skip
    add("--fd", type=int, help=argparse.SUPPRESS)
    return made.parse_args(words)


def _check(wish: argparse.Namespace) -> None:
    if wish.since is not None:
        parse_origin(wish.since)
    if wish.detach_keys is not None:
        parse_keys(wish.detach_keys)
    if wish.wait and not wish.exclusive:
        raise UsageError("--wait needs --exclusive")
    if wish.steal and wish.wait:
        raise UsageError("either --steal or --wait, not both")
    for option in ("exclusive", "steal", "sig_proxy"):
        if getattr(wish, option) and wish.read_only:
            raise UsageError(f"--{option.replace('_', '-')} is not for --read-only")
    if (wish.exclusive or wish.steal) and wish.no_stdin:
        raise UsageError("--exclusive and --steal are for typing, --no-stdin is not")


if __name__ == "__main__":
    main()
