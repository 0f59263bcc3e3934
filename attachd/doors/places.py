"""Where each guest is in output and input: shared memory that outlives a server.

One memfd, which the keeper holds: a slot for each guest, of aligned 64-bit words, each stored
whole (`state.header` says why that is enough).
"""

import mmap
import os
from collections.abc import Container

#: Key high, key low (0: the slot is free), offset of the output that comes next.
_KEY, _KEY_LOW, _OFFSET, _WORDS = 0, 1, 2, 3

#: How many guests may be there at once; a page. conmon has no limit but its descriptors.
MOST = 170

#: The word behind all slots: 1 when the manager was told of the end.
_TOLD = MOST * _WORDS

_BYTES = 8
_ALL_BYTES = (_TOLD + 1) * _BYTES


def make() -> int:
    """Return the memfd for all guests of one container."""
    fd = os.memfd_create("attachd-guests", os.MFD_CLOEXEC)
    os.ftruncate(fd, _ALL_BYTES)
    return fd


class Place:
    """One guest's slot."""

    def __init__(self, words: memoryview, number: int) -> None:
        self.number = number
        self._words = words
        self._at = number * _WORDS

    @property
    def key(self) -> bytes:
        """The guest's key as a writer of stdin."""
        pair = self._words[self._at + _KEY : self._at + _KEY_LOW + 1]
        return b"".join(word.to_bytes(_BYTES, "big") for word in pair)

    @property
    def offset(self) -> int:
        """Output before this was given to it."""
        return int(self._words[self._at + _OFFSET])

    @offset.setter
    def offset(self, offset: int) -> None:
        self._words[self._at + _OFFSET] = offset

    @property
    def is_free(self) -> bool:
        """True while it is nobody's."""
        return not self._words[self._at + _KEY]

    def take(self, offset: int) -> None:
        """Make it somebody's: a new key, and the offset where it begins."""
        key = os.urandom(2 * _BYTES)
        self._words[self._at + _OFFSET] = offset
        self._words[self._at + _KEY_LOW] = int.from_bytes(key[_BYTES:], "big")
        self._words[self._at + _KEY] = int.from_bytes(key[:_BYTES], "big") | 1

    def free(self) -> None:
        """Make it nobody's."""
        self._words[self._at + _KEY] = 0


class Places:
    """All slots, and how far the end was told."""

    def __init__(self, fd: int) -> None:
        self._words = memoryview(mmap.mmap(fd, _ALL_BYTES)).cast("Q")
        self._all = [Place(self._words, number) for number in range(MOST)]

    def __getitem__(self, number: int) -> Place:
        return self._all[number]

    @property
    def told(self) -> bool:
        """True when the manager was told of the end, and has perhaps begun anew."""
        return bool(self._words[_TOLD])

    def note_told(self) -> None:
        """The manager was told of the end."""
        self._words[_TOLD] = 1

    def free_all_but(self, taken: Container[int]) -> None:
        """Free what a server has taken that died before it had a guest for it, or after."""
        for place in self._all:
            if place.number not in taken:
                place.free()

    def find_free(self) -> Place | None:
        """Return a slot that is nobody's; None when there is none."""
        return next((place for place in self._all if place.is_free), None)
