"""Where a recording goes: a file that is whole lines at any moment, or our stdout."""

import os
import select
import stat

import attrs
import trio

from attachd.errors import UsageError

_STDOUT = "-"


async def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; a reader that does not read makes only us wait.

    What poll says is writable takes PIPE_BUF bytes without blocking (pipe(7)); a file takes all
    of it, without a checkpoint. On cancel: a part was written. Raises OSError.
    """
    rest, has_reader = memoryview(data), _has_reader(fd)
    while rest:
        if has_reader:
            await trio.lowlevel.wait_writable(fd)
        rest = rest[os.write(fd, rest[: select.PIPE_BUF] if has_reader else rest) :]


def _has_reader(fd: int) -> bool:
    """True where somebody must take what we write; epoll knows no others (epoll_ctl(2), EPERM)."""
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


@attrs.define(eq=False)
class Outfile:
    """The recording as it grows. Each write is whole lines.

    Whoever kills us with SIGKILL can cut only the line that is being written at that moment.
    """

    path: str
    _fd: int
    _size: int = 0  #: of all whole lines
    _is_whole: bool = True

    @classmethod
    def open(cls, path: str, *, overwrite: bool) -> "Outfile":
        """Make the file, which nobody else may read; ``-`` is stdout.

        Raises UsageError when it cannot be made, or is there and not to be overwritten.
        """
        if path == _STDOUT:
            return cls(path, 1)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        try:
            flags |= os.O_TRUNC if overwrite or _is_device(path) else os.O_EXCL
            return cls(path, os.open(path, flags, 0o600))
        except FileExistsError:
            raise UsageError(
                f"{path} is there already: add --overwrite, or name another"
            ) from None
        except OSError as error:
            raise _cannot(path, error) from None

    async def add(self, lines: bytes) -> None:
        """Append whole lines; what cannot be written whole is taken back.

        Raises UsageError, or BrokenPipeError when nobody reads our stdout any more. On cancel: as
        `write_all`; nothing may be added then.
        """
        if not lines or not self._is_whole:
            return
        self._is_whole = False
        try:
            await write_all(self._fd, lines)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back()
            raise _cannot(self.path, error) from None
        self._size += len(lines)
        self._is_whole = True

    def close(self) -> None:
        """Nothing more comes."""
        if self._fd > 2:
            os.close(self._fd)

    def _take_back(self) -> None:
        if self.path != _STDOUT and stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.ftruncate(self._fd, self._size)


def _is_device(path: str) -> bool:
    """True for what is there and keeps nothing: a device, a FIFO."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _cannot(path: str, error: OSError) -> UsageError:
    return UsageError(f"cannot write {path}: {error.strerror}")
