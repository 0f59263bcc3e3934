"""Who is at the other end of a socket, in the kernel's words (unix(7)).

They were noted when the peer connected, so that a process that has another's number by now, or
other ids, is not asked.
"""

import array
import ctypes
import os
import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("=iII")  #: struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)

_SO_PEERGROUPS = 59  #: unix(7), since Linux 4.13; its number is that of most architectures

#: More groups nobody can have (credentials(7), NGROUPS_MAX).
_MAX_GROUPS = 65536

_libc = ctypes.CDLL(None, use_errno=True)


class Peer(NamedTuple):
    """A process as it was when it connected."""

    pid: int
    uid: int
    gid: int


def peer_of(fd: int) -> Peer:
    """Return who has connected to a socket."""
    # Not through a descriptor of its own: there may be no other.
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, fileno=fd)
    try:
        packed = ours.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    finally:
        ours.detach()
    return Peer(*_UCRED.unpack(packed))


def groups_of(fd: int, peer: Peer) -> frozenset[int]:
    """Return every group of the peer: its primary one and the supplementary ones."""
    # Not socket.getsockopt, which returns no more than 1024 bytes: 256 groups.
    found = (ctypes.c_uint32 * _MAX_GROUPS)()
    size = ctypes.c_uint32(ctypes.sizeof(found))
    level = socket.SOL_SOCKET
    if _libc.getsockopt(fd, level, _SO_PEERGROUPS, found, ctypes.byref(size)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    groups = array.array("I", bytes(found)[: size.value])
    return frozenset({peer.gid, *groups})
