"""Our own terminal: raw while somebody is attached, and always given back as it was."""

import contextlib
import os
import select
import termios
import tty
from types import TracebackType

import trio

from attachd.state.modes import Modes
from attachd.state.sizes import NO_SIZE, Size

#: How long a terminal that takes nothing is waited for when it is given back.
LAST_WRITE_SECONDS = 1.0

#: Save and restore the title (xterm, "Window manipulation": CSI 22 ; 0 t and CSI 23 ; 0 t).
SAVE_TITLE, RESTORE_TITLE = b"\x1b[22;0t", b"\x1b[23;0t"

_READ_BYTES = 64 * 1024


class Gone(Exception):
    """The terminal has vanished: nobody sits there any more."""


def is_terminal() -> bool:
    """Return whether a person can sit in front of us: stdin and stdout are terminals."""
    return os.isatty(0) and os.isatty(1)


class Terminal:
    """A context manager around descriptors 0 and 1.

    Writes go through a description of our own, which does not block, where the terminal can be
    opened anew: the flags of 0, 1 and 2 belong to whoever started us, too.
    """

    def __init__(self) -> None:
        self.modes = Modes()  #: what the program has set on it
        self._saved = termios.tcgetattr(0)
        self._out = _reopen(1)

    def __enter__(self) -> "Terminal":
        self.make_raw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()

    @property
    def size(self) -> Size:
        """The size; 0x0 when it is unknown."""
        try:
            return Size(*os.get_terminal_size(1))
        except OSError:
            return NO_SIZE

    def make_raw(self) -> None:
        """Every key is a byte from here on."""
        with contextlib.suppress(termios.error):
            tty.setraw(0, termios.TCSANOW)

    def lend(self) -> None:
        """Give it back for a while: a shell is about to use it."""
        self._write_now(self.modes.undo())
        self._restore()

    def take_again(self) -> None:
        """Make it raw again, with the modes that the program has set."""
        self.make_raw()
        self._write_now(self.modes.replay())

    async def read(self) -> bytes:
        """Return what was typed. Raises Gone at the end. On cancel: nothing is taken."""
        while True:
            await trio.lowlevel.wait_readable(0)
            try:
                data = os.read(0, _READ_BYTES)
            except BlockingIOError:
                continue  # somebody else who reads there was faster
            except OSError:
                raise Gone from None
            if not data:
                raise Gone
            return data

    async def show(self, data: bytes) -> None:
        """Write output of the program, and remember what it sets. Raises Gone."""
        self.modes.feed(data)
        await self.write(data)

    async def write(self, data: bytes) -> None:
        """Write bytes of ours. Raises Gone. On cancel: a part may have been written."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._out, rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._out)
            except OSError:
                raise Gone from None

    def give_back(self) -> None:
        """Undo what the program has set, restore the settings; what fails is left."""
        self._write_now(self.modes.undo() + RESTORE_TITLE)
        self._restore()
        if self._out > 2:
            os.close(self._out)

    def _restore(self) -> None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, self._saved)

    def _write_now(self, data: bytes) -> None:
        rest = memoryview(data)
        with contextlib.suppress(OSError):
            while rest:
                _, ready, _ = select.select([], [self._out], [], LAST_WRITE_SECONDS)
                if not ready:
                    return
                rest = rest[os.write(self._out, rest) :]


def _reopen(fd: int) -> int:
    """Return a description of our own that does not block, or ``fd`` where that is denied."""
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(f"/proc/self/fd/{fd}", flags)
    except OSError:
        return fd
