"""A terminal's size: how it is written, and whose wins when several people look at one."""

import re
from collections.abc import Collection
from typing import NamedTuple

from attachd.errors import UsageError

#: tmux's limit (window.h, WINDOW_MAXIMUM); the kernel's is 65535 (tty_ioctl(4), struct winsize).
MAX_SIDE = 10_000

#: ``latest``: of the client that last typed, resized or came. ``smallest`` and ``largest``: each
#: side by itself, over all clients (tmux, window-size). ``manual``: only what is asked for.
POLICIES = ("latest", "smallest", "largest", "manual")
DEFAULT_POLICY = "latest"


class Size(NamedTuple):
    """Character cells."""

    columns: int
    rows: int

    def __str__(self) -> str:
        return f"{self.columns}x{self.rows}"

    @property
    def usable(self) -> bool:
        """False for a side of 0, which means "unknown" in struct winsize, and for absurd ones."""
        return 1 <= self.columns <= MAX_SIDE and 1 <= self.rows <= MAX_SIDE


#: Without any wish: what the VT100 had, and what programs assume that get 0x0.
DEFAULT_SIZE = Size(80, 24)


#: No terminal, or an unknown size.
NO_SIZE = Size(0, 0)


def parse_size(text: str) -> Size:
    """Return the size in ``COLSxROWS``; raises UsageError."""
    match = re.fullmatch(r"([0-9]{1,5})[xX]([0-9]{1,5})", text)
    size = Size(*map(int, match.groups())) if match else NO_SIZE
    if not size.usable:
        raise UsageError(
            f"{text!r:.40} is not a size: write COLSxROWS, like 80x24, each from 1 to {MAX_SIDE}"
        )
    return size


class SizePolicy:
    """The clients' wishes, in the order in which they last did something.

    ``latest`` is the key of the client that did so last, as it was noted by a server before us.
    """

    def __init__(self, policy: str, latest: bytes = b"") -> None:
        self.policy = policy
        self.latest = latest
        self._wishes: dict[bytes, Size] = {}  #: by a client's key

    def wish(self, who: bytes, size: Size) -> None:
        """Note that ``who`` has a terminal of this size, and did something just now."""
        self._wishes.pop(who, None)
        self._wishes[who] = size
        self.latest = who

    def resume(self, who: bytes, size: Size) -> None:
        """Note the size of somebody who was only cut off, and did nothing."""
        others = {other: its for other, its in self._wishes.items() if other != who}
        self._wishes = {who: size} | others

    def touch(self, who: bytes) -> bool:
        """Note that ``who`` typed; return whether that may change the size."""
        if who not in self._wishes or self.latest == who:
            return False
        self.wish(who, self._wishes[who])
        return self.policy == "latest"

    def leave(self, who: bytes) -> None:
        """Forget ``who``."""
        self._wishes.pop(who, None)

    def choose(self, current: Size, counting: Collection[bytes]) -> Size:
        """Return the size that the policy wants of those who count.

        ``current`` when none of them has a wish.
        """
        sizes = [size for who, size in self._wishes.items() if who in counting]
        if not sizes or self.policy == "manual":
            return current
        if self.policy == "latest":
            return self._wishes[self.latest] if self._is_there(counting) else sizes[-1]
        best = min if self.policy == "smallest" else max
        return Size(best(s.columns for s in sizes), best(s.rows for s in sizes))

    def _is_there(self, counting: Collection[bytes]) -> bool:
        return self.latest in self._wishes and self.latest in counting
