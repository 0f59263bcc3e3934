"""A log as one sequence of output, over all its files and whatever happens to them meanwhile."""

import time
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from functools import partial

from attachd.errors import UsageError
from attachd.history.counting import Chunk, Counter
from attachd.history.segments import Segment
from attachd.history.unpack import TextFile, unreadable
from attachd.state.logparse import GRAMMARS
from attachd.state.ring import Missed

__all__ = ["Chunk", "History", "Missed"]

_Choose = Callable[[list[Segment]], Segment | None]

#: How often files are listed while one is not where it was said to be, and the seconds between:
#: whoever moves a file needs some milliseconds to do it, and to say so.
_TRIES = 5
_PAUSE = 0.01


class History:
    """What the files of a log tell.

    ``list_segments`` is called before each file is opened, in the thread that reads, and tells
    the files as they are then, by offset. Everything here blocks, and raises UsageError when a
    file may not be read, when it is the one being written and is gone, or when zstd is needed
    and is not installed; ``read``'s iterator must be closed, or exhausted.
    """

    def __init__(self, list_segments: Callable[[], list[Segment]], form: str) -> None:
        if form not in GRAMMARS:
            raise UsageError(f"the log's format {form!r:.80} is unknown to this attachd")
        self._list_segments = list_segments
        self._grammar = GRAMMARS[form]
        self.corrupt = 0  #: corrupt lines skipped so far; those read again count again

    def read(self, offset: int) -> Generator[Chunk | Missed, None, None]:
        """Yield all output from ``offset`` on; each item begins where the one before ended.

        Missed is what cannot be had any more: what was in a file that was removed, or cut by
        somebody, in corrupt lines, or in a gap. Where nobody knows how much a corrupt line stood
        for, it is told as about as much as its length says. Ends where the last file's text ends,
        and with nothing when that is not after ``offset``.
        """
        at = offset
        while found := self._open(partial(_at_or_after, at)):
            segment, file = found
            with file or nullcontext(), closing(self._read(segment, file, at)) as items:
                for item in items:
                    yield item
                    at = item.end
            if segment.end is None:
                return

    def newline_before(self, end: int, count: int) -> int:
        """Return the offset just after the count-th newline before offset ``end``, from there.

        That is where the last ``count`` lines begin, when ``end`` is inside a line; newlines at
        ``end`` and behind it do not count. When there are fewer, return the first offset that is
        held, but never one behind ``end``; with 0 return ``end``. Quick near the end of a
        plain file whose size and end are known, else all of that file is read, twice.
        """
        before = end
        while count > 0 and (found := self._open(partial(_before, before))):
            segment, file = found
            before = segment.first
            if file is not None:
                with file:
                    counter = Counter(segment, file, self._grammar)
                    at, count = counter.newline_before(end, count)
                if count == 0:
                    return at
        return min(end, self._first_held()) if count > 0 else end

    def at_time(self, ns: int) -> int:
        """Return the offset of the first output that is not older than ``ns``, or the end of all.

        ``ns`` is in nanoseconds since the Unix epoch. Files are passed over, oldest first, while
        the one behind them begins with older output; the rest is read. So where the clock has
        been set back, output that is new enough and lies in a file passed over, or before older
        output, is found or not: what is returned is the beginning of output that is not older
        than ``ns``, or the end, but perhaps not the first such. A raw log has no times: all is 0.
        """
        at, *later = [segment.first for segment in self._list_segments()] or [0]
        for first in later:
            begun = self._first_time(first)
            if begun is None or begun >= ns:
                break
            at = first
        with closing(self.read(at)) as items:
            for item in items:
                if isinstance(item, Chunk) and item.time >= ns:
                    return item.start
                at = item.end
        return at

    def _read(
        self, segment: Segment, file: TextFile | None, offset: int
    ) -> Generator[Chunk | Missed, None, None]:
        """Yield what one segment has from ``offset`` on; all of it is missed without its file."""
        if file is None:
            assert segment.end is not None
            yield Missed(offset, segment.end)
            return
        counter = Counter(segment, file, self._grammar)
        try:
            yield from counter.read(offset)
        finally:
            self.corrupt += counter.corrupt

    def _first_time(self, offset: int) -> int | None:
        with closing(self.read(offset)) as items:
            return next((item.time for item in items if isinstance(item, Chunk)), None)

    def _first_held(self) -> int:
        """Return the offset of the first output that can be had, or the end of all."""
        end = 0
        with closing(self.read(0)) as items:
            for item in items:
                if isinstance(item, Chunk):
                    return item.start
                end = item.end
        return end

    def _open(
        self, choose: _Choose, tries: int = _TRIES
    ) -> tuple[Segment, TextFile | None] | None:
        """Return the chosen segment and its file, None for a file that is gone for good.

        A file that is not found may have been rotated, packed or removed since it was listed.
        Raises UsageError when it is one whose end nobody knows.
        """
        segment = choose(self._list_segments())
        if segment is None:
            return None
        file = TextFile.open(segment)
        if file is None and tries > 1:
            time.sleep(_PAUSE)
            return self._open(choose, tries - 1)
        if file is None and segment.end is None:
            raise unreadable(segment.path, "it is gone, or another file is in its place")
        return segment, file


def _at_or_after(offset: int, segments: list[Segment]) -> Segment | None:
    """Return the segment that has ``offset``, or else the first one behind it."""
    for segment in reversed(segments):
        if segment.first <= offset and (segment.end is None or offset < segment.end):
            return segment
    return next((segment for segment in segments if segment.first > offset), None)


def _before(offset: int, segments: list[Segment]) -> Segment | None:
    """Return the last segment that begins before ``offset``."""
    return next((segment for segment in reversed(segments) if segment.first < offset), None)
