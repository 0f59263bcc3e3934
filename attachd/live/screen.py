"""The screen: the terminal together with its past. Its size is changed here and nowhere else."""

from attachd.live.feed import Feed
from attachd.live.past import Past
from attachd.live.terminal import Terminal
from attachd.state.sizes import Size


class Screen:
    """One container's terminal."""

    def __init__(self, feed: Feed, terminal: Terminal, past: Past) -> None:
        self.terminal = terminal
        self.past = past
        self._feed = feed
        terminal.set_size(self.size)  # a death between note and change: repeat

    @property
    def size(self) -> Size:
        """The size as it is."""
        return self.past.timeline.last.size

    @property
    def counters(self) -> dict[str, object]:
        """What ``status`` tells of it."""
        return self.size._asdict()

    def resize(self, size: Size) -> None:
        """Change the size: noted first, then done, then told in the order of the output."""
        self.past.resized(size)
        self.terminal.set_size(size)
        self._feed.announce()
