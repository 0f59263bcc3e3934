"""``attach``: a container's terminal in ours, or its output on ours and our stdin on its.

In front of a person keys go to the program as bytes, and the detach keys leave. Elsewhere
ctrl-C leaves, unless ``--sig-proxy`` passes it on, and the end of our stdin (ctrl-D at a
terminal) closes the container's, but for ``/dev/null`` and a closed descriptor, which count as
``--no-stdin``. Exit codes: the container's own (128+n for a signal), 123 after leaving, 128+n
after leaving by SIGTERM or SIGHUP, 125 for a failure of ours.
"""

import argparse
import contextlib
import os
import shlex
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

import trio

from attachd.errors import UsageError
from attachd.ground import state_root
from attachd.state.keys import DetachKeys, parse_keys
from attachd.state.modes import Modes
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire.origin import parse_origin
from attachd_clients import choice, interactive, plain
from attachd_clients.aio import Client, attach
from attachd_clients.arguments import end, parser
from attachd_clients.configuration import DEFAULT_KEYS, detach_keys
from attachd_clients.outcome import sentence, shell_code
from attachd_clients.places import Place
from attachd_clients.terminal import Terminal, is_terminal
from attachd_clients.words import remark

if TYPE_CHECKING:
    from attachd_clients.rebuild import Rebuild

#: We have left, the container goes on. Not used by shells, docker or timeout(1).
LEFT = 123


def main() -> NoReturn:
    """Run ``attach`` with the arguments of this process; never returns."""
    end("attach", lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Attach as ``words`` say; return the exit code."""
    wish = _parse(words)
    _check(wish)
    if wish.id is None:
        wish.id = choice.choose(wish.root)
    place = Place.find(wish.id, wish.root)
    wish.terminal = _has_terminal(place)
    if wish.detach_keys is not None and not wish.terminal:
        raise UsageError(f"--detach-keys: {place.id} has no terminal; ctrl-C leaves it")
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if wish.terminal and is_terminal():
        return trio.run(_attach_person, wish, place, _keys(wish))
    return trio.run(_attach_plain, wish, place)


def _parse(words: list[str]) -> argparse.Namespace:
    made = parser("attach", "See a container's output and type to it.")
    add = made.add_argument
    add("id", metavar="ID", nargs="?", help="without one, choose among those that run")
    add("--from", metavar="WHERE", dest="since",
        help="start, live, screen, tail:LINES or offset:BYTES"
        " (screen at a terminal, otherwise tail:10)")  # fmt: skip
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


def _has_terminal(place: Place) -> bool:
    config = place.state().get("config")
    return isinstance(config, dict) and config.get("terminal") is True


def _keys(wish: argparse.Namespace) -> bytes:
    """Return the detach keys; after ``attachd run`` a broken default is no reason to fail."""
    if wish.sig_proxy:
        raise UsageError(
            "--sig-proxy is not for a terminal: there ctrl-C is a key like others"
        )
    try:
        return detach_keys(wish.detach_keys)
    except UsageError as error:
        if wish.fd is None:
            raise
        remark(f"{error}; {DEFAULT_KEYS} leaves")
        return parse_keys(DEFAULT_KEYS)


# With a person


async def _attach_person(wish: argparse.Namespace, place: Place, keys: bytes) -> int:
    since = wish.since or "screen"
    terminal = Terminal()
    counts = not wish.read_only
    size = terminal.size if counts else NO_SIZE
    async with _client(wish, since, size) as client:
        await _lease(wish, client)
        open_stdin = client.welcome is not None and client.welcome.stdin != "closed"
        typing = open_stdin and not (wish.read_only or wish.no_stdin)
        rebuilt = _rebuild(place, client) if since == "screen" else None
        there = interactive.Interactive(
            client,
            terminal,
            DetachKeys(keys),
            typing=typing,
            counts=counts,
            rebuild=rebuilt,
            live_from=_live_from(wish, client),
        )
        outcome = await there.run()
        pending = client.pending
    if not isinstance(outcome, interactive.Left):
        if client.welcome is None:
            remark(f"{place.id} had ended before: {sentence(outcome)}")
        return shell_code(outcome)
    if outcome.number != signal.SIGHUP:
        again = f"detached from {place.id}; come back with: {_again(place)}"
        remark(again, on_new_line=True)
        if pending:
            remark(f"{pending} bytes that were typed may not have reached it")
    return 128 + outcome.number if outcome.number else LEFT


def _rebuild(place: Place, client: Client) -> "Rebuild":
    from attachd_clients.rebuild import Rebuild  # its imports are a sixth of our start

    welcome = client.welcome
    if welcome is None:
        return Rebuild(0, sys.maxsize, place.last_size(), b"")
    size = Size(welcome.columns, welcome.rows)
    return Rebuild(welcome.offset, welcome.newest, size, welcome.modes)


def _live_from(wish: argparse.Namespace, client: Client) -> int:
    """Return where history ends; after ``attachd run`` we are the first to see anything."""
    if wish.fd is not None:
        return 0
    return client.welcome.newest if client.welcome else sys.maxsize


# Without


async def _attach_plain(wish: argparse.Namespace, place: Place) -> int:
    stdin = not (wish.no_stdin or wish.read_only)
    modes = Modes() if wish.terminal and os.isatty(1) else None
    async with _client(wish, wish.since or "tail:10", NO_SIZE) as client:
        await _lease(wish, client)
        copying = plain.Plain(client, stdin=stdin, proxy=wish.sig_proxy, modes=modes)
        try:
            outcome = await copying.run()
        finally:
            if modes is not None:
                with contextlib.suppress(OSError):  # the terminal may have vanished
                    os.write(1, modes.undo())
    if not isinstance(outcome, plain.Left):
        return shell_code(outcome)
    again = _again(place, "--from", f"offset:{outcome.offset}")
    remark(f"left {place.id} at offset {outcome.offset}; come back with: {again}")
    return LEFT if outcome.number in (0, signal.SIGINT) else 128 + outcome.number


# Both


def _client(
    wish: argparse.Namespace, since: str, size: Size
) -> contextlib.AbstractAsyncContextManager[Client]:
    return attach(
        wish.id,
        root=wish.root,
        since=since,
        role="viewer" if wish.read_only else "full",
        name=_own_name(),
        size=size,
        connection=_inherited(wish.fd),
    )


async def _lease(wish: argparse.Namespace, client: Client) -> None:
    """Become the only one who types, where that was asked for. Raises Refused."""
    if wish.steal:
        await client.lease("steal")
    elif wish.exclusive and not wish.wait:
        await client.lease("take")
    elif wish.exclusive:
        await client.ask_lease()


def _own_name() -> str:
    """Return who we are, for those who see us in ``attachctl stats`` or lose a lease to us."""
    user = os.environ.get("USER", "")[:64] or f"uid {os.getuid()}"
    try:
        return f"{user} on {os.ttyname(0).removeprefix('/dev/')}"
    except OSError:
        return user


def _again(place: Place, *options: str) -> str:
    """Return the command line that comes back to where we were."""
    root = [] if place.root == state_root() else ["--root", place.root]
    return shlex.join(["attach", *root, *options, place.id])


def _inherited(fd: int | None) -> trio.SocketStream | None:
    if fd is None:
        return None
    peer = socket.socket(fileno=fd)
    peer.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(peer))


if __name__ == "__main__":
    main()
