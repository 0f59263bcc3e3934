"""Descriptors at their birth: private, close-on-exec, locked, and gone again when refused."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.errors import UsageError
from attachd.keeper import descriptors
from attachd.keeper.config import LogSpec
from attachd.keeper.descriptors import (
    Libc,
    Table,
    make_lasting_pipes,
    make_listener,
    make_pipes,
    make_ring,
    map_header,
    open_logs,
    unmake,
)
from attachd.keeper.files import SOCKET
from attachd.state.header import LOG_WORDS, MAX_LOGS
from attachd.state.ring import index_capacity

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def fds() -> Iterator[list[int]]:
    """Descriptors to be closed when the test is over."""
    opened: list[int] = []
    yield opened
    for fd in opened:
        os.close(fd)


def mode(path: Path) -> int:
    """Return a file's permission bits."""
    return path.stat().st_mode & 0o777


def log(path: Path, form: str = "cri") -> LogSpec:
    """Return the wish for a log at ``path``."""
    return LogSpec(form, str(path))


# The listener


def open_directory(path: Path, fds: list[int]) -> int:
    """Make a directory and return its descriptor."""
    path.mkdir(parents=True)
    fds.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    return fds[-1]


def test_a_socket_at_a_very_long_path_is_bound_and_reached(
    tmp_path: Path, fds: list[int]
) -> None:
    """Over the 107 bytes that a socket's address can hold."""
    home = tmp_path / ("d" * 200) / ("e" * 200)
    directory = open_directory(home, fds)
    fds.append(make_listener(directory, SOCKET))

    assert len(str(home / "attach.sock")) > 400
    assert (home / "attach.sock").is_socket()
    client = socket.socket(socket.AF_UNIX)
    with client:
        client.connect(f"/proc/self/fd/{directory}/attach.sock")
        server = socket.socket(fileno=os.dup(fds[-1]))
        with server, server.accept()[0] as peer:
            client.sendall(b"hello")
            assert peer.recv(5) == b"hello"


def test_the_socket_is_for_its_owner_whatever_the_umask(
    tmp_path: Path, fds: list[int]
) -> None:
    """Mode 0600, and the caller's umask is as it was."""
    before = os.umask(0)
    try:
        fds.append(make_listener(open_directory(tmp_path / "box", fds), SOCKET))
    finally:
        after = os.umask(before)

    assert mode(tmp_path / "box" / "attach.sock") == 0o600
    assert after == 0


def test_the_listener_neither_blocks_nor_leaks(tmp_path: Path, fds: list[int]) -> None:
    """Non-blocking, close-on-exec, and open: it is nobody's but ours to close."""
    fds.append(make_listener(open_directory(tmp_path / "box", fds), SOCKET))

    assert not os.get_blocking(fds[-1])
    assert not os.get_inheritable(fds[-1])


def test_a_taken_socket_path_is_an_error_and_the_umask_comes_back(
    tmp_path: Path, fds: list[int]
) -> None:
    """Nobody's socket is replaced."""
    directory = open_directory(tmp_path / "box", fds)
    (tmp_path / "box" / "attach.sock").touch()
    before = os.umask(0o027)
    try:
        with pytest.raises(OSError, match="in use"):
            make_listener(directory, SOCKET)
    finally:
        assert os.umask(before) == 0o027


# The ring and its header


def test_a_fresh_ring_is_empty_and_its_header_says_how_large(fds: list[int]) -> None:
    """Nothing has been read, nothing is known but the sizes."""
    ring, header_fd = make_ring(1 << 20)
    fds += [ring, header_fd]
    header = map_header(header_fd)

    assert header.known
    assert (header.ring_size, header.index_capacity) == (1 << 20, index_capacity(1 << 20))
    assert (header.records, header.pid, header.oldest) == (0, 0, 0)
    assert os.lseek(ring, 0, os.SEEK_CUR) == 0
    assert not os.get_inheritable(ring)
    assert not os.get_inheritable(header_fd)


def test_a_large_index_costs_nothing_until_it_is_used(fds: list[int]) -> None:
    """The header of a 1 GiB ring takes a page or two."""
    fds += make_ring(1 << 30)

    assert os.fstat(fds[1]).st_size > 500_000_000
    assert os.fstat(fds[1]).st_blocks * 512 <= 4 * PAGE


def test_two_maps_of_a_header_see_the_same_words(fds: list[int]) -> None:
    """Keeper and server share it; the mapping outlives its descriptor."""
    ring, header_fd = make_ring(1 << 16)
    fds.append(ring)
    ours, theirs = map_header(header_fd), map_header(header_fd)
    os.close(header_fd)
    ours.pid = 4711
    ours.log(1).store(*range(1, LOG_WORDS + 1))

    assert theirs.pid == 4711
    assert theirs.log(1).read() == tuple(range(1, LOG_WORDS + 1))


