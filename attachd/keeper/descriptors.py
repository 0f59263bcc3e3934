"""Where every descriptor of a shim is born. All are close-on-exec but for the server."""

import array
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import socket
import stat
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from attachd.errors import UsageError
from attachd.keeper import files
from attachd.keeper.config import LogSpec
from attachd.keeper.trust import check_log
from attachd.state import journal
from attachd.state.header import MAX_LOGS, Header, header_bytes
from attachd.state.ring import index_capacity

#: 1 MiB, the most an unprivileged process may ask for (proc(5), pipe-max-size). A bigger pipe
#: means fewer wake-ups: the whole pipe is moved by one splice.
PIPE_BYTES = 1 << 20

#: conmon listens with 10; a burst of clients must not be refused while the server starts.
BACKLOG = 128

#: A container has fewer descriptors of us: 0 to 5 at most.
_BEYOND_STDIO = 8


class Table(NamedTuple):
    """The shim's own descriptors: what the keeper holds, and the server gets by name."""

    directory: int  #: the state directory, with the lock on it
    header: int  #: memfd: the words of state.header
    ring: int  #: memfd: output; its position is the offset of the next byte
    stdout: int  #: read end; with a terminal, of our own pipe between terminal and ring
    intake: int  #: memfd: stdin; size = accepted, position = delivered
    listener: int  #: the socket that clients connect to
    news: int  #: eventfd: keeper to server, "the header's words have changed"
    orders: int  #: eventfd: server to keeper, the same
    parcels: int = -1  #: the server's end of `keeper.parcels`
    kept: Mapping[str, int] = MappingProxyType(
        {}
    )  #: what comes and goes: ``log0`` …, while one is rotated ``log0b``, ``exec/NAME/…``
    stdin: int = -1  #: write end; -1 when the container reads /dev/null or a terminal
    stderr: int = -1  #: read end; -1 with a terminal
    inner: int = -1  #: with a terminal, the write end of the pipe that ``stdout`` reads
    terminal: int = -1  #: the pseudoterminal's master
    keeper: int = -1  #: a pidfd of the keeper
    init: int = -1  #: a pidfd of the container's init, which tells its end also to an heir

    @classmethod
    def of(cls, named: Mapping[str, int]) -> "Table":
        """Return the table of descriptors by name; a name that is no field's is of ``kept``."""
        own = {name: fd for name, fd in named.items() if name in cls._fields}
        kept = {name: fd for name, fd in named.items() if name not in cls._fields}
        return cls(**own, kept=kept)

    def items(self) -> dict[str, int]:
        """Return name -> descriptor, of those that exist."""
        table: dict[str, int] = {k: v for k, v in self._asdict().items() if k != "kept"}
        return {name: fd for name, fd in (table | dict(self.kept)).items() if fd >= 0}


def parse_named(words: Sequence[str]) -> dict[str, int]:
    """Return the descriptors that were passed as ``name=descriptor`` words."""
    return {name: int(fd) for name, _, fd in (word.partition("=") for word in words)}


class Stdio(NamedTuple):
    """Our ends, by their names in the table, and the container's: its descriptors from 0 on.

    The latter are closed as soon as the runtime has them; with a terminal there are none.
    """

    ours: dict[str, int]
    ends: tuple[int, ...]


class Libc:
    """The calls that Python lacks."""

    PR_SET_CHILD_SUBREAPER = 36  #: prctl(2)
    KEEP_SIZE = 0x1  #: fallocate(2)
    PUNCH_HOLE_KEEP_SIZE = 0x3

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        off_t = ctypes.c_int64
        self._libc.fallocate64.argtypes = [ctypes.c_int, ctypes.c_int, off_t, off_t]

    def become_subreaper(self) -> None:
        """Have orphaned descendants re-parented to this process. Raises OSError."""
        self._check(self._libc.prctl(self.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))

    def punch(self, fd: int, start: int, end: int) -> None:
        """Give [start, end) of a file back to the kernel; its size stays. Raises OSError."""
        if end > start:
            mode = self.PUNCH_HOLE_KEEP_SIZE
            self._check(self._libc.fallocate64(fd, mode, start, end - start))

    def peek(self, pipe: int, most: int = 4096) -> bytes:
        """Return what lies in a pipe or FIFO, and leave it there (tee(2)). Raises OSError."""
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = self._libc.tee(pipe, write, ctypes.c_size_t(most), os.SPLICE_F_NONBLOCK)
            return os.read(read, most) if found > 0 else b""
        finally:
            os.close(read)
            os.close(write)

    def allocate_beyond(self, fd: int, size: int) -> None:
        """Have the first ``size`` bytes of a file take their room now; its size stays.

        Raises OSError when there is no room; a file system that cannot do it is no error.
        """
        if size and self._libc.fallocate64(fd, self.KEEP_SIZE, 0, size) != 0:
            error = ctypes.get_errno()
            if error != errno.EOPNOTSUPP:
                raise OSError(error, os.strerror(error))

    @staticmethod
    def _check(result: int) -> None:
        if result != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def map_header(fd: int) -> Header:
    """Return the header in a memfd; the mapping lives as long as the returned object."""
    size = os.fstat(fd).st_size
    return Header(memoryview(mmap.mmap(fd, size)).cast("Q"))


