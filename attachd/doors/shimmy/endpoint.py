"""The attach file: a socket where conman's ``attach`` comes, beside our own."""

import contextlib
import os
import socket
from functools import partial

import trio

from attachd.doors.shimmy.visitor import Visitor
from attachd.live.accepting import accept_clients
from attachd.live.door import Door
from attachd.live.feed import Bell
from attachd.live.peer import peer_of
from attachd.live.program import Program


class Endpoint:
    """Construct before the container's output is pumped; then ``run``, and at the end ``finish``.

    A client is given the output from when it connected on. Who waits at the listener when we
    begin has connected before anything was pumped, and begins there.
    """

    def __init__(self, program: Program, listener: int, door: Door) -> None:
        self._program = program
        self._listener = listener
        self._door = door
        self._begin = program.feed.index.newest
        self._inside: set[Visitor] = set()
        self._gone = Bell()

    async def run(self) -> None:
        """Serve whoever connects. Ends when cancelled."""
        listener = socket.fromfd(self._listener, socket.AF_UNIX, socket.SOCK_STREAM)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        with listener, os.fdopen(null):
            listener.setblocking(False)
            async with trio.open_nursery() as nursery:
                serve = partial(self._serve, null=null)
                for stream in _waiting(listener):
                    nursery.start_soon(serve, stream, self._begin)
                accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
                await accept_clients(accepting, serve, nursery)

    async def finish(self) -> None:
        """Return when every client has been given everything, or has gone."""
        while self._inside:
            await self._gone.wait()

    async def _serve(
        self, stream: trio.SocketStream, offset: int | None = None, *, null: int
    ) -> None:
        """Serve one client, from now on or from an offset, and close its connection."""
        async with stream:
            if peer_of(stream.socket.fileno()).uid not in (0, os.getuid()):
                return
            begin = self._program.feed.index.newest if offset is None else offset
            visitor = Visitor(stream, self._program, begin, null)
            if not self._door.enter(visitor):
                return
            self._door.heard(visitor)  # it has nothing to say before it is served
            self._inside.add(visitor)
            try:
                await visitor.run()
            finally:
                self._door.leave(visitor)
                self._inside.discard(visitor)
                self._gone.ring()


def _waiting(listener: socket.socket) -> list[trio.SocketStream]:
    """Accept those that wait now."""
    found: list[trio.SocketStream] = []
    with contextlib.suppress(OSError):  # BlockingIOError: no more; others will be met again
        while True:
            client, _ = listener.accept()
            found.append(trio.SocketStream(trio.socket.from_stdlib_socket(client)))
    return found
