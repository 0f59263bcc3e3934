"""Where ``attachctl follow-all`` hands records to: files, a command, or a socket.

A sink is given records with the memo that it returned before, and returns the one to commit with
the position behind them. What it does between two commits it may have to do again.
"""

import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

import attrs
import trio

from attachd.errors import UsageError
from attachd.wire import messages as say
from attachd_clients.cursor import Json
from attachd_clients.lines import Line
from attachd_clients.telling import Sheet, as_json, tell_gap
from attachd_clients.trail import Record

#: A reader that is gone is looked for so often.
_RETRY_SECONDS = 0.2

#: A command may finish for so long after its stdin was closed.
_FINISH_SECONDS = 5.0


class Sink(Protocol):
    """Takes records of many containers."""

    def begin(self, container: str, memo: Json) -> Json:
        """Undo what was done for a container after ``memo``; return the memo to commit now."""

    async def put(self, container: str, records: list[Record], memo: Json) -> Json:
        """Hand records on; return the memo to commit. On cancel: they may have been handed on."""


def as_text(container: str, records: list[Record], sheet: Sheet) -> bytes:
    """Return lines as text, and what is missing between them; exits are not told."""
    lines = [record for record in records if isinstance(record, Line)]
    if len(lines) == len(records):
        return sheet.add(container, lines)
    parts: list[bytes] = []
    for record in records:
        if isinstance(record, Line):
            parts.append(sheet.add(container, [record]))
        elif isinstance(record, say.Gap):
            parts += (sheet.end_line(), f"attachd: {tell_gap(record)}\n".encode())
        elif isinstance(record, say.Exit) and sheet.open:
            sheet.open = (
                "ended"  # nobody's: another container of this id begins a line of its own
            )
    return b"".join(parts)


@attrs.frozen
class Files:
    """A file for each container, ``ID.log``, with everything in it exactly once.

    The memo is the file's size, and whose unfinished line it ends with: a file that is longer is
    cut back. Raises UsageError when it cannot be written.
    """

    directory: str
    text: bool

    def begin(self, container: str, memo: Json) -> Json:
        """Cut the file back to where the memo says."""
        size, rest = _file_memo(memo)
        with _writing(self._path(container)) as fd:
            found = os.fstat(fd).st_size
            size = found if size is None else min(size, found)
            os.ftruncate(fd, size)
        return {"size": size, "open": rest}

    async def put(self, container: str, records: list[Record], memo: Json) -> Json:
        """Append the records; no checkpoint is between them and the return."""
        await trio.lowlevel.checkpoint()
        size, rest = _file_memo(memo)
        sheet = Sheet(open=rest)
        make = as_text(container, records, sheet) if self.text else as_json(container, records)
        with _writing(self._path(container)) as fd:
            left = memoryview(make)
            while left:
                left = left[os.write(fd, left) :]
        return {"size": (size or 0) + len(make), "open": sheet.open}

    def _path(self, container: str) -> str:
        return os.path.join(self.directory, f"{container}.log")


def _file_memo(memo: Json) -> tuple[int | None, str]:
    """Return size and open line of a file's memo; no size when there is no memo."""
    if not isinstance(memo, dict) or not isinstance(memo.get("size"), int):
        return None, ""
    return int(str(memo["size"])), str(memo.get("open") or "")


@contextlib.contextmanager
def _writing(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


#: Opens what is written to; raises OSError while there is nobody.
Opener = Callable[[], contextlib.AbstractAsyncContextManager[trio.abc.SendStream]]


class Stream:
    """One stream for all containers, opened again when its reader has gone.

    At least once: what was sent and not committed is sent again. What lay unread in a pipe or a
    socket when its reader died is the reader's loss.
    """

    def __init__(self, opener: Opener, *, text: bool) -> None:
        self._opener = opener
        self._text = text
        self._sheet = Sheet()
        self._turn = trio.Lock()
        self._stream: trio.abc.SendStream | None = None
        self._stack = contextlib.AsyncExitStack()

    def begin(self, _container: str, memo: Json) -> Json:
        """Nothing can be undone."""
        return memo

    async def put(self, container: str, records: list[Record], memo: Json) -> Json:
        """Send the records; wait for a reader for as long as it takes."""
        async with self._turn:
            while not await self._send(self._told(container, records)):
                await self.close()
                await trio.sleep(_RETRY_SECONDS)
        return memo

    async def close(self) -> None:
        """Let the reader come to its end."""
        stack, self._stack, self._stream = self._stack, contextlib.AsyncExitStack(), None
        self._sheet = Sheet()
        await stack.aclose()

    def _told(self, container: str, records: list[Record]) -> bytes:
        if not self._text:
            return as_json(container, records)
        self._sheet.prefixes = {container: f"{container} | ".encode()}
        return as_text(container, records, self._sheet)

    async def _send(self, data: bytes) -> bool:
        """Return False when nobody has taken all of it."""
        try:
            if self._stream is None:
                self._stream = await self._stack.enter_async_context(self._opener())
            await self._stream.send_all(data)
        except (OSError, trio.BrokenResourceError):
            return False
        return True


@contextlib.asynccontextmanager
async def open_command(command: str) -> AsyncIterator[trio.abc.SendStream]:
    """Run a shell's command; give its stdin. It is given time to finish, then killed."""
    process = await trio.lowlevel.open_process(
        ["/bin/sh", "-c", command], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        yield process.stdin
    finally:
        with trio.move_on_after(_FINISH_SECONDS) as patience:
            patience.shield = True
            await process.stdin.aclose()
            await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def open_socket(path: str) -> AsyncIterator[trio.abc.SendStream]:
    """Connect to a Unix stream socket."""
    async with await trio.open_unix_socket(path) as stream:
        yield stream
