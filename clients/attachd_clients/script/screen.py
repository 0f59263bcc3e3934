"""What a person would see at the container's terminal, when somebody asks for it. Pure.

Output is kept until then: an emulator is slower than a container can talk. Of what is too old
only the modes are remembered, as the shim does for who comes back.
"""

from collections import deque

import attrs

from attachd.state.modes import Modes
from attachd.state.sizes import DEFAULT_SIZE, Size
from attachd_clients.emulator import Emulator

#: Twice what a shim sends to rebuild a screen.
BACKLOG = 512 * 1024


@attrs.frozen
class Snapshot:
    """A screen as it was: ``rows`` without blanks at their ends, the cursor's place from 0."""

    rows: tuple[str, ...]
    size: Size
    column: int
    row: int

    def __str__(self) -> str:
        return "\n".join(self.rows).rstrip("\n")


class Watcher:
    """A terminal's output in, snapshots out."""

    def __init__(self, size: Size, modes: bytes = b"") -> None:
        self._size = size if size.usable else DEFAULT_SIZE
        self.heard = self._size  #: the newest size that was told
        self._emulator = Emulator(*self._size)
        self._emulator.feed(modes)
        self._modes = Modes()
        self._modes.feed(modes)
        self._backlog: deque[bytes | Size] = deque()
        self._waiting = 0

    def feed(self, data: bytes) -> None:
        """Take output."""
        self._backlog.append(data)
        self._waiting += len(data)
        if self._waiting > BACKLOG:
            self._pass_over()

    def resize(self, size: Size) -> None:
        """The terminal has this size from here on."""
        if size.usable:
            self.heard = size
            self._backlog.append(size)

    def snapshot(self) -> Snapshot:
        """Return what can be seen now."""
        while self._backlog:
            item = self._backlog.popleft()
            if isinstance(item, Size):
                self._emulator.resize(*item)
                self._size = item
            else:
                self._emulator.feed(item)
                self._modes.feed(item)
        self._waiting = 0
        rows = tuple(self._emulator.text())
        return Snapshot(rows, Size(self._emulator.columns, len(rows)), *_place(self._emulator))

    def _pass_over(self) -> None:
        """Begin with a fresh screen that has the modes; half of the backlog is gone."""
        while self._waiting > BACKLOG // 2 and len(self._backlog) > 1:
            item = self._backlog.popleft()
            if isinstance(item, Size):
                self._size = item
            else:
                self._modes.feed(item)
                self._waiting -= len(item)
        self._emulator = Emulator(*self._size)
        self._emulator.feed(self._modes.replay())


def _place(emulator: Emulator) -> tuple[int, int]:
    """Return the cursor's column and row; the emulator itself tells only how to go there."""
    cursor = emulator._screen.cursor
    return min(cursor.x, emulator.columns - 1), cursor.y
