"""How output is said at the attach file: in pieces that are told apart by how they are read.

A piece is one byte for the stream and up to 32767 bytes of output, without a length: conman takes
what one read(2) brings for one piece, though the socket is a stream, in which the kernel may join
two. So each is sent with a descriptor of /dev/null beside it. Data that comes with a descriptor is
never joined with what follows (unix(7), "Ancillary messages"); who asks for none gets none.
"""

import array
import os
import socket

from attachd.doors.guest import Speech
from attachd.state.ring import STDERR, STDOUT

#: shimmy's own: its buffer has 32 KiB, of which the first byte is the stream's.
OUTPUT_BYTES = 32 * 1024 - 1


def make_speech() -> Speech:
    """Return it, with a descriptor that stays open as long as this process."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null]))]

    def give(peer: socket.socket, piece: bytes) -> bytes:
        """Send a piece; what the kernel does not take of it is a piece of its own."""
        sent = peer.sendmsg([piece], beside)
        return piece[:1] + piece[sent:] if sent < len(piece) else b""

    return Speech({STDOUT: b"\1", STDERR: b"\2"}, OUTPUT_BYTES, give)