def in_a_process(code: str) -> str:
    """Run code that changes its process for good; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_a_soft_limit_on_file_sizes_is_lifted() -> None:
    """The ring's position only grows; ``ulimit -S -f`` must not end it."""
    code = (
        "import resource as r\n"
        "from attachd.keeper.descriptors import make_ring\n"
        "_, hard = r.getrlimit(r.RLIMIT_FSIZE)\n"
        "r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, hard))\n"
        "make_ring(1 << 16)\n"
        "print(r.getrlimit(r.RLIMIT_FSIZE) == (hard, hard))\n"
    )
    assert in_a_process(code) == "True\n"


def test_a_hard_limit_on_file_sizes_is_refused() -> None:
    """Before anything is made, with the command that set it."""
    code = (
        "import resource as r\n"
        "from attachd.errors import UsageError\n"
        "from attachd.keeper.descriptors import make_ring\n"
        "r.setrlimit(r.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: make_ring(1 << 16)\n"
        "except UsageError as error: print(error)\n"
    )
    assert in_a_process(code).startswith(
        "the hard limit on file sizes is 1048576 bytes (ulimit"
    )


# The container's stdio


def test_bytes_go_through_each_pipe_in_its_own_direction(fds: list[int]) -> None:
    """Ours are stdin's write end and the others' read ends."""
    ours, ends = make_pipes(stdin=True)
    fds += [*ours.values(), *ends]
    os.write(ours["stdin"], b"in")
    os.write(ends[1], b"out")
    os.write(ends[2], b"err")

    assert os.read(ends[0], 9) == b"in"
    assert os.read(ours["stdout"], 9) == b"out"
    assert os.read(ours["stderr"], 9) == b"err"


def test_a_container_holds_the_other_ends_of_its_pipes_and_no_more_of_ours(
    fds: list[int],
) -> None:
    """So that they outlive us. 1 and 2 are for writing only; what it does to flags is its own."""
    ours, ends = make_lasting_pipes(stdin=True, lasting_stdin=True)
    fds += [*ours.values(), *ends]

    modes = [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE for fd in ends]
    assert modes == [
        os.O_RDONLY,
        os.O_WRONLY,
        os.O_WRONLY,
        os.O_RDONLY,
        os.O_RDONLY,
        os.O_WRONLY,
    ]
    assert all(fd > len(ends) for fd in ends[3:])
    assert not any(os.get_blocking(fd) for fd in ours.values())
    for end, name in ((3, "stdout"), (4, "stderr"), (5, "stdin")):
        assert os.path.samestat(os.fstat(ends[end]), os.fstat(ours[name]))
        os.set_blocking(ends[end], True)
        assert not os.get_blocking(ours[name])


@pytest.mark.parametrize("stdin", [False, True])
def test_our_ends_never_block_and_the_containers_do(fds: list[int], stdin: bool) -> None:
    """A program that got a non-blocking stdout would lose output; none is inheritable by itself."""
    table, ends = make_pipes(stdin)
    ours = table.values()
    fds += [*ours, *ends]

    assert not any(os.get_blocking(fd) for fd in ours)
    assert all(os.get_blocking(fd) for fd in ends)
    assert not any(os.get_inheritable(fd) for fd in [*ours, *ends])


def test_without_stdin_the_container_reads_an_empty_file(fds: list[int]) -> None:
    """End of file at once, and no end of ours."""
    ours, ends = make_pipes(stdin=False)
    fds += [*ours.values(), *ends]

    assert "stdin" not in ours
    assert os.read(ends[0], 9) == b""


