"""``attachctl follow-all``: what all containers under a root say, into files or to a program."""

import argparse
import contextlib
import fcntl
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import trio

from attachd.errors import AttachdError, UsageError
from attachd.wire import messages as say
from attachd_clients.aio import unwrapped
from attachd_clients.arguments import FAILED
from attachd_clients.cursor import Cursor, Json
from attachd_clients.following import follow
from attachd_clients.node import Node
from attachd_clients.sinks import Files, Sink, Stream, open_command, open_socket
from attachd_clients.verbs import Add


def add(verb: Add) -> None:
    """Add this verb."""
    made = verb("follow-all", _follow_all, "hand on what all containers say, as it comes")
    to = made.add_mutually_exclusive_group(required=True)
    to.add_argument("--into", metavar="DIR", help="to DIR/ID.log, exactly once")
    to.add_argument("--exec", metavar="CMD", dest="command", help="to a command's stdin")
    to.add_argument("--socket", metavar="PATH", help="to a Unix stream socket")
    made.add_argument("--cursors", metavar="DIR",
        help="where to remember what was handed on (with --into: DIR/.cursors)")  # fmt: skip
    made.add_argument("--format", choices=("json", "text"), default="json",
        help="one object a line, or the lines as they are (%(default)s)")  # fmt: skip
    made.add_argument("--once", action="store_true",
        help="end when all that are there now have ended")  # fmt: skip


def _follow_all(wish: argparse.Namespace) -> int:
    directory = wish.cursors or (wish.into and os.path.join(wish.into, ".cursors"))
    if not directory:
        raise UsageError("--exec and --socket need --cursors DIR")
    if wish.into:
        _make(wish.into)
    with _locked(directory), Node(wish.root) as node:
        return trio.run(_run, node, _sink(wish), directory, wish.once)


def _sink(wish: argparse.Namespace) -> Sink:
    text = wish.format == "text"
    if wish.into:
        return Files(wish.into, text)
    if wish.command:
        return Stream(functools.partial(open_command, wish.command), text=text)
    return Stream(functools.partial(open_socket, wish.socket), text=text)


def _make(directory: str) -> None:
    try:
        os.makedirs(directory, mode=0o750, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}") from None


@contextlib.contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Make the directory; while we have it, nobody else may save a cursor in it."""
    _make(directory)
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot use {directory}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"another follow-all uses {directory}") from None
    finally:
        os.close(fd)


async def _run(node: Node, sink: Sink, directory: str, once: bool) -> int:
    """Follow until a signal says to stop, or with ``once`` all is told; return the exit code."""
    crew = _Crew(node, sink, directory)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with unwrapped(), trio.open_nursery() as nursery:
            nursery.start_soon(crew.heed, signals, nursery.cancel_scope)
            await crew.run(nursery, once)
            nursery.cancel_scope.cancel()
    if isinstance(sink, Stream):
        await sink.close()
    return crew.code


class _Crew:
    """One follower for each container."""

    def __init__(self, node: Node, sink: Sink, directory: str) -> None:
        self.code = 0
        self._node = node
        self._sink = sink
        self._directory = directory
        self._running: set[str] = set()
        self._done: dict[str, str] = {}  #: the stream that was followed to its end, by id
        self._changed = trio.Event()

    async def run(self, nursery: trio.Nursery, once: bool) -> None:
        """Follow each that comes; return, with ``once``, when all of the first are done."""
        nursery.start_soon(self._watch)
        first: dict[str, str] | None = None
        while True:
            self._changed = trio.Event()
            found = self._node.look()
            first = found if first is None else first
            for container, stream_id in found.items():
                if container not in self._running and self._done.get(container) != stream_id:
                    self._running.add(container)
                    nursery.start_soon(self._follow, container, stream_id)
            left = {
                c for c, s in first.items() if self._done.get(c) != s and found.get(c) == s
            }
            if once and not left & (self._running | found.keys()):
                return
            await self._changed.wait()

    async def heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """End everything at the first signal."""
        async for number in signals:
            self.code = 130 if number == signal.SIGINT else 0
            scope.cancel()
            return

    async def _watch(self) -> None:
        """Have ``run`` look again whenever something may have changed. Ends when cancelled."""
        while True:
            await self._node.wait_change()
            self._changed.set()

    async def _follow(self, container: str, stream_id: str) -> None:
        """Follow a container to its end. What is wrong with it stops no other."""
        self._node.lost.discard(container)
        try:
            ended = await self._copy(container, stream_id)
        except AttachdError as error:
            removed = self._node.look().get(container) != stream_id
            if not removed:
                print(f"attachctl: {container}: {error}", file=sys.stderr)
                self.code = FAILED
            ended = removed
        if not ended:
            self._node.lost.add(container)  # its shim is gone, and may come back
        self._done[container] = stream_id
        self._running.discard(container)
        self._changed.set()

    async def _copy(self, container: str, stream_id: str) -> bool:
        """Hand on what comes; return False when that was not to the container's end."""
        cursor = Cursor(os.path.join(self._directory, f"{container}.json"))
        memo = cursor.memo if isinstance(cursor.memo, dict) else {}
        if memo.get("ended") == stream_id:
            return True
        known = self._sink.begin(container, memo.get("sink"))
        cursor.save(cursor.position, {"sink": known})
        root, ended = self._node.root, False
        async with follow(container, root=root, from_=cursor, name="follow-all") as records:
            while batch := await records.batch():
                known = await self._sink.put(container, batch, known)
                noted: dict[str, Json] = {"sink": known}
                if isinstance(batch[-1], say.Exit):
                    noted["ended"] = stream_id
                cursor.save(records.position, noted)
                ended = "ended" in noted
        return ended
