"""The header: what must survive the server's death and is not a kernel position already.

One memfd, mapped by keeper and server, seen as aligned 64-bit words. Two rules make it safe
against ``kill -9`` at any instruction:

1. One word is one store (CPython stores an item of a ``"Q"`` memoryview with one 8-byte move).
   Words that belong together live in a *pair*: two slots and a word that says which one holds.
   The idle slot is filled first, then the word is flipped.
2. Each step can be repeated: whoever starts finds from kernel positions and these words what
   was under way (``ring.Index.recover``, ``intake.Intake.recover``).

Each word has one writer, named below. The layout is private to one running shim: keeper and
server agree on it through VERSION, and nobody else reads it.
"""

from typing import NamedTuple, overload

#: "attachd" and a layout number; a successor that does not know it must not touch anything.
MAGIC = int.from_bytes(b"attachd\0", "big")
VERSION = 6

#: How many log files may have a cursor of their own.
MAX_LOGS = 4

#: How many writers of stdin are remembered across a lost connection.
MAX_WRITERS = 64


class LogWords(NamedTuple):
    """What is committed of one log; offsets and sizes are bytes.

    ``opened`` to ``cursor`` is a line that is still open, ``lost`` to ``opened`` is output that
    could not be written and is not told in the log yet (or never: it is full); both are mostly
    empty.
    """

    cursor: int = 0  #: output before this was taken from the ring
    opened: int = 0  #: output before this is in the log, or was given up
    lost: int = 0  #: output before this is in the log, or told as missing
    size: int = 0  #: of the file that is being written
    first: int = 0  #: the offset of that file's first byte of output
    start: int = 0  #: the position in the file where our text begins
    inode: int = 0  #: which file it is; 0 for the one that was opened at birth
    unfinished: int = 0  #: bit N is set: the last text of stream N was a piece of a line
    dropped: int = 0  #: output that was not written, in all
    ever: int = 0  #: text that was written, in all, whatever became of the files


LOG_WORDS = len(LogWords._fields)


class JournalWords(NamedTuple):
    """What is committed of a log that is no file, in the words of one: offsets and bytes.

    Output that was not sent yet lies from ``opened`` on, between what was: each stream's lines
    go out when they are whole.
    """

    opened: int = 0  #: output before this was sent, or given up
    stdout: int = 0  #: and stdout's before this
    stderr: int = 0  #: and stderr's before this
    unfinished: int = 0  #: bit N is set: the last entry of stream N was a piece of a line
    owed: int = 0  #: output that was given up, and is not told of yet
    dropped: int = 0  #: output that was given up, in all

    @classmethod
    def read(cls, pair: "Pair") -> "JournalWords":
        """Return what a log's words say."""
        return cls(*pair.read()[: len(cls._fields)])

    def sent(self, stream: int) -> int:
        """Return the offset before which all output of ``stream`` (`state.ring`) was sent."""
        return self.stdout if stream == 1 else self.stderr


#: key high, key low, own bytes accepted, offset in the stdin file after its last byte
WRITER_WORDS = 4

#: slot, size of the stdin file before, own bytes before, key high, key low
INTAKE_MARK_WORDS = 5

#: key high, key low of a client; zeros for none
KEY_WORDS = 2

#: offset, time, stream (1 or 2), bytes of stdout before it
INDEX_WORDS = 4


class Word:
    """One aligned 64-bit word, read and stored whole."""

    def __init__(self, at: int) -> None:
        self._at = at

    @overload
    def __get__(self, header: None, owner: type) -> "Word": ...
    @overload
    def __get__(self, header: "Header", owner: type) -> int: ...
    def __get__(self, header: "Header | None", owner: type) -> "Word | int":
        return self if header is None else header.words[self._at]

    def __set__(self, header: "Header", value: int) -> None:
        header.words[self._at] = value


class Pair:
    """Words that change together: a which-word, then two slots of ``width`` words."""

    def __init__(self, words: memoryview, at: int, width: int) -> None:
        self._words = words
        self._at = at
        self._width = width

    @staticmethod
    def size(width: int) -> int:
        """Return how many words a pair of ``width`` takes."""
        return 1 + 2 * width

    def read(self) -> tuple[int, ...]:
        """Return the slot that holds."""
        first = self._at + 1 + self._width * (self._words[self._at] & 1)
        return tuple(self._words[first : first + self._width])

    def store(self, *values: int) -> None:
        """Fill the idle slot, then flip. A death in between leaves the old values."""
        idle = 1 - (self._words[self._at] & 1)
        first = self._at + 1 + self._width * idle
        for i, value in enumerate(values):
            self._words[first + i] = value
        self._words[self._at] = idle


_LOGS_AT = 64
_MARK_AT = _LOGS_AT + MAX_LOGS * Pair.size(LOG_WORDS)
_WRITERS_AT = _MARK_AT + Pair.size(INTAKE_MARK_WORDS)
_LEASE_AT = _WRITERS_AT + MAX_WRITERS * WRITER_WORDS
_LATEST_AT = _LEASE_AT + Pair.size(KEY_WORDS)
_INDEX_AT = _LATEST_AT + Pair.size(KEY_WORDS)


