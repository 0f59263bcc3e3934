"""What is typed at a container's terminal: stdin that never closes, and whose end is a key."""

import os
from collections.abc import Callable

import trio

from attachd.errors import Refused, RemoteProtocolError
from attachd.live.stdin import Stdin
from attachd.live.terminal import Terminal
from attachd.state.canonical import MAX_LINE, LineGauge
from attachd.state.eofpolicy import ANY
from attachd.state.header import Header

#: A terminal is "writable" also while nobody has it open, and its wake-ups are few: when it
#: took nothing, it is asked again after so long.
RETRY_SECONDS = 0.02

#: Called with (key, text) when a writer should be told something.
Teller = Callable[[bytes, str], None]


class Keyboard(Stdin):
    """The same account and the same delivery as a pipe's; the terminal decides what it means."""

    def __init__(
        self,
        header: Header,
        terminal: Terminal,
        intake: int,
        tell: Teller,
        policy: str = ANY,
    ) -> None:
        super().__init__(header, terminal.fd, intake, _nothing_else, policy)
        self._terminal = terminal
        self._tell = tell
        self._gauge = LineGauge()
        self._ended: set[bytes] = set()
        self._last = self._last_byte()

    def offer(self, key: bytes, offset: int, data: bytes) -> None:
        """Take what is typed; a writer that has typed its end types nothing more."""
        if key in self._ended:
            raise Refused("stdin_closed", "you have ended your input")
        super().offer(key, offset, data)
        self._last = data[-1:] or self._last

    def offer_eof(self, key: bytes, offset: int | None = None) -> None:
        """Type the key that means "no more input", once for each writer; others may go on.

        In canonical mode a first one gives the program what is left of an open line, and only
        a second one is the end (termios(3)). It counts as the writer's own byte, so that after
        a lost connection it is not typed again.
        """
        known = self.accepted(key)
        if offset is None or offset == known:
            self.offer(key, known, self._end_keys())
        elif offset > known:
            raise RemoteProtocolError(f"the end of stdin at {offset}, with a hole before it")
        self._ended.add(key)
        self._tell_writer(key)

    def close(self) -> None:
        """Close what is not the terminal's."""
        os.close(self._append_fd)

    def end(self) -> None:
        """Take nothing more: the container has ended."""
        self._header.stdin_eof = 1
        self._forget_queue()
        self._bell.ring()
        self._tell_eof()

    async def run(self) -> None:
        """Deliver until the end. On cancel: the rest stays in the file."""
        while self.state != "closed":
            if self._delivered == self._size:
                await self._bell.wait()
            elif not self._deliver():
                with trio.move_on_after(RETRY_SECONDS):
                    await trio.lowlevel.wait_writable(self._fd)
                if not self._deliver():
                    await trio.sleep(RETRY_SECONDS)

    def _note_delivery(self, start: int, end: int) -> None:
        """Look whether a line has grown longer than the terminal keeps."""
        data = os.pread(self._intake_fd, end - start, start)
        at = self._gauge.feed(data, self._terminal.line_rules())
        if at is not None:
            self._tell(self._writer_of(start + at), _TOO_LONG)

    def _writer_of(self, at: int) -> bytes:
        """Return whose the byte at ``at`` of the stdin file is."""
        return next((entry.key for entry in self._unacked if at < entry.file_end), b"")

    def _end_keys(self) -> bytes:
        key, rules = self._terminal.end_of_input(), self._terminal.line_rules()
        open_line = rules.canonical and self._last not in (b"", *_each(rules.ends))
        return key * 2 if open_line else key

    def _last_byte(self) -> bytes:
        return os.pread(self._intake_fd, 1, self._size - 1) if self._size else b""

    def _tell_writer(self, key: bytes) -> None:
        listener, writer = self._listeners.get(key), self._intake.find(key)
        if listener:
            listener(writer.own if writer and writer.end <= self._delivered else 0, True)


_TOO_LONG = (
    f"the terminal keeps {MAX_LINE} bytes of a line: what was typed beyond, it has thrown away"
)


def _nothing_else() -> None:
    """A terminal is not closed."""


def _each(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]
