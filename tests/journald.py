"""A journald of the tests' own: a datagram socket, and the native protocol read back.

Written from https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, not from what sends.
"""

import fcntl
import os
import socket
import struct
from pathlib import Path

Entry = dict[str, bytes]

SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def parse(datagram: bytes) -> Entry:
    """Return the fields of one entry; fails on what journald would not take."""
    found: Entry = {}
    while datagram:
        name, _, rest = datagram.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            datagram = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            key, value, end = name, rest[8 : 8 + size], rest[8 + size : 9 + size]
            assert (len(value), end) == (size, b"\n")
            datagram = rest[9 + size :]
        assert key.decode() not in found
        found[key.decode()] = value
    return found


class Journald:
    """Listens at ``path`` from the beginning, or when told to; keeps what it has received."""

    def __init__(self, path: Path, *, listens: bool = True) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.by_file = 0  #: how many came as a file
        self._socket: socket.socket | None = None
        if listens:
            self.listen()

    @property
    def listens(self) -> bool:
        """False while nobody has bound the socket."""
        return self._socket is not None

    def listen(self) -> None:
        """Bind the socket, in the place of one that is gone."""
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.path))

    def receive(self, most: int = 1 << 30) -> int:
        """Take what is there, up to so many entries; return how many came."""
        assert self._socket is not None
        for count in range(most):
            try:
                data, fds, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
            except BlockingIOError:
                return count
            self.entries.append(parse(self._read(fds[0]) if fds else data))
        return most

    def close(self) -> None:
        """Be gone, with what was not received."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def streams(self) -> dict[bytes, bytes]:
        """Return what was said, by priority: 6 is stdout, 3 stderr; entries of ours left out."""
        said = {b"6": b"", b"3": b""}
        for entry in self.entries:
            if not entry["MESSAGE"].startswith(b"attachd: "):
                said[entry["PRIORITY"]] += entry["MESSAGE"]
        return said

    def gaps(self) -> list[int]:
        """Return how many bytes each entry of ours says to be missing."""
        texts = [e["MESSAGE"] for e in self.entries if e["MESSAGE"].startswith(b"attachd: ")]
        return [int(text.split()[1]) for text in texts]

    def _read(self, fd: int) -> bytes:
        self.by_file += 1
        with os.fdopen(fd, "rb") as file:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALED
            file.seek(0)
            return file.read()
