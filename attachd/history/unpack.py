"""One log file, opened: its text in blocks, whatever it is packed with and whoever renames it.

It knows lines, but not what they say.
"""

import gzip
import os
import stat
import subprocess
import zlib
from collections.abc import Generator
from contextlib import closing
from types import TracebackType

from attachd.errors import UsageError
from attachd.history.segments import Segment

#: As much is read at once: four chunks of a full pipe, and little beside what Python needs.
BLOCK_BYTES = 256 * 1024

#: The longest line that is kept in memory. Ours are below 150 kB: 16 KiB of output, at worst
#: six characters for each byte of it and base64 behind.
LONGEST_LINE = 1024 * 1024


class Unsure(Exception):
    """Going backward has met what only going forward can judge."""


class TextFile:
    """A file of a log. It stays the same file when it is renamed, removed or replaced."""

    def __init__(self, fd: int, segment: Segment) -> None:
        self._fd = fd
        self._path = segment.path
        self._packing = segment.packing

    @classmethod
    def open(cls, segment: Segment) -> "TextFile | None":
        """Return the segment's file, None when it is not there, or another is in its place.

        Raises UsageError when it may not be opened, or is not a file.
        """
        try:
            # O_NONBLOCK: a log can be a FIFO, and nobody is to wait for its other end.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
            fd = os.open(segment.path, flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(segment.path, error.strerror) from None
        found = os.fstat(fd)
        if segment.inode not in (0, found.st_ino):
            os.close(fd)
            return None
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise unreadable(segment.path, "it is not a regular file")
        return cls(fd, segment)

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Iterators that are not exhausted must be closed before."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    @property
    def size(self) -> int | None:
        """How long the text is now; None for a packed file, which does not tell."""
        return None if self._packing else os.fstat(self._fd).st_size

    def blocks(self, start: int, size: int | None) -> Generator[tuple[int, bytes], None, None]:
        """Yield (position of its end, text) from position ``start`` on, cut anywhere.

        Ends at position ``size``, at the end of the file, or where a packed one is damaged.
        """
        at = start
        if size is not None and at >= size:
            return
        with closing(self._reads(start)) as reads:
            for text in reads:
                text = text if size is None else text[: size - at]
                at += len(text)
                yield at, text
                if at == size:
                    return

    def line_blocks(
        self, start: int, size: int | None
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield whole lines, as ``blocks`` does; a last line without its end is left out.

        A line that is too long to be one is an empty line here, as neither is a record.
        """
        held, is_skipped = b"", False
        with closing(self.blocks(start, size)) as blocks:
            for at, text in blocks:
                if is_skipped:
                    text = text[text.find(b"\n") :] if b"\n" in text else b""
                cut = text.rfind(b"\n") + 1
                rest = text[cut:]
                if cut:
                    yield at - len(rest), held + text[:cut]
                    held, is_skipped = rest, False
                elif not is_skipped:
                    held += rest
                if len(held) > LONGEST_LINE:
                    held, is_skipped = b"", True

    def blocks_back(self, start: int, end: int) -> Generator[tuple[int, bytes], None, None]:
        """Yield (position of its start, text), last first, from ``end`` back to ``start``.

        The file must be a plain one. Raises Unsure when it is shorter than ``end``.
        """
        while end > start:
            at = max(start, end - BLOCK_BYTES)
            text = self._pread(end - at, at)
            if len(text) < end - at:
                raise Unsure
            yield at, text
            end = at

    def line_blocks_back(
        self, start: int, end: int
    ) -> Generator[tuple[int, bytes], None, None]:
        """Yield whole lines, as ``blocks_back`` does; ``start`` is the beginning of a line.

        Raises Unsure also when there is no line end at ``end``, or a line is too long.
        """
        held, is_first = b"", True
        for at, text in self.blocks_back(start, end):
            if is_first and not text.endswith(b"\n"):
                raise Unsure
            is_first = False
            cut = text.find(b"\n") + 1 if at > start else 0
            if at > start and not cut:
                held = text + held
            else:
                yield at + cut, text[cut:] + held
                held = text[:cut]
            if len(held) > LONGEST_LINE:
                raise Unsure

    def _reads(self, start: int) -> Generator[bytes, None, None]:
        if not self._packing:
            while text := self._pread(BLOCK_BYTES, start):
                yield text
                start += len(text)
            return
        unpacked = self._gz() if self._packing == "gz" else self._zst()
        with closing(unpacked):
            for text in unpacked:
                if start < len(text):
                    yield text[start:] if start else text
                start = max(0, start - len(text))

    def _pread(self, count: int, position: int) -> bytes:
        try:
            return os.pread(self._fd, count, position)
        except OSError as error:
            raise unreadable(self._path, error.strerror) from None

    def _again(self) -> int:
        """Return a new descriptor of the same file, with a position of its own at its start."""
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(self._path, error.strerror) from None

    def _gz(self) -> Generator[bytes, None, None]:
        with open(self._again(), "rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
            try:
                # read1: read would lose what came before the damage together with it.
                while text := unpacked.read1(BLOCK_BYTES):
                    yield text
            except (OSError, EOFError, zlib.error):
                return

    def _zst(self) -> Generator[bytes, None, None]:
        with open(self._again(), "rb") as file, self._zstd(file.fileno()) as child:
            assert child.stdout
            try:
                while text := child.stdout.read(BLOCK_BYTES):
                    yield text
            finally:
                child.kill()

    def _zstd(self, fd: int) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                ["zstd", "-dcq"],
                stdin=fd,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError:
            raise UsageError(f"zstd is needed to read {self._path}: install it") from None


def unreadable(path: str, reason: str | None) -> UsageError:
    """Return the error of a log that cannot be read."""
    return UsageError(f"cannot read the log {path}: {reason}")
