"""``attach`` in front of a person: a container's terminal in ours, until it ends or we leave.

Keys go to the program as bytes; only the detach keys are ours. What is typed is never waited
for: while a program does not read, the screen, the size and the detach keys go on.
"""

import os
import signal
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import attrs
import trio

from attachd.state.keys import HOLD_SECONDS, DetachKeys
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd_clients.aio import Client, unwrapped
from attachd_clients.questions import Unasked
from attachd_clients.terminal import SAVE_TITLE, Gone, Terminal

if TYPE_CHECKING:
    from attachd_clients.rebuild import Rebuild

#: How much may be typed ahead of a program that does not read; then the keys wait, too.
MAX_PENDING = 16 << 20

#: After a gap the program is asked to draw anew, as soon as no gap has come for so long.
QUIET_SECONDS = 0.3

#: A change of size and back is two wishes; between them a program sees the first one.
JIGGLE_SECONDS = 0.1

_CTRL_C = b"\x03"

#: Everything that would end us by default and leave the terminal as it is.
_LEAVING = (
    signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT,
    signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU,
)  # fmt: skip


@attrs.frozen
class Left:
    """Why the person is no longer attached: a signal's number, or 0 for the detach keys."""

    number: int = 0


@attrs.define(eq=False)
class Interactive:
    """One person, one terminal, one client."""

    _client: Client
    _terminal: Terminal
    _keys: DetachKeys
    _typing: bool  #: what is typed goes to the program
    _counts: bool  #: our terminal's size is told
    _rebuild: "Rebuild | None" = None
    _live_from: int = 0  #: output before this offset was for somebody else's eyes
    _left: Left | None = None
    _history: Unasked = attrs.field(factory=Unasked)
    _queued: trio.Event = attrs.field(factory=trio.Event)
    _size: Size = NO_SIZE  #: of the container's terminal
    _bell: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> say.Record | Left:
        """Return the exit record, or why we left. Raises AttachdError when the shim is lost."""
        handled = (*_LEAVING, signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)
        record: say.Record | None = None
        if self._client.welcome is not None:
            self._size = Size(self._client.welcome.columns, self._client.welcome.rows)
        # In this order: no signal may find the terminal raw and end us by its default.
        with trio.open_signal_receiver(*handled) as signals, self._terminal:
            async with unwrapped(), trio.open_nursery() as nursery:
                nursery.start_soon(self._heed_signals, signals, nursery.cancel_scope)
                nursery.start_soon(self._type, nursery.cancel_scope)
                nursery.start_soon(self._send)
                nursery.start_soon(self._redraw_after_gaps)
                record = await self._show()
                nursery.cancel_scope.cancel()
        return self._left or Left() if record is None else record

    # Output

    async def _show(self) -> say.Record | None:
        """Show what comes until the exit record. Ends by cancel when we leave."""
        try:
            self._follow_size()  # it may have changed while we were connecting
            await self._terminal.write(SAVE_TITLE)
            await self._paint_when_due()
            async for event in self._client:
                if isinstance(event, say.Exit):
                    await self._paint()
                    return event.record
                await self._take(event)
        except Gone:
            self._left = Left(signal.SIGHUP)
        return None

    async def _take(self, event: object) -> None:
        match event:
            case say.Output() if self._rebuild is not None:
                self._rebuild.feed(event.data)
                await self._paint_when_due()
            case say.Output() if event.offset < self._live_from:
                await self._terminal.show(self._history.feed(event.data))
            case say.Output():
                await self._terminal.show(self._history.end() + event.data)
            case say.Resized():
                self._size = Size(event.columns, event.rows)
                if self._rebuild is not None:
                    self._rebuild.resize(self._size)
            case say.Gap():
                self._bell.set()
            case say.Writer() if self._rebuild is None:
                await self._tell_writer(event)
            case say.Notice():
                await self._tell(event.text)

    async def _paint_when_due(self) -> None:
        welcome = self._client.welcome
        if self._rebuild and welcome is not None and self._client.offset >= self._rebuild.end:
            await self._paint()

    async def _paint(self) -> None:
        """Draw the screen as the program left it; from here on its output passes through."""
        if self._rebuild is None:
            return
        rebuilt, self._rebuild = self._rebuild, None
        self._terminal.modes = rebuilt.modes
        await self._terminal.write(rebuilt.paint(self._terminal.size))
        if not self._client.may_write:
            await self._tell_writer(say.Writer(name=self._client.writer, you=False))
        if not rebuilt.certain:
            self._bell.set()

    async def _tell_writer(self, writer: say.Writer) -> None:
        if self._typing:
            await self._tell(_who_types(writer))

    async def _tell(self, text: str) -> None:
        """Say something in the middle of a session, where it disturbs the screen least."""
        line = f"attach: {text}".encode()
        if not self._terminal.modes.alternate:
            await self._terminal.write(b"\r\n" + line + b"\r\n")
            return
        size = self._terminal.size
        place = b"\x1b7\x1b[%d;1H\x1b[7m" % size.rows
        await self._terminal.write(place + line[: size.columns - 1] + b"\x1b[0m\x1b[K\x1b8\a")

    async def _redraw_after_gaps(self) -> None:
        """Have the program draw anew when we have missed something. Ends when cancelled."""
        while True:
            await self._bell.wait()
            self._bell = trio.Event()
            with trio.move_on_after(QUIET_SECONDS) as quiet:
                await self._bell.wait()
            size = self._terminal.size
            # Only where the program has our size: somebody else's is not ours to change.
            if (
                quiet.cancelled_caught
                and self._counts
                and size == self._size
                and size.rows > 1
            ):
                self._client.queue_size(size._replace(rows=size.rows - 1))
                self._queued.set()
                await trio.sleep(JIGGLE_SECONDS)
                self._follow_size()

    # Keys

    async def _type(self, scope: trio.CancelScope) -> None:
        """Pass keys on until the detach keys are typed. Ends by that, or when cancelled."""
        done = False
        try:
            while not done:
                done = await self._next_keys()
            self._left = Left()
        except Gone:
            self._left = Left(signal.SIGHUP)
        scope.cancel()

    async def _next_keys(self) -> bool:
        """Read once, and pass on what is not ours; return True for the detach keys."""
        limit = trio.current_time() + HOLD_SECONDS if self._keys.holding else float("inf")
        await self._client.wait_pending(MAX_PENDING)
        data = None
        with trio.move_on_at(limit):
            data = await self._terminal.read()
        if data is None:
            await self._pass_on(self._keys.flush())
            return False
        passed, matched = self._keys.feed(data)
        if not self._typing and _CTRL_C in passed:
            return True  # there is nobody to send it to, and it must mean something
        await self._pass_on(passed)
        return matched

    async def _pass_on(self, data: bytes) -> None:
        if data and self._typing and self._client.may_write:
            self._client.queue(data)
            self._queued.set()
        elif data and self._typing:
            await self._terminal.write(b"\a")  # it goes nowhere

    # Signals

    async def _heed_signals(
        self, signals: AsyncIterator[int], scope: trio.CancelScope
    ) -> None:
        """Follow the size; leave on SIGTERM and SIGHUP. Ends by that, or when cancelled."""
        async for number in signals:
            if number in _LEAVING:
                self._left = Left(number)
                scope.cancel()
                return
            if number == signal.SIGTSTP:
                self._terminal.lend()
                os.kill(os.getpid(), signal.SIGSTOP)
            if number in (signal.SIGTSTP, signal.SIGCONT):
                self._terminal.take_again()
                self._bell.set()  # a shell has written on the screen
            self._follow_size()

    def _follow_size(self) -> None:
        if self._counts:
            self._client.queue_size(self._terminal.size)
            self._queued.set()

    async def _send(self) -> None:
        """Send what is queued: nobody else waits for a server that does not read."""
        while True:
            await self._queued.wait()
            self._queued = trio.Event()
            await self._client.flush()


def _who_types(writer: say.Writer) -> str:
    if writer.you:
        return "you alone may type now" if writer.name else "everybody may type again"
    if not writer.name:
        return "your turn to type was taken; attach again to type"
    return f"{writer.name} alone may type now; you are looking on"
