"""Where the logs of a shim that is gone end, and how its successor goes on in them.

The ring is gone with the shim: what it had not written into a log yet is lost, and nobody knows
how much that was. So output goes on at the offset that follows the last byte of the log that
has most; what another log lacks is told there as a gap.
"""

import os
import stat
import time
from contextlib import closing, suppress
from typing import NamedTuple

from attachd.history.reading import History
from attachd.history.segments import Segment, segments_of
from attachd.keeper import files
from attachd.keeper.config import LogSpec
from attachd.state import journal
from attachd.state.header import Header, JournalWords, LogWords
from attachd.state.logparse import GRAMMARS

_BLOCK = 65536


class Ended(NamedTuple):
    """One log as it was left: the file being written, and the offset after its last byte.

    ``first`` and ``start`` are those of ``logN.json``; ``end`` is None where the exact bytes
    cannot be read again; ``inode`` is 0 when the file is not the one that was being written.
    ``ever`` is how much text is in all files that are there.
    """

    first: int
    start: int
    end: int | None
    inode: int
    ever: int = 0


def look(directory: str, number: int, spec: LogSpec, fd: int) -> Ended:
    """Return how log ``number`` was left; a file's text is cut back to whole lines.

    ``fd`` is of the file that has its name now. Raises UsageError when it cannot be read.
    """
    if spec.format == journal.FORMAT:
        return Ended(0, 0, None, 0)
    _, segments = segments_of(directory, number)
    last, found = segments[-1], os.fstat(fd)
    there = found.st_ino
    if not stat.S_ISREG(found.st_mode):
        return Ended(last.first, last.start, None, there)  # a named pipe, or a device
    if last.inode not in (0, there):
        is_there = _inode_of(last.path) == last.inode
        end = _end_of(segments, spec.format) if is_there else last.first
        return Ended(last.first, 0, end, 0, _text_in(segments))
    if spec.format != "raw":
        _cut_to_lines(fd, last.start)
    end = _end_of(segments, spec.format)
    return Ended(last.first, last.start, end, there, _text_in(segments))


def base_of(found: list[Ended]) -> int:
    """Return the offset at which output goes on."""
    return max((log.end for log in found if log.end is not None), default=0)


def go_on(header: Header, number: int, spec: LogSpec, log: Ended, base: int, fd: int) -> None:
    """Have the server go on in a log: what it lacks before ``base`` it tells as a gap."""
    if spec.format == journal.FORMAT:
        header.log(number).store(*JournalWords(opened=base, stdout=base, stderr=base))
        return
    end = base if log.end is None else log.end
    words = LogWords(cursor=base, opened=base, lost=end, first=base, ever=log.ever)
    if log.inode:
        size = os.fstat(fd).st_size
        words = words._replace(
            size=size, first=log.first, start=log.start, inode=log.inode
        )  # fmt: skip
    header.log(number).store(*words)


def list_other_file(
    directory: str, number: int, spec: LogSpec, log: Ended, base: int, fd: int
) -> None:
    """Add a file that has taken the log's name meanwhile to its list. Raises OSError."""
    if log.inode or spec.format == journal.FORMAT:
        return
    path = os.path.join(directory, files.log_list(number))
    with suppress(OSError, ValueError):
        told = files.read_json(path)
        found = os.fstat(fd)
        entry = {
            "name": os.path.basename(spec.path),
            "first": base,
            "start": found.st_size,
            "inode": found.st_ino,
            "since": time.time_ns(),
        }
        rows = told["files"]
        if isinstance(rows, list):
            files.write_json(path, told | {"files": [*rows, entry]}, indent=None)


def _text_in(segments: list[Segment]) -> int:
    """Return how much text of ours lies in files, as it lies there, compressed or not."""
    total = 0
    for segment in segments:
        with suppress(OSError):
            total += os.stat(segment.path).st_size - segment.start
    return max(0, total)


def _inode_of(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _end_of(segments: list[Segment], form: str) -> int | None:
    """Return the offset after the last byte in the files; None where they have no exact bytes."""
    if form not in GRAMMARS:
        return None
    end = segments[-1].first
    with closing(History(lambda: segments, form).read(end)) as items:
        for item in items:
            end = item.end
    return end


def _cut_to_lines(fd: int, start: int) -> None:
    """Cut off a line that was being written when the writer was killed."""
    end = os.fstat(fd).st_size
    at = end
    while at > start:
        begin = max(start, at - _BLOCK)
        newline = os.pread(fd, at - begin, begin).rfind(b"\n")
        if newline >= 0:
            if begin + newline + 1 < end:
                os.ftruncate(fd, begin + newline + 1)
            return
        at = begin
    if end > start:
        os.ftruncate(fd, start)
