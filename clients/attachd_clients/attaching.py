"""Being attached: a person's terminal, or descriptors 0 to 2, in front of a program.

What ``attach`` and ``attachctl exec`` have in common, whatever they attach to.
"""

import contextlib
import os
import shlex
import signal
import socket
import sys
from typing import TYPE_CHECKING

import attrs
import trio

from attachd.errors import AttachdError, UsageError
from attachd.ground import state_root
from attachd.state.keys import DetachKeys, parse_keys
from attachd.state.modes import Modes
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd_clients import interactive, plain
from attachd_clients.aio import Client, attach
from attachd_clients.configuration import DEFAULT_KEYS, detach_keys
from attachd_clients.outcome import sentence, shell_code
from attachd_clients.places import Place
from attachd_clients.terminal import Terminal, is_terminal
from attachd_clients.words import remark

if TYPE_CHECKING:
    from attachd_clients.rebuild import Rebuild

#: We have left, the container goes on. Not used by shells, docker or timeout(1).
LEFT = 123


@attrs.frozen(kw_only=True)
class Wish:
    """What to attach to, and how."""

    place: Place
    terminal: bool  #: the program has one
    since: str | None = None  #: where to begin; None: as fits
    read_only: bool = False
    no_stdin: bool = False
    keys: str | None = None  #: detach keys, None for the user's own
    exclusive: bool = False
    wait: bool = False
    steal: bool = False
    sig_proxy: bool = False
    fd: int | None = None  #: a connection that was made before the container was
    execution: str = ""  #: the exec's name, if it is one
    spec: say.Record = attrs.field(factory=dict)  #: have that exec made
    waits: bool = False  #: the program waits for us, where it may be had to

    @property
    def first(self) -> bool:
        """True when nobody can have seen anything of the program before us."""
        return self.fd is not None or bool(self.spec)


def has_terminal(place: Place, execution: str = "") -> bool:
    """Return whether the program has a terminal: who may not read files asks the shim.

    Raises NoSuchContainer, UsageError, Refused or Ended.
    """
    if place.is_readable:
        return place.has_terminal(execution)
    from attachd_clients.blocking import attach_blocking

    with attach_blocking(
        place.id, root=place.root, since="none", role="viewer", exec=execution
    ) as client:
        return client.welcome is not None and client.welcome.terminal


def attach_as(wish: Wish) -> int:
    """Attach, and return the exit code. Raises UsageError, Refused or Ended."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if wish.terminal and is_terminal():
        return trio.run(_attach_person, wish, _keys(wish))
    return trio.run(_attach_plain, wish)


def _keys(wish: Wish) -> bytes:
    """Return the detach keys; after ``attachd run`` a broken default is no reason to fail."""
    if wish.sig_proxy:
        raise UsageError(
            "--sig-proxy is not for a terminal: there ctrl-C is a key like others"
        )
    try:
        return detach_keys(wish.keys)
    except UsageError as error:
        if not wish.first:
            raise
        remark(f"{error}; {DEFAULT_KEYS} leaves")
        return parse_keys(DEFAULT_KEYS)


# With a person


async def _attach_person(wish: Wish, keys: bytes) -> int:
    since = wish.since or "screen"
    terminal = Terminal()
    counts = not wish.read_only
    size = terminal.size if counts else NO_SIZE
    async with _client(wish, since, size) as client:
        await _lease(wish, client)
        open_stdin = client.welcome is not None and client.welcome.stdin != "closed"
        typing = open_stdin and not (wish.read_only or wish.no_stdin)
        rebuilt = _rebuild(wish, client) if since == "screen" else None
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
    where = _Where.of(wish, client)
    if not isinstance(outcome, interactive.Left):
        if client.welcome is None:
            remark(f"{where.name} had ended before: {sentence(outcome)}")
        return shell_code(outcome)
    if outcome.number != signal.SIGHUP:
        remark(
            f"detached from {where.name}; come back with: {where.again()}", on_new_line=True
        )
        if pending:
            remark(f"{pending} bytes that were typed may not have reached it")
    return 128 + outcome.number if outcome.number else LEFT


def _rebuild(wish: Wish, client: Client) -> "Rebuild":
    from attachd_clients.rebuild import Rebuild  # its imports are a sixth of our start

    welcome = client.welcome
    if welcome is None:
        return Rebuild(0, sys.maxsize, wish.place.last_size(), b"")
    size = Size(welcome.columns, welcome.rows)
    return Rebuild(welcome.offset, welcome.newest, size, welcome.modes)


def _live_from(wish: Wish, client: Client) -> int:
    """Return where history ends; after ``attachd run`` we are the first to see anything."""
    if wish.first:
        return 0
    return client.welcome.newest if client.welcome else sys.maxsize


# Without


async def _attach_plain(wish: Wish) -> int:
    stdin = not (wish.no_stdin or wish.read_only)
    modes = Modes() if wish.terminal and os.isatty(1) else None
    async with _client(wish, wish.since or "tail:10", NO_SIZE) as client:
        await _lease(wish, client)
        copying = plain.Plain(
            client, stdin=stdin, proxy=wish.sig_proxy, modes=modes, ours=bool(wish.spec)
        )
        try:
            outcome = await copying.run()
        except BrokenPipeError:
            if wish.spec:  # it is ours: as in a pipeline, it ends with whoever reads it
                with contextlib.suppress(AttachdError):
                    await client.signal(signal.SIGPIPE)
            raise
        finally:
            if modes is not None:
                with contextlib.suppress(OSError):  # the terminal may have vanished
                    os.write(1, modes.undo())
    if not isinstance(outcome, plain.Left):
        return shell_code(outcome)
    where = _Where.of(wish, client)
    again = where.again("--from", f"offset:{outcome.offset}")
    remark(f"left {where.name} at offset {outcome.offset}; come back with: {again}")
    return LEFT if outcome.number in (0, signal.SIGINT) else 128 + outcome.number


# Both


def _client(
    wish: Wish, since: str, size: Size
) -> contextlib.AbstractAsyncContextManager[Client]:
    return attach(
        wish.place.id,
        root=wish.place.root,
        since=since,
        role="viewer" if wish.read_only else "full",
        flow="block" if wish.waits else "gap",
        name=_own_name(),
        size=size,
        exec=wish.execution,
        spec=wish.spec or None,
        connection=_inherited(wish.fd),
    )


async def _lease(wish: Wish, client: Client) -> None:
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


@attrs.frozen
class _Where:
    """What we were attached to."""

    place: Place
    execution: str

    @classmethod
    def of(cls, wish: Wish, client: Client) -> "_Where":
        """Return it; a server may have chosen the exec's name."""
        return cls(wish.place, client.welcome.exec if client.welcome else wish.execution)

    @property
    def name(self) -> str:
        """For people."""
        return f"exec {self.execution} of {self.place.id}" if self.execution else self.place.id

    def again(self, *options: str) -> str:
        """Return the command line that comes back to where we were."""
        root = [] if self.place.root == state_root() else ["--root", self.place.root]
        which = ["--exec", self.execution] if self.execution else []
        return shlex.join(["attach", *root, *which, *options, self.place.id])


def _inherited(fd: int | None) -> trio.SocketStream | None:
    if fd is None:
        return None
    peer = socket.socket(fileno=fd)
    peer.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(peer))
