"""stdin's account: which writer's bytes were accepted, exactly, across ``kill -9``.

Accepted bytes are appended to the stdin file; the file's *size* is what was accepted, its kernel
position what was delivered to the container. Each writer (a 16-byte key that its client made up)
counts its own bytes from 0, so that after a lost connection it can be told where to go on.

Before each append the account *marks* whose bytes come next and how things stood; the append
itself moves the size; ``settle`` brings the table up to date. Whoever starts after a death calls
``settle`` with the size as it is: the difference belongs to the mark.
"""

from typing import NamedTuple

from attachd.state.header import MAX_WRITERS, WRITER_WORDS, Header

KEY_BYTES = 16

_HIGH, _LOW, _OWN, _END = range(WRITER_WORDS)


_NO_SLOT = -1


class Writer(NamedTuple):
    """One row of the table: how much of this writer was accepted, and up to where it lies."""

    slot: int  #: -1 when the row was given to another
    own: int  #: own bytes accepted
    end: int  #: offset in the stdin file after its last byte


def _halves(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")


def _key(high: int, low: int) -> bytes:
    return high.to_bytes(8, "big") + low.to_bytes(8, "big")


class Intake:
    """The table of writers over the words of a header."""

    def __init__(self, header: Header, size: int) -> None:
        self._words = header.writers
        self._mark = header.intake_mark
        self._present: dict[bytes, Writer | None] = {}
        self._slots: dict[bytes, int] = {}  #: where a key was last found; the table decides
        self.settle(size)

    def find(self, key: bytes) -> Writer | None:
        """Return what is known of ``key``, or None for a writer never seen (or long forgotten)."""
        halves = _halves(key)
        for slot in (self._slots.get(key, 0), *range(MAX_WRITERS)):
            if self._row(slot)[:2] == halves:
                if len(self._slots) > MAX_WRITERS:
                    self._slots.clear()
                self._slots[key] = slot
                return self._writer(slot)
        return self._present.get(key)

    def keys(self) -> list[bytes]:
        """Return the keys of the writers in the table."""
        rows = [self._row(slot) for slot in range(MAX_WRITERS)]
        return [_key(row[_HIGH], row[_LOW]) for row in rows if row[_END]]

    def hold(self, key: bytes) -> None:
        """Remember a writer that is there, however many others come: for this server's life."""
        self._present[key] = self.find(key)

    def release(self, key: bytes) -> None:
        """The writer has gone: it is known as long as the table knows it."""
        self._present.pop(key, None)

    def mark(self, key: bytes, size: int) -> None:
        """Say whose bytes are appended next, while the file has ``size`` bytes. Repeatable.

        A new writer takes the row whose last byte is the oldest.
        """
        writer = self.find(key) or self._oldest()._replace(own=0)
        if writer.slot < 0:
            writer = writer._replace(slot=self._oldest().slot)
        self._mark.store(writer.slot, size, writer.own, *_halves(key))

    def settle(self, size: int) -> None:
        """Book what was appended since the mark: the file has ``size`` bytes now. Repeatable."""
        slot, before, own, high, low = self._mark.read()
        if size <= before:
            return
        at = slot * WRITER_WORDS
        self._words[at + _HIGH] = high
        self._words[at + _LOW] = low
        self._words[at + _OWN] = own + size - before
        self._words[at + _END] = size
        key = _key(high, low)
        if key in self._present:
            self._present[key] = Writer(_NO_SLOT, own + size - before, size)

    def _row(self, slot: int) -> tuple[int, ...]:
        return tuple(self._words[slot * WRITER_WORDS : (slot + 1) * WRITER_WORDS])

    def _writer(self, slot: int) -> Writer:
        row = self._row(slot)
        return Writer(slot, row[_OWN], row[_END])

    def _oldest(self) -> Writer:
        return min((self._writer(slot) for slot in range(MAX_WRITERS)), key=lambda w: w.end)
