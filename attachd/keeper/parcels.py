"""Parcels: descriptors that a server has made, handed to the keeper to outlive it.

A message is a name, with one descriptor; or with none, when the keeper is to close what it has
under that name. It is in the kernel's hands as soon as it was sent, so a server that dies right
afterwards has not lost it: the keeper takes all parcels before it starts the next server.
"""

import contextlib
import os
import socket

MAX_NAME = 64


def make() -> tuple[int, int]:
    """Return the server's end and the keeper's end."""
    server, keeper = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
    )
    keeper.setblocking(False)
    return server.detach(), keeper.detach()


class Post:
    """The server's side. A keeper that is gone takes nothing, which is no error."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def keep(self, name: str, fd: int) -> None:
        """Have the keeper hold a copy of ``fd`` under a name; what was there before is closed."""
        self._send(name, [fd])

    def drop(self, name: str) -> None:
        """Have the keeper close what it holds under that name."""
        self._send(name, [])

    def _send(self, name: str, fds: list[int]) -> None:
        if self._fd < 0:
            return
        with socket.socket(fileno=os.dup(self._fd)) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(peer, [name.encode()], fds)


def take_all(fd: int, held: dict[str, int]) -> None:
    """Put every parcel that waits at the keeper's end into ``held``."""
    with socket.socket(fileno=os.dup(fd)) as peer:
        while True:
            try:
                name, fds, _, _ = socket.recv_fds(peer, MAX_NAME, 1)
            except (BlockingIOError, ConnectionResetError):
                return
            if not name:
                return
            before = held.pop(name.decode(), -1)
            if before >= 0:
                os.close(before)
            for new in fds:
                os.set_inheritable(new, False)
                held[name.decode()] = new
