"""A terminal's sizes as a part of its output: which one it had when each byte was read."""

from collections.abc import Iterable
from typing import NamedTuple

from attachd.state.sizes import Size

#: A person who drags a window's corner makes some dozens; when there are more changes than this
#: within one ring of output, the oldest are forgotten.
MAX_CHANGES = 256


class Change(NamedTuple):
    """From ``offset`` on the size was this; ``number`` counts all changes from 1."""

    number: int
    offset: int
    time: int  #: ns
    size: Size


class Timeline:
    """All changes that still matter to somebody who reads the output from its oldest byte."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self._changes = list(changes)

    @property
    def changes(self) -> tuple[Change, ...]:
        """The oldest first."""
        return tuple(self._changes)

    @property
    def last(self) -> Change:
        """The size as it is now."""
        return self._changes[-1]

    def note(self, offset: int, time: int, size: Size) -> None:
        """Append a change; one at the same offset has shown nothing to anybody and is replaced."""
        number = self.last.number + 1
        if len(self._changes) > 1 and self.last.offset == offset:
            self._changes.pop()
        self._changes.append(Change(number, offset, time, size))

    def forget(self, oldest: int) -> None:
        """Drop what was over before ``oldest``, the first offset that can still be read."""
        changes = self._changes
        while len(changes) > 1 and (changes[1].offset <= oldest or len(changes) > MAX_CHANGES):
            changes.pop(0)

    def at(self, offset: int) -> Change:
        """Return the change in force at ``offset``; the oldest known one before that."""
        return next(
            (c for c in reversed(self._changes) if c.offset <= offset), self._changes[0]
        )

    def after(self, number: int) -> Change | None:
        """Return the first change later than ``number``, or None."""
        if self.last.number <= number:
            return None
        return next(c for c in self._changes if c.number > number)
