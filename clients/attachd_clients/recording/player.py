"""Plays a recording on our stdout, at its own pace."""

import contextlib
import math
import os
import signal
import termios
from collections.abc import AsyncIterator, Iterator

import attrs
import trio

from attachd.state.asciicast import OUTPUT
from attachd.state.modes import Modes
from attachd_clients.aio import unwrapped
from attachd_clients.questions import Unasked
from attachd_clients.recording.casts import Cast, Happening, Pace
from attachd_clients.recording.reading import read_lines
from attachd_clients.recording.writing import write_all

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.define(eq=False)
class Player:
    """One showing. A terminal gets no questions: it would answer them to our own shell.

    ``name`` is the file's, for people; ``limit`` in seconds goes before what the file says.
    """

    _name: str
    _fd: int
    _speed: float = 1.0
    _limit: float | None = None
    _is_terminal: bool = attrs.field(factory=lambda: os.isatty(1))
    _signal: int = 0
    _modes: Modes = attrs.field(factory=Modes)
    _questions: Unasked = attrs.field(factory=Unasked)

    async def run(self) -> int:
        """Show everything; return the signal that has ended it, or 0.

        Whatever was set on the terminal is undone then, also when the recording is cut short:
        that raises UsageError, and so does what is no recording. BrokenPipeError: nobody looks
        any more.
        """
        with trio.open_signal_receiver(*_STOPPING) as signals, _quiet_keys():
            try:
                async with unwrapped(), trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                    await self._show()
                    nursery.cancel_scope.cancel()
            finally:
                if self._is_terminal:
                    with contextlib.suppress(OSError):  # it may have vanished
                        os.write(1, self._modes.undo())
        return self._signal

    async def _show(self) -> None:
        async with contextlib.aclosing(read_lines(self._fd, self._name)) as lines:
            cast = Cast.begin(self._name, await anext(lines, b""))
            pace = Pace(self._speed, self._limit or cast.idle_limit or math.inf)
            begin = trio.current_time()
            async for line in lines:
                event = cast.take(line)
                if event is not None:
                    await trio.sleep_until(begin + pace.due(event.time))
                    await self._show_event(event)

    async def _show_event(self, event: Happening) -> None:
        if event.code == OUTPUT:
            await self._write(event.data.encode(errors="replace"))

    async def _write(self, data: bytes) -> None:
        if self._is_terminal:
            data = self._questions.feed(data)
            self._modes.feed(data)
        await write_all(1, data)

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """Stop on ctrl-C. Ends by that, or when cancelled."""
        async for number in signals:
            self._signal = number
            scope.cancel()
            return


@contextlib.contextmanager
def _quiet_keys() -> Iterator[None]:
    """Keep what is typed off the screen, and out of the shell's next line; ctrl-C is heeded."""
    try:
        saved = termios.tcgetattr(0)
    except termios.error:
        yield
        return
    quiet = [*saved]
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(0, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSAFLUSH, saved)
