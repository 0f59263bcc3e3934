"""The container's pseudoterminal: its output into the ring, its size, and how it takes a line.

Output goes from the terminal into a pipe of our own and from there into the ring, since
splice(2) wants a pipe on one side; both ends of it are in the keeper's hands, too.
"""

import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Awaitable, Callable

import trio

from attachd.keeper.console import set_size
from attachd.live.feed import Feed
from attachd.live.pump import move
from attachd.state.canonical import LineRules
from attachd.state.ring import STDOUT
from attachd.state.sizes import Size

#: What the inner pipe takes at once; a terminal holds little more than 64 KiB (tty_buffer.c).
STEP_BYTES = 64 * 1024

#: EIO says that no program has the terminal open; a program may still come, so it is asked
#: again in a while, since a descriptor that is hung up is always "ready".
CLOSED_SECONDS = 0.05

#: After the container's end EIO has been seen before the last 4 KiB, which the kernel was still
#: moving: only this many in a row, with pauses, are the end.
LAST_READS = 5
LAST_SECONDS = 0.003


class Terminal:
    """The master's side. Everybody who holds it shares its flags: it never blocks."""

    def __init__(self, feed: Feed, fd: int, inner_read: int, inner_write: int) -> None:
        self.fd = fd
        self._feed = feed
        self._inner_read = inner_read
        self._inner_write = inner_write
        self._held = self._count_held()  #: bytes in the inner pipe, which wait for room

    async def pump(self, wait_exit: Callable[[], Awaitable[None]]) -> None:
        """Move output until the container has ended and nothing more comes; then note the end.

        ``wait_exit`` returns when the container has been reaped. On cancel: what was moved is
        noted; the rest is in the terminal or in the inner pipe.
        """
        silent, feed = 0, self._feed
        while silent < LAST_READS:
            await feed.wait_room()
            try:
                self._step()
                silent = 0
                if self._held == 0:
                    await trio.lowlevel.wait_readable(self.fd)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.fd)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                silent += await self._wait_closed(wait_exit)
        feed.end_stream(STDOUT)

    def _step(self) -> None:
        """Fill the inner pipe unless it holds something, and move what it holds to the ring.

        Raises BlockingIOError when nothing is there, OSError (EIO) when nobody has it open.
        """
        if self._held == 0:
            flags = os.SPLICE_F_NONBLOCK
            self._held = os.splice(self.fd, self._inner_write, STEP_BYTES, flags=flags)
        if self._held:
            limit = min(self._held, self._feed.room())
            self._held -= move(self._feed, self._inner_read, STDOUT, limit)

    def _count_held(self) -> int:
        """Return how many bytes are in the inner pipe: what a death has left there."""
        (held,) = struct.unpack("i", fcntl.ioctl(self._inner_read, termios.FIONREAD, bytes(4)))
        return int(held)

    async def _wait_closed(self, wait_exit: Callable[[], Awaitable[None]]) -> int:
        """Wait before the next look at a terminal that nobody has open; 1 when all are gone."""
        with trio.move_on_after(CLOSED_SECONDS):
            await wait_exit()
            await trio.sleep(LAST_SECONDS)
            return 1
        return 0

    @property
    def size(self) -> Size:
        """The size as the kernel has it; 0x0 when nobody has given it one."""
        rows, columns = termios.tcgetwinsize(self.fd)
        return Size(columns, rows)

    def set_size(self, size: Size) -> None:
        """Change the size; the foreground programs get SIGWINCH when it differs."""
        with contextlib.suppress(OSError):  # after the end there is nobody to tell
            set_size(self.fd, size)

    def line_rules(self) -> LineRules:
        """Return how the terminal takes input now (termios(3)); the master tells its slave's."""
        flags_in, _, _, local, _, _, keys = termios.tcgetattr(self.fd)
        signals = (termios.VINTR, termios.VQUIT, termios.VSUSP)
        ends = [keys[i] for i in (termios.VEOF, termios.VEOL, termios.VEOL2)]
        drops = [keys[termios.VKILL]]
        if local & termios.ISIG and not local & termios.NOFLSH:
            drops += [keys[i] for i in signals]
        returns = b"\r" if flags_in & termios.ICRNL else b""
        return LineRules(
            canonical=bool(local & termios.ICANON),
            ends=b"\n" + returns + _enabled(ends),
            drops=_enabled(drops),
            erase=_enabled([keys[termios.VERASE]]),
        )

    def manners(self) -> dict[str, bool]:
        """Return whether it collects lines, and whether it shows what is typed (termios(3))."""
        local = termios.tcgetattr(self.fd)[3]
        return {"canonical": bool(local & termios.ICANON), "echo": bool(local & termios.ECHO)}

    def end_of_input(self) -> bytes:
        """Return the key that means "no more input": VEOF, ctrl-D unless it was changed."""
        keys = termios.tcgetattr(self.fd)[6]
        return _enabled([keys[termios.VEOF]]) or b"\x04"


def _enabled(keys: list[bytes | int]) -> bytes:
    """Return the keys that are on: 0 is _POSIX_VDISABLE."""
    return b"".join(key for key in keys if isinstance(key, bytes) and key != b"\0")
