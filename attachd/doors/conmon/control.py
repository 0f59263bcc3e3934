"""The FIFOs ``ctl`` and ``winsz``: lines that change the terminal's size or reopen the logs."""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from attachd.state.sizes import Size

#: conmon's own bound on a line; and a terminal's sides.
MAX_LINE = 199
MAX_SIDE = 1000

#: What is said in ``ctl``.
RESIZE, REOPEN = 1, 2

_CONTROL = re.compile(rb"\s*([0-9]+)\s+([0-9]+)\s+([0-9]+)(?:\s.*)?")
_SIZE = re.compile(rb"\s*([0-9]+)\s+([0-9]+)(?:\s.*)?")


class Order(NamedTuple):
    """One line of ``ctl``."""

    kind: int
    size: Size


def parse_control(line: bytes) -> Order | None:
    """Return what a line of ``ctl`` orders; None for one that orders nothing."""
    found = _CONTROL.fullmatch(line)
    if found is None:
        return None
    kind, rows, columns = (int(group) for group in found.groups())
    if kind not in (RESIZE, REOPEN) or max(rows, columns) > MAX_SIDE:
        return None
    return Order(kind, Size(columns, rows))


def parse_size(line: bytes) -> Size | None:
    """Return the size in a line of ``winsz``; None for one that has none."""
    found = _SIZE.fullmatch(line)
    if found is None:
        return None
    rows, columns = (int(group) for group in found.groups())
    return Size(columns, rows) if max(rows, columns) <= MAX_SIDE else None


def last_size(data: bytes) -> Size | None:
    """Return the last usable size that whole lines of ``ctl`` order, if any does."""
    orders = [parse_control(line) for line in data.split(b"\n")[:-1]]
    sizes = [order.size for order in orders if order is not None and order.kind == RESIZE]
    return next((size for size in reversed(sizes) if size.usable), None)


class Lines:
    """Puts lines together that come in pieces; one that is too long drops itself alone."""

    def __init__(self) -> None:
        self._rest = b""
        self._skips = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that are whole now, without their ends."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._skips and lines:
            del lines[0]
            self._skips = False
        if len(self._rest) > MAX_LINE:
            self._rest, self._skips = b"", True
        return [line for line in lines if len(line) <= MAX_LINE]


def read_lines(fd: int, lines: Lines, take: Callable[[bytes], None]) -> None:
    """Read what lies in a FIFO, and take each line that became whole."""
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return
    for line in lines.feed(data):
        take(line)
