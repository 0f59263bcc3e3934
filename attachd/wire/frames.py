"""Frames: a 4-byte big-endian length, then that many bytes of payload.

Every frame can be skipped without being understood. The decoder never holds more than one
announced frame plus one read: a length over the limit is refused before its payload arrives.
"""

from attachd.errors import FrameTooLarge, LocalProtocolError

LENGTH_BYTES = 4

#: The largest payload. Big enough for MAX_DATA plus its envelope, small enough that a hostile
#: peer costs at most this much memory. (h2 allows 16 MiB frames, containerd's ttrpc 4 MiB.)
MAX_FRAME = 1 << 20

#: The largest run of bytes in one output or stdin message; leaves room for the envelope.
MAX_DATA = 256 * 1024


def encode_frame(payload: bytes) -> bytes:
    """Return ``payload`` with its length in front; raise LocalProtocolError when it is too long."""
    if len(payload) > MAX_FRAME:
        raise LocalProtocolError(f"frame of {len(payload)} bytes, the limit is {MAX_FRAME}")
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


class FrameDecoder:
    """Cuts a byte stream into payloads, however the stream itself was cut."""

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        """How many bytes wait for the rest of their frame, or to be taken."""
        return len(self._buffer)

    @property
    def at_boundary(self) -> bool:
        """True when no part of a frame is waiting for its rest."""
        return not self._buffer

    def feed(self, data: bytes) -> None:
        """Take what was read from the peer."""
        self._buffer += data

    def next_frame(self) -> bytes | None:
        """Return the next whole payload, or None until more bytes come.

        Raises FrameTooLarge as soon as a length over the limit is seen.
        """
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES], "big")
        if length > self._limit:
            raise FrameTooLarge(f"a frame of {length} bytes, the limit is {self._limit}")
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[LENGTH_BYTES:end])
        del self._buffer[:end]
        return payload
