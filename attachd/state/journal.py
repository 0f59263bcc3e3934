"""Output as entries of systemd's journal: lines put together, and the datagrams that carry them.

The fields are those that conmon and docker send, so that ``podman logs`` and ``journalctl
CONTAINER_NAME=…`` find them. Source of the datagrams: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
"""

import re
import struct
from typing import NamedTuple

from attachd.errors import UsageError
from attachd.state.ring import STDERR, STDOUT

#: The name of the log format, and where journald listens (systemd-journald.service(8)).
FORMAT = "journald"
SOCKET = "/run/systemd/journal/socket"

#: The first characters of a container's id are its short one, as podman and docker tell it.
SHORT_ID = 12

#: The longest text of one entry; a longer line is cut into pieces. What conmon reads at once
#: (STDIO_BUF_SIZE).
LONGEST = 8192

#: syslog(3)'s numbers for "informational" and "error": what ``podman logs`` knows streams by.
PRIORITIES = {STDOUT: 6, STDERR: 3}

_PRIORITY = re.compile(rb"<([0-7])>")
_LABEL_NAME = re.compile(r"[A-Z0-9_]+", re.ASCII)


class Journal(NamedTuple):
    """What entries tell of their container besides its id; empty text for nothing."""

    tag: str = ""  #: CONTAINER_TAG, and SYSLOG_IDENTIFIER
    name: str = ""  #: CONTAINER_NAME, and SYSLOG_IDENTIFIER where there is no tag
    labels: tuple[str, ...] = ()  #: fields of the caller's own, ``NAME=VALUE`` each
    partial: bool = True  #: pieces of lines have CONTAINER_PARTIAL_MESSAGE=true


def check_label(label: str) -> None:
    """Raise UsageError when a label is not ``NAME=VALUE`` with a name that journald takes."""
    name, equals, value = label.partition("=")
    if not name or not equals or "=" in value:
        raise UsageError(
            f"Container labels must be in format LABEL=VALUE, and {label!r:.80} is not"
        )
    if not _LABEL_NAME.fullmatch(name):
        raise UsageError(
            "Container label names must contain only uppercase letters, numbers and underscore,"
            f" and {name!r:.80} does not"
        )


class Piece(NamedTuple):
    """A line of one stream with its newline, or a piece of one; [start, end) has other output,
    too, where the other stream has spoken meanwhile."""

    stream: int
    start: int
    end: int
    data: bytes
    begins: bool  #: its first byte is a line's first

    @property
    def whole(self) -> bool:
        """False when its line goes on."""
        return self.data.endswith(b"\n")


class Joiner:
    """Chunks of output in, lines and pieces out: each stream's lines are whole by themselves.

    ``unfinished``: bit N is set when the last piece of stream N that went out has no newline.
    """

    def __init__(self, unfinished: int = 0) -> None:
        self._unfinished = unfinished
        self._held: dict[int, tuple[int, int, bytes]] = {}  #: stream -> start, end, text

    @property
    def start(self) -> int | None:
        """The offset of the first byte that is held, or None."""
        return min((start for start, _, _ in self._held.values()), default=None)

    @property
    def size(self) -> int:
        """How many bytes are held: less than LONGEST of each stream."""
        return sum(len(text) for _, _, text in self._held.values())

    def feed(self, stream: int, offset: int, data: bytes) -> list[Piece]:
        """Take output; return the pieces that it completes, in order."""
        start, _, held = self._held.pop(stream, (offset, offset, b""))
        text, end, at = held + data, offset + len(data), 0
        found: list[Piece] = []
        while cut := _cut(text, at):
            after = end - (len(text) - cut)  # less than LONGEST were held: the cut is in data
            found.append(self._piece(stream, start, after, text[at:cut]))
            start, at = after, cut
        if at < len(text):
            self._held[stream] = (start, end, text[at:])
        return found

    def flush(self) -> list[Piece]:
        """Return what is held, as pieces."""
        held, self._held = self._held, {}
        return [self._piece(stream, *held[stream]) for stream in sorted(held)]

    def _piece(self, stream: int, start: int, end: int, data: bytes) -> Piece:
        piece = Piece(stream, start, end, data, begins=not self._unfinished >> stream & 1)
        self._unfinished = unfinished_after(piece, self._unfinished)
        return piece


def unfinished_after(piece: Piece, unfinished: int) -> int:
    """Return which streams' lines are unfinished when ``piece`` has gone out, too."""
    bit = 1 << piece.stream
    return unfinished & ~bit if piece.whole else unfinished | bit


def _cut(text: bytes, at: int) -> int:
    """Return where the piece that begins at ``at`` ends; 0 while nobody knows."""
    newline = text.find(b"\n", at, at + LONGEST)
    if newline >= 0:
        return newline + 1
    return at + LONGEST if len(text) - at >= LONGEST else 0


class Entries:
    """Pieces in, datagrams out; all that is the same in each is made once."""

    def __init__(self, container: str, journal: Journal) -> None:
        short = container[:SHORT_ID]
        fields = {"CONTAINER_ID_FULL": container, "CONTAINER_ID": short}
        fields |= {"CONTAINER_TAG": journal.tag} if journal.tag else {}
        fields |= {"CONTAINER_NAME": journal.name} if journal.name else {}
        fields["SYSLOG_IDENTIFIER"] = journal.tag or journal.name or short
        labels = [label.partition("=")[::2] for label in journal.labels]
        self._same = b"".join(_field(*pair) for pair in (*fields.items(), *labels))
        self._partial = b"CONTAINER_PARTIAL_MESSAGE=true\n" if journal.partial else b""

    def of_piece(self, piece: Piece) -> bytes:
        """Return a piece's datagram. ``<3>`` at a line's beginning is its priority
        (sd-daemon(3)), and no part of the message."""
        priority, text = PRIORITIES[piece.stream], piece.data
        if piece.begins and (found := _PRIORITY.match(text)):
            priority, text = int(found[1]), text[found.end() :]
        return self._entry(text, priority, b"" if piece.whole else self._partial)

    def of_gap(self, size: int, reason: str) -> bytes:
        """Return a datagram that tells of ``size`` bytes of output which are missing."""
        text = f"attachd: {size} bytes of output are missing here: {reason}\n"
        return self._entry(text.encode(), PRIORITIES[STDERR], b"")

    def _entry(self, text: bytes, priority: int, more: bytes) -> bytes:
        return b"".join(
            (_data_field(b"MESSAGE", text), b"PRIORITY=%d\n" % priority, self._same, more)
        )


def _field(name: str, value: str) -> bytes:
    return _data_field(name.encode(), value.encode(errors="surrogateescape"))


def _data_field(name: bytes, value: bytes) -> bytes:
    """Return a field; a value with a newline has its length before it, 64 bits little-endian."""
    if b"\n" not in value:
        return name + b"=" + value + b"\n"
    return name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
