"""The lease: who alone may write. Without a holder everybody may (shared typing, the default).

Clients are known by their keys, so that a holder is found again after the server was restarted.
"""

from collections import deque

from attachd.errors import Refused


class Lease:
    """Who holds it, and who waits for it."""

    def __init__(self, holder: bytes = b"") -> None:
        self.holder = holder  #: a key, or empty
        self._waiting: deque[bytes] = deque()

    def allows(self, key: bytes) -> bool:
        """Return whether ``key`` may write."""
        return self.holder in (b"", key)

    def take(self, key: bytes) -> None:
        """Make ``key`` the holder; raises Refused (``leased``) when somebody else is."""
        if not self.allows(key):
            raise Refused("leased", "somebody else is the only one who may write")
        self.holder = key

    def steal(self, key: bytes) -> bytes:
        """Make ``key`` the holder whoever is; return the loser's key, or b""."""
        loser = self.holder if self.holder != key else b""
        self.holder = key
        self._drop(key)
        return loser

    def wait(self, key: bytes) -> bool:
        """Make ``key`` the holder now and return True, or the next one after those who wait."""
        if self.allows(key):
            self.holder = key
            return True
        self._drop(key)
        self._waiting.append(key)
        return False

    def free(self, key: bytes) -> bytes:
        """``key`` holds and waits no longer; return who holds the lease by that, or b""."""
        self._drop(key)
        if self.holder != key:
            return b""
        self.holder = self._waiting.popleft() if self._waiting else b""
        return self.holder

    def _drop(self, key: bytes) -> None:
        if key in self._waiting:
            self._waiting.remove(key)
