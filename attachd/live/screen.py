"""The screen: the terminal together with its past. Its size is changed here and nowhere else."""

import trio

from attachd.live.feed import Bell, Feed
from attachd.live.past import Past
from attachd.live.terminal import Terminal
from attachd.state.sizes import Size

#: After a change the next one waits so long, and of several only the last is made: whoever
#: drags a window's corner sends dozens, and each has the program draw everything.
PAUSE_SECONDS = 0.02


class Screen:
    """One container's terminal."""

    def __init__(self, feed: Feed, terminal: Terminal, past: Past) -> None:
        self.terminal = terminal
        self.past = past
        self._feed = feed
        self._wanted = past.timeline.last.size
        self._quiet = True  #: no change was made just now
        self._bell = Bell()
        if past.continued:  # a death between note and change: repeat
            terminal.set_size(self._wanted)

    @property
    def size(self) -> Size:
        """The size as it is, or is about to be."""
        return self._wanted

    @property
    def counters(self) -> dict[str, object]:
        """What ``status`` tells of it."""
        return self.size._asdict() | self.terminal.manners()

    def resize(self, size: Size) -> None:
        """Change the size: at once, or in a moment when it was changed just now."""
        self._wanted = size
        if self._quiet:
            self._change()

    async def run(self) -> None:
        """Make the changes that had to wait. Ends when cancelled."""
        while True:
            await self._bell.wait()
            await trio.sleep(PAUSE_SECONDS)
            self._quiet = True
            if self._wanted != self.past.timeline.last.size:
                self._change()

    def _change(self) -> None:
        """Note it first, then do it, then tell it in the order of the output."""
        self._quiet = False
        self._bell.ring()
        self.past.resized(self._wanted)
        self.terminal.set_size(self._wanted)
        self._feed.announce()