def header_bytes(index_capacity: int) -> int:
    """Return the size of a header whose index holds ``index_capacity`` records."""
    return 8 * (_INDEX_AT + index_capacity * INDEX_WORDS)


class Header:
    """Names for the words. Construct over a mapping that somebody else keeps open."""

    magic = Word(0)
    version = Word(1)
    ring_size = Word(2)
    index_capacity = Word(3)

    # The keeper's words.
    pid = Word(8)  #: the container's init, 0 until runc create was done
    created = Word(9)  #: 1 when creation worked and its report is out
    exit_code = Word(10)  #: si_code of waitid (CLD_EXITED ...), 0 until the init was reaped
    exit_status = Word(11)  #: si_status: exit code or signal; stored before exit_code
    exit_time = Word(12)  #: when it was reaped, ns
    #: how often the server was started again after a death (an exec's: the server's word)
    restarts = Word(13)
    runtime_pid = Word(14)  #: an exec's: who runs ``runc exec``, 0 before
    #: an exec's: what that ended with when it did not work, as shells tell it
    failed = Word(15)
    base = Word(20)  #: the offset at which this ring begins: of who was taken up again, not 0
    upgrades = Word(17)  #: how often keeper and server were replaced by other code in place

    # Words of whoever runs ``runc start``: the keeper at birth and for execs, the server later.
    started = Word(16)  #: when ``runc start`` had worked, ns, 0 before
    started_clock = Word(18)  #: the same by CLOCK_MONOTONIC, ns; stored before ``started``

    # The server's words.
    oldest = Word(24)  #: output before this offset was given back to the kernel
    records = Word(25)  #: how many index records are committed
    timed_out = Word(26)  #: 1 when --timeout's SIGKILL was decided
    stdin_eof = Word(27)  #: 1 when stdin is to be closed after the bytes accepted so far
    stdin_closed = Word(28)  #: 1 when the keeper, too, must close the container's stdin
    stdin_punched = Word(29)  #: stdin before this offset was given back to the kernel
    ended = Word(30)  #: 1 when the exit record is on disk
    copied = Word(33)  #: 1 when the exit record's copy was written, or given up
    cleaned = Word(31)  #: 1 when the exit command was begun: it is run at most once

    up = Word(32)  #: the pid of the server that is at work; one that cannot start is not

    # The server's counts over all clients, also those that have left.
    served = Word(40)  #: clients that were welcomed
    gaps = Word(41)  #: gaps that clients were told of
    missed = Word(42)  #: bytes in these gaps
    seen = Word(43)  #: 1 when one that may type was given all output and told the end

    def __init__(self, words: memoryview) -> None:
        self.words = words

    def format(self, ring_size: int, index_capacity: int, base: int = 0) -> None:
        """Write the constants into a fresh, zeroed header; the ring begins at offset ``base``."""
        self.ring_size = ring_size
        self.index_capacity = index_capacity
        self.base = self.oldest = base
        self.index[0] = base  # a mark without bytes, as `ring.Index.mark` leaves it
        self.version = VERSION
        self.magic = MAGIC

    @property
    def known(self) -> bool:
        """True when this code may work on this header."""
        return self.magic == MAGIC and self.version == VERSION

    @property
    def why_unknown(self) -> str:
        """For people: why this code may not work on it."""
        if self.magic != MAGIC:
            return "this is no header of attachd"
        return f"the container's state has layout {self.version}, and this attachd knows {VERSION}"

    @property
    def servers_before(self) -> int:
        """How many servers there were before this one."""
        return self.restarts + self.upgrades

    @property
    def index(self) -> memoryview:
        """The words of the ring's index."""
        return self.words[_INDEX_AT : _INDEX_AT + self.index_capacity * INDEX_WORDS]

    @property
    def writers(self) -> memoryview:
        """The words of the table of stdin's writers."""
        return self.words[_WRITERS_AT : _WRITERS_AT + MAX_WRITERS * WRITER_WORDS]

    @property
    def intake_mark(self) -> Pair:
        """What was about to be appended to the stdin file."""
        return Pair(self.words, _MARK_AT, INTAKE_MARK_WORDS)

    @property
    def lease(self) -> Pair:
        """The key of the only writer, so that the lease outlives the server."""
        return Pair(self.words, _LEASE_AT, KEY_WORDS)

    @property
    def latest(self) -> Pair:
        """The key of the client that last did something, whose size may win."""
        return Pair(self.words, _LATEST_AT, KEY_WORDS)

    def log(self, number: int) -> Pair:
        """The committed state of log ``number``, the fields of LogWords."""
        return Pair(self.words, _LOGS_AT + number * Pair.size(LOG_WORDS), LOG_WORDS)