def make_ring(ring_size: int, base: int = 0) -> tuple[int, int]:
    """Return the descriptors of a fresh ring that begins at ``base``, and of its header."""
    _lift_file_size_limit()
    records = index_capacity(ring_size)
    header = os.memfd_create("attachd-header", os.MFD_CLOEXEC)
    os.ftruncate(header, header_bytes(records))
    map_header(header).format(ring_size, records, base)
    ring = os.memfd_create("attachd-ring", os.MFD_CLOEXEC)
    os.lseek(ring, base, os.SEEK_SET)
    return ring, header


def make_table(
    directory: int, ring: int, header: int, parcels: int, stdio: Mapping[str, int]
) -> Table:
    """Return a table of these, and of what each shim has anew: its socket, stdin, two events."""
    return Table(
        directory=directory,
        header=header,
        ring=ring,
        intake=os.memfd_create("attachd-stdin", os.MFD_CLOEXEC),
        listener=make_listener(directory, files.SOCKET),
        news=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        orders=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
        parcels=parcels,
        stdin=stdio.get("stdin", -1),
        stdout=stdio["stdout"],
        stderr=stdio.get("stderr", -1),
        inner=stdio.get("inner", -1),
    )


def make_pipes(stdin: bool) -> Stdio:
    """Return the stdio of a program without a terminal."""
    out_read, out_write = _pipe()
    err_read, err_write = _pipe()
    ours = {"stdout": out_read, "stderr": err_read}
    if stdin:
        in_read, ours["stdin"] = os.pipe2(os.O_CLOEXEC)
    else:
        in_read = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    for fd in ours.values():
        os.set_blocking(fd, False)
    return Stdio(ours, (in_read, out_write, err_write))


def make_ended_pipes() -> Stdio:
    """Return the stdio of a program that has our own: nothing comes to us."""
    ours, ends = make_pipes(stdin=False)
    for fd in ends:
        os.close(fd)
    return Stdio(
        ours, tuple(fcntl.fcntl(n, fcntl.F_DUPFD_CLOEXEC, _BEYOND_STDIO) for n in range(3))
    )


def make_lasting_pipes(stdin: bool, *, lasting_stdin: bool) -> Stdio:
    """Return the stdio of a container without a terminal, which outlives us.

    Its descriptors 3 and 4 are its output pipes' reading ends: so it lives on when every process
    of ours is gone, blocks when they are full, and somebody else can read on (`recovery`). Of a
    ``lasting_stdin`` 5 is the writing end, and it never sees its end.

    Not that 1 and 2 could be read: programs take a readable stdout for one whose reader has gone
    (asyncio's `connect_write_pipe`, and tail(1) of coreutils before 9.1), and end.
    """
    ours, ends = make_pipes(stdin)
    held = [_open_again(ours[name], os.O_RDONLY) for name in ("stdout", "stderr")]
    if lasting_stdin:
        held.append(_open_again(ours["stdin"], os.O_WRONLY))
    return Stdio(ours, (*ends, *held))


def pipe_numbers(ours: Mapping[str, int]) -> dict[str, int]:
    """Return the inodes of the pipes among a container's stdio, by which they are found again."""
    found = {name: os.fstat(fd) for name, fd in ours.items() if fd >= 0}
    return {name: one.st_ino for name, one in found.items() if stat.S_ISFIFO(one.st_mode)}


def make_inner_pipe() -> Stdio:
    """Return what a terminal's output goes through: splice(2) has a pipe on one side."""
    read, write = _pipe()
    return Stdio({"stdout": read, "inner": write}, ())


