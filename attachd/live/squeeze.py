"""Compression of rotated logs, in a child of low priority, one file after the other.

The child only writes beside the file; the server puts the result in its place. A server that
dies leaves a file that is not compressed, and its successor begins again.
"""

import contextlib
import logging
import os
import shutil

import trio

from attachd.keeper import files
from attachd.keeper.processes import clean_environment
from attachd.live.logfile import LogFile
from attachd.live.shelf import Shelf

#: Method -> what the file's name gets, and the program, which reads stdin and writes stdout.
METHODS = {"gzip": (".gz", ["gzip", "-c"]), "zstd": (".zst", ["zstd", "-q", "-c"])}

_log = logging.getLogger(__name__)


async def squeeze(log: LogFile, shelf: Shelf, method: str) -> None:
    """Compress each rotated file of a log. Ends when cancelled: then one may stay as it is.

    A file that cannot be compressed (no program, no room) stays, and is tried again when the
    next one comes.
    """
    suffix, argv = METHODS[method]
    while True:
        while (path := shelf.next_to_squeeze()) is not None:
            if not await _squeeze_one(shelf, path, suffix, argv):
                break
            log.tidy()
        await log.rotated.wait()


async def _squeeze_one(shelf: Shelf, path: str, suffix: str, argv: list[str]) -> bool:
    beside = f"{path}{suffix}.new"
    try:
        status = await _run(path, beside, argv)
        if status == 0:
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                shelf.squeezed(path, beside, suffix)
            return True
        _log.error("%s of %s has ended with %d", argv[0], path, status)
    except OSError as error:
        _log.error("cannot compress %s: %s", path, error)
    finally:
        files.remove_file(beside)
    return False


async def _run(path: str, beside: str, argv: list[str]) -> int:
    """Run the child from one file to the other; return its status. On cancel: it is killed."""
    nice = shutil.which("nice")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    files.remove_file(beside)
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        sink = os.open(beside, flags, 0o600)
        try:
            done = await trio.run_process(
                [*([nice, "-n", "19"] if nice else []), *argv],
                stdin=source,
                stdout=sink,
                check=False,
                env=clean_environment(os.environ),
            )
            os.fsync(sink)
        finally:
            os.close(sink)
    finally:
        os.close(source)
    return done.returncode
