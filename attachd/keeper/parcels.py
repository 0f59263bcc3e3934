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
import errno
import os
import select
import socket
import sys
from collections.abc import Iterator, Mapping
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

        There is room for some hundred (the sender's buffer; unix(7)).
        """
        if self.fd < 0:
            return
        rights = array.array("i", [fd] if fd >= 0 else [])
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
        flags = 0 if wait else socket.MSG_DONTWAIT
        with _borrowed(self.fd) as peer:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError):
                # Not socket.send_fds, which leaves out the flags in Python 3.11.
                peer.sendmsg([f"{verb} {name}".encode()], control, flags)

    def check(self) -> None:
        """Raise OSError while a parcel would have to wait: the other side does not take them."""
        if self.fd < 0:
            return
        poller = select.poll()
        poller.register(self.fd, select.POLLOUT)
        if not poller.poll(0):
            raise BlockingIOError(errno.EAGAIN, "the keeper takes no descriptors just now")


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """Have ``fd`` as a socket, which it takes no further descriptor for: there may be none."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=fd)
    try:
        yield peer
    finally:
        peer.detach()


def has_room() -> bool:
    """Return whether one more descriptor may be received."""
    try:
        os.close(os.dup(0))
    except OSError:
        return False
    return True


class Room:
    """Whether parcels can be received; says so once when it begins and ends that they cannot."""

    def __init__(self) -> None:
        self._there = True

    def look(self) -> bool:
        """Return whether there is room now."""
        there = has_room()
        if there != self._there:
            what = "there are descriptors again" if there else "no descriptors are left"
            print(f"attachd: {what} for what the server sends", file=sys.stderr, flush=True)
        self._there = there
        return there


def receive(fd: int) -> list[Parcel]:
    """Return every parcel that waits at this end; none that there is no descriptor for.

    The kernel would leave that out of the message (MSG_CTRUNC, unix(7)), and it would be lost.
    """
    found: list[Parcel] = []
    with _borrowed(fd) as peer:
        while has_room():
            try:
                text, fds = receive_fds(peer, MAX_MESSAGE, 1, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionResetError):
                return found
            if not text:
                return found
            verb, _, name = text.decode().partition(" ")
            found.append(Parcel(verb, name, *fds))
    return found


def take_all(fd: int, held: dict[str, int]) -> list[Parcel]:
    """Put what is to be kept into ``held`` and take out what is not; return all that came."""
    found = receive(fd)
    for parcel in found:
        kept = parcel.verb == "keep" and parcel.fd >= 0  # what was cut off replaces nothing
        if kept or parcel.verb == "drop":
            before = held.pop(parcel.name, -1)
            if before >= 0:
                os.close(before)
        if kept:
            held[parcel.name] = parcel.fd
    return found