def make_listener(directory: int, name: str) -> int:
    """Bind a socket of that name in the state directory, mode 0600, and listen.

    Reached through /proc/self/fd, so the path may be longer than the 107 bytes of
    sockaddr_un (unix(7)). The umask is set around bind, so that no moment is open to others.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{name}")
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener.detach()


def open_logs(
    specs: tuple[LogSpec, ...], *, rotated: bool = False
) -> tuple[list[int], list[LogSpec], list[str]]:
    """Open every log for appending, and lock it: two writers would cut each other's text.

    Only regular files can be ``rotated``. A journal is nothing that is held open: -1.

    Returns the descriptors, the specs with their start sizes, and the paths of files and
    directories that were made. Raises UsageError; then nothing that was made is left.
    """
    fds: list[int] = []
    opened: list[LogSpec] = []
    made: list[str] = []
    try:
        if len(specs) > MAX_LOGS:
            raise UsageError(f"{len(specs)} logs, the limit is {MAX_LOGS}")
        for spec in specs:
            if spec.format == journal.FORMAT:
                check_log(spec.path)
                fds.append(-1)
                opened.append(spec)
                continue
            made += _make_parents(os.path.dirname(spec.path))
            fds.append(_open_log(spec.path, made))
            found = os.fstat(fds[-1])
            if rotated and not stat.S_ISREG(found.st_mode):
                raise UsageError(f"the log {spec.path} is not a file, and cannot be rotated")
            opened.append(spec._replace(start=found.st_size))
    except UsageError:
        for fd in named_logs(fds).values():
            os.close(fd)
        unmake(made)
        raise
    return fds, opened, made


def unlock_logs(kept: Mapping[str, int]) -> None:
    """Let others write the logs that are among ``kept``. Repeatable."""
    for name, fd in kept.items():
        if name.startswith("log"):
            fcntl.flock(fd, fcntl.LOCK_UN)


def named_logs(fds: list[int]) -> dict[str, int]:
    """Return the logs' descriptors as the table names them: ``log0`` …, where there is one."""
    return {f"log{number}": fd for number, fd in enumerate(fds) if fd >= 0}


def receive_fds(
    peer: socket.socket, size: int, most: int, flags: int = 0
) -> tuple[bytes, list[int]]:
    """Return a message of up to ``size`` bytes and its descriptors, all close-on-exec.

    What socket.recv_fds of Python 3.11 does, but that leaves out the flags. Raises OSError.
    """
    room = socket.CMSG_LEN(most * array.array("i").itemsize)
    data, control, _, _ = peer.recvmsg(size, room, flags | socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, body in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(body[: len(body) - len(body) % fds.itemsize])
    return data, list(fds)


def unmake(paths: Sequence[str]) -> None:
    """Remove files, links and (empty) directories that were made, the last one first."""
    for path in reversed(paths):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                os.unlink(path)
        except OSError:
            pass


def _pipe() -> tuple[int, int]:
    ends = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except OSError:
        pass  # the user's pipe quota is used up (pipe(7)): 64 KiB, or one page, works too
    return ends


def _open_again(end: int, flags: int) -> int:
    """Return another descriptor of a pipe, which shares no flags with ours.

    Its number is none of the first ones, which it is to get in another process.
    """
    made = os.open(f"/proc/self/fd/{end}", flags | os.O_CLOEXEC)
    try:
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _BEYOND_STDIO)
    finally:
        os.close(made)


def _lift_file_size_limit() -> None:
    """The ring's position only grows: a limit on file sizes (setrlimit(2)) would end it."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if hard != resource.RLIM_INFINITY:
        raise UsageError(
            f"the hard limit on file sizes is {hard} bytes (ulimit -H -f):"
            " attachd counts all output in one file and needs it unlimited"
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def _make_parents(path: str) -> list[str]:
    missing: list[str] = []
    while path and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    made: list[str] = []
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            unmake(made)
            raise UsageError(f"cannot make {directory}: {error.strerror}") from None
        made.append(directory)
    return made


def _open_log(path: str, made: list[str]) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    check_log(os.path.dirname(path))
    try:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            made.append(path)
        except FileExistsError:
            check_log(path)  # what is there and is ours or root's, nobody else can exchange
            fd = os.open(path, flags)
    except OSError as error:
        raise UsageError(f"cannot write the log {path}: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"the log {path} is being written by another shim") from None
    return fd


def lift_descriptor_limit() -> None:
    """Take as many descriptors as we may have: an exec needs some eight (setrlimit(2)).

    Called when the container is there: its programs keep the limit that it was made with.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