def test_output_pipes_are_large_where_the_quota_allows(
    fds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 MiB; a user whose quota is used up gets a smaller pipe, not an error."""
    ours, ends = make_pipes(stdin=False)
    fds += [*ours.values(), *ends]
    assert fcntl.fcntl(ours["stdout"], fcntl.F_GETPIPE_SZ) in (
        descriptors.PIPE_BYTES,
        65536,
        PAGE,
    )

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(
        descriptors, "fcntl", type("fcntl", (), {**vars(fcntl), "fcntl": staticmethod(refuse)})
    )
    ours, ends = make_pipes(stdin=False)
    fds += [*ours.values(), *ends]
    os.write(ends[1], b"still a pipe")
    assert os.read(ours["stdout"], 99) == b"still a pipe"


# Logs


def test_a_log_and_its_directories_are_made_and_told(tmp_path: Path, fds: list[int]) -> None:
    """Private, in the order in which they were made, so that they can be unmade."""
    path = tmp_path / "a" / "b" / "container.log"
    opened, specs, made = open_logs((log(path),))
    fds += opened

    assert made == [str(tmp_path / "a"), str(tmp_path / "a" / "b"), str(path)]
    assert mode(path) == 0o600
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    assert specs == [log(path)]


def test_an_existing_log_is_appended_to(tmp_path: Path, fds: list[int]) -> None:
    """Its size is noted, its mode is kept, and it is nothing that we made."""
    path = tmp_path / "container.log"
    path.write_bytes(b"before\n")
    path.chmod(0o644)
    opened, specs, made = open_logs((log(path, "raw"),))
    fds += opened
    os.write(opened[0], b"after\n")

    assert path.read_bytes() == b"before\nafter\n"
    assert specs == [LogSpec("raw", str(path), len(b"before\n"))]
    assert made == []
    assert mode(path) == 0o644


def test_a_log_has_one_writer(tmp_path: Path, fds: list[int]) -> None:
    """Two shims, or one with the same log twice, would cut each other's text."""
    path = tmp_path / "container.log"
    opened, _, _ = open_logs((log(path),))
    fds += opened

    with pytest.raises(UsageError, match="being written by another shim"):
        open_logs((log(path),))
    assert path.exists()


def test_the_same_log_twice_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """Not even the directories that were made for it."""
    path = tmp_path / "a" / "container.log"
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UsageError, match="another shim"):
        open_logs((log(path), log(path, "raw")))

    assert os.listdir(tmp_path) == []
    assert os.listdir("/proc/self/fd") == before


def test_a_closed_log_is_free_again(tmp_path: Path, fds: list[int]) -> None:
    """The lock goes with the descriptor; there is no lock file."""
    path = tmp_path / "container.log"
    os.close(open_logs((log(path),))[0][0])
    fds += open_logs((log(path),))[0]

    assert os.listdir(tmp_path) == ["container.log"]


def test_a_refused_log_unmakes_the_ones_before_it(tmp_path: Path) -> None:
    """What was made for the first goes; what was there before stays; no descriptor is kept."""
    old = tmp_path / "old.log"
    old.write_bytes(b"kept")
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(UsageError, match=r"cannot write the log .*blocked: Is a directory"):
        open_logs((log(old), log(tmp_path / "new" / "a.log"), log(blocked)))

    assert sorted(os.listdir(tmp_path)) == ["blocked", "old.log"]
    assert old.read_bytes() == b"kept"
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give links away")
@pytest.mark.parametrize("trap", ["log", "logs"])
def test_a_log_is_not_led_away_by_somebody_elses_link(tmp_path: Path, trap: str) -> None:
    """In a directory like /tmp, whatever the kernel says (fs.protected_symlinks).

    Neither the file nor a directory on the way; what was made before is unmade.
    """
    tmp_path.chmod(0o1777)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "log").write_text("mine")
    (tmp_path / trap).symlink_to(precious / "log" if trap == "log" else precious)
    os.chown(tmp_path / trap, 54321, 54321, follow_symlinks=False)
    path = tmp_path / ("log" if trap == "log" else "logs/log")

    with pytest.raises(UsageError, match="was put there by user 54321"):
        open_logs((log(tmp_path / "first"), log(path)))
    assert (precious / "log").read_text() == "mine"
    assert not (tmp_path / "first").exists()


def test_a_log_may_be_reached_through_a_link_of_our_own(
    tmp_path: Path, fds: list[int]
) -> None:
    """Also in a directory like /tmp; the link stays one."""
    tmp_path.chmod(0o1777)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "log").touch()
    (tmp_path / "link").symlink_to("real/log")
    fds += open_logs((log(tmp_path / "link"),))[0]

    assert os.path.samestat(os.fstat(fds[0]), (tmp_path / "real" / "log").stat())
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("below", ["file/x.log", "file/deep/x.log", "file/a/b/x.log"])
def test_a_file_where_a_directory_should_be_is_told(tmp_path: Path, below: str) -> None:
    """With the reason, and nothing was made."""
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(UsageError, match="Not a directory"):
        open_logs((log(tmp_path / below),))

    assert os.listdir(tmp_path) == ["file"]


def test_directories_of_a_refused_path_are_unmade(tmp_path: Path) -> None:
    """A name too long at the end takes the new directories before it along."""
    with pytest.raises(UsageError, match=r"cannot make .*: File name too long"):
        open_logs((log(tmp_path / "new" / ("x" * 300) / "y.log"),))

    assert os.listdir(tmp_path) == []


def test_more_logs_than_the_header_has_room_for_are_refused(tmp_path: Path) -> None:
    """The limit is named, before any is opened."""
    specs = tuple(log(tmp_path / f"{number}.log") for number in range(MAX_LOGS + 1))
    with pytest.raises(UsageError, match=f"{MAX_LOGS + 1} logs, the limit is {MAX_LOGS}"):
        open_logs(specs)

    assert os.listdir(tmp_path) == []


