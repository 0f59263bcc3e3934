"""What was said in a session, by whom and when, for whoever asks why it failed. Pure."""

from collections import deque
from typing import NamedTuple

from attachd_clients.script.visible import visible_lines

#: Nobody reads more of a failed test.
LIMIT = 64 * 1024

#: Output that comes in many small pieces is one entry until it is as long, or as old, as this.
_ENTRY, _ENTRY_SECONDS = 4096, 0.005


class Entry(NamedTuple):
    """Something that happened, so many seconds after the session began."""

    seconds: float
    kind: str  #: sent, came, matched, gap, resized, signal, ended, failed
    text: bytes


class Transcript:
    """Entries in their order; the oldest are dropped beyond a limit of bytes."""

    def __init__(self, name: str, limit: int = LIMIT) -> None:
        self.name = name
        self.dropped = 0  #: bytes
        self.entries: deque[Entry] = deque()
        self._limit = limit
        self._size = 0

    def note(self, seconds: float, kind: str, text: bytes | str) -> None:
        """Add an entry; output goes on in the last one."""
        data = text.encode(errors="replace") if isinstance(text, str) else text
        if kind == "came" and len(data) > self._limit:
            self.dropped += len(data) - self._limit
            data = data[-self._limit :]
        last = self.entries[-1] if self.entries else None
        if kind == "came" and last and _goes_on(last, seconds):
            self.entries[-1] = last._replace(text=last.text + data)
        else:
            self.entries.append(Entry(seconds, kind, data))
        self._size += len(data)
        while self._size > self._limit and len(self.entries) > 1:
            size = len(self.entries.popleft().text)
            self._size, self.dropped = self._size - size, self.dropped + size

    def __str__(self) -> str:
        """The whole, a line of output on a line."""
        lines = [f"({self.dropped} bytes before this were dropped)"] if self.dropped else []
        for entry in self.entries:
            head = f"{entry.seconds:8.3f} s  {entry.kind:<8}"
            for line in visible_lines(entry.text, keep_ends=entry.kind == "sent"):
                lines.append(f"{head} {line}".rstrip())
                head = " " * len(head)
        return "\n".join(lines)


def _goes_on(last: Entry, seconds: float) -> bool:
    young = seconds - last.seconds < _ENTRY_SECONDS
    return last.kind == "came" and young and len(last.text) < _ENTRY
