"""Parcels: descriptors and orders between server and keeper, which outlive whoever sent them.

A message is a verb and a name, with a descriptor where the verb has one. It is in the kernel's
hands as soon as it was sent, so a server that dies right afterwards has not lost it: the keeper
takes all parcels before it starts the next server.

The server says ``keep NAME`` (with a descriptor: hold a copy of it), ``drop NAME`` (close it),
``want NAME`` (send me a copy), ``begin NAME`` (call the runtime for that exec); the keeper says
``have NAME`` (with a descriptor).
"""

import array
import contextlib
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from attachd.keeper.descriptors import receive_fds

MAX_MESSAGE = 256


class Parcel(NamedTuple):
    """One message; ``fd`` is the receiver's own, close-on-exec, -1 when there is none."""

    verb: str
    name: str
    fd: int = -1


def make() -> tuple[int, int]:
    """Return the server's end and the keeper's end."""
    server, keeper = socket.socketpair(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
    )
    return server.detach(), keeper.detach()


class Post:
    """One side. A peer that is gone takes nothing, which is no error.

    ``kept`` is what the keeper holds, by name, as our own descriptors: what an heir must get.
    """

    def __init__(self, fd: int, kept: Mapping[str, int] = MappingProxyType({})) -> None:
        self.fd = fd
        self.kept = dict(kept)

    def redirect(self, fd: int) -> None:
        """Speak to another keeper from now on."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = fd

    def keep(self, name: str, fd: int) -> None:
        """Have the keeper hold a copy of ``fd`` under a name; what was there before is closed.

        ``fd`` stays open until it is dropped.
        """
        self.kept[name] = fd
        self.send("keep", name, fd)

    def drop(self, name: str) -> None:
        """Have the keeper close what it holds under that name."""
        self.kept.pop(name, None)
        self.send("drop", name)

    def send(self, verb: str, name: str, fd: int = -1, *, wait: bool = True) -> None:
        """Send one parcel. Without ``wait`` one for which there is no room now is lost.

        There is room for some ten (unix(7), max_dgram_qlen).
        """
        if self.fd < 0:
            return
        rights = array.array("i", [fd] if fd >= 0 else [])
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        flags = 0 if wait else socket.MSG_DONTWAIT
        with socket.socket(fileno=os.dup(self.fd)) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
                # Not socket.send_fds, which leaves out the flags in Python 3.11.
                peer.sendmsg([f"{verb} {name}".encode()], control, flags)


def receive(fd: int) -> list[Parcel]:
    """Return every parcel that waits at this end."""
    found: list[Parcel] = []
    with socket.socket(fileno=os.dup(fd)) as peer:
        while True:
            try:
                text, fds = receive_fds(peer, MAX_MESSAGE, 1, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return found
            if not text:
                return found
            verb, _, name = text.decode().partition(" ")
            found.append(Parcel(verb, name, *fds))


def take_all(fd: int, held: dict[str, int]) -> list[Parcel]:
    """Put what is to be kept into ``held`` and take out what is not; return all that came."""
    found = receive(fd)
    for parcel in found:
        if parcel.verb in ("keep", "drop"):
            before = held.pop(parcel.name, -1)
            if before >= 0:
                os.close(before)
        if parcel.verb == "keep" and parcel.fd >= 0:
            held[parcel.name] = parcel.fd
    return found