def test_as_many_logs_as_the_header_has_room_for_are_opened(
    tmp_path: Path, fds: list[int]
) -> None:
    """In their order, each with its own descriptor, none inheritable."""
    specs = tuple(log(tmp_path / f"{number}.log") for number in range(MAX_LOGS))
    opened, told, made = open_logs(specs)
    fds += opened

    assert tuple(told) == specs
    assert [os.readlink(f"/proc/self/fd/{fd}") for fd in opened] == made
    assert not any(os.get_inheritable(fd) for fd in opened)


def test_a_log_may_be_a_named_pipe(tmp_path: Path, fds: list[int]) -> None:
    """Opening it waits for nobody."""
    os.mkfifo(tmp_path / "fifo")
    opened, specs, made = open_logs((log(tmp_path / "fifo", "raw"),))
    fds += opened

    assert (specs[0].start, made) == (0, [])


def test_no_logs_are_fine() -> None:
    """``--log none`` opens nothing."""
    assert open_logs(()) == ([], [], [])


def test_unmaking_removes_the_last_first_and_only_what_is_empty(tmp_path: Path) -> None:
    """A directory that somebody else uses by now stays; what is gone is no error."""
    home = tmp_path / "a"
    (home / "b").mkdir(parents=True)
    (home / "b" / "x.log").touch()
    (home / "other").touch()
    unmake([str(home), str(home / "b"), str(home / "b" / "x.log"), str(tmp_path / "missing")])

    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(home) == ["other"]


# The table


def test_the_table_names_what_exists() -> None:
    """Each log by its number; an absent stdin and terminal are left out."""
    table = Table(3, 4, 5, 6, 9, 10, 11, 12, 13, {"log0": 20, "log1": 21}, stderr=7)

    assert table.items() == {
        "directory": 3, "header": 4, "ring": 5, "stdout": 6, "stderr": 7, "intake": 9,
        "listener": 10, "news": 11, "orders": 12, "parcels": 13, "log0": 20, "log1": 21,
    }  # fmt: skip


# The calls that Python lacks


def test_punching_gives_memory_back_and_keeps_the_size(fds: list[int]) -> None:
    """Before the hole and after it every byte is as it was."""
    fd = os.memfd_create("ring", os.MFD_CLOEXEC)
    fds.append(fd)
    os.write(fd, b"x" * (4 * PAGE))
    Libc().punch(fd, PAGE, 3 * PAGE)

    assert os.fstat(fd).st_size == 4 * PAGE
    assert os.fstat(fd).st_blocks * 512 == 2 * PAGE
    assert os.pread(fd, 4 * PAGE, 0) == b"x" * PAGE + bytes(2 * PAGE) + b"x" * PAGE
    assert os.lseek(fd, 0, os.SEEK_CUR) == 4 * PAGE


def test_punching_far_out_in_a_file_works(fds: list[int]) -> None:
    """Offsets are 64 bits wide: a ring has no end after 4 GiB."""
    fd = os.memfd_create("ring", os.MFD_CLOEXEC)
    fds.append(fd)
    far = (1 << 40) + PAGE
    os.pwrite(fd, b"x" * (2 * PAGE), far)
    Libc().punch(fd, 0, far + PAGE)

    assert os.pread(fd, 2 * PAGE, far) == bytes(PAGE) + b"x" * PAGE


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 5), (9, 3)])
def test_punching_nothing_is_nothing(start: int, end: int) -> None:
    """An empty range is not even asked for."""
    Libc().punch(-1, start, end)


def test_a_refused_punch_is_an_os_error() -> None:
    """With the kernel's reason."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        Libc().punch(-1, 0, PAGE)


def test_a_subreaper_gets_its_orphans() -> None:
    """What the container's runtime leaves behind becomes the keeper's child."""
    code = (
        "import os\n"
        "from attachd.keeper.descriptors import Libc\n"
        "Libc().become_subreaper()\n"
        "read, write = os.pipe()\n"
        "middle = os.fork()\n"
        "if middle == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.close(read)\n"
        "        os.write(write, b'%d' % os.getpid())\n"
        "        os.close(write)\n"
        "        os._exit(7)\n"
        "    os._exit(0)\n"
        "os.close(write)\n"
        "os.waitpid(middle, 0)\n"
        "orphan = int(os.read(read, 99))\n"
        "_, status = os.waitpid(orphan, 0)\n"
        "print(os.waitstatus_to_exitcode(status))\n"
    )
    assert in_a_process(code) == "7\n"
