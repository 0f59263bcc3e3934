"""CRI-O's part of its conversation with conmon, played (internal/oci/runtime_oci.go of cri-o).

The words of its command lines in their order, its environment, descriptors 3 and 4, the current
directory, the temporary files of an exec, and what it reads where. Every file it makes is below
one directory of its own, and so is its runtime's root; ``left`` tells what is still there.
"""

import contextlib
import copy
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import PATIENCE, Shop, is_alive, wait_for
from inotify_simple import INotify, flags

#: cri-o's maxExecSyncSize.
MOST_OUTPUT = 16 * 1024 * 1024

TIMED_OUT = "command timed out"


OURS, THEIRS = "attachd-conmon", "conmon"


def with_both(*, fault: str = "") -> pytest.MarkDecorator:
    """Run a test with conmon as well; ``fault`` says what is wrong there, strictly."""
    marks = [pytest.mark.skipif(shutil.which(THEIRS) is None, reason="needs conmon")]
    if fault:
        marks.append(pytest.mark.xfail(strict=True, reason=f"conmon 2.1.6: {fault}"))
    reference = pytest.param(THEIRS, marks=marks)
    return pytest.mark.parametrize("crio", [OURS, reference], indirect=True)


class Said(NamedTuple):
    """What CRI-O makes of an exec."""

    code: int
    stdout: bytes
    stderr: bytes


class ExecFailed(Exception):
    """CRI-O's ExecSyncError: the message that conmon has sent, or why there was none."""


class Crio:
    """One CRI-O with one runtime handler."""

    def __init__(self, shop: Shop, monitor: str) -> None:
        self.monitor = monitor
        self.home = shop.scratch / "crio"
        self.state_root = shop.root  #: attachd's
        self.runtime = "/usr/sbin/runc"
        self.runtime_root = self.home / "runc"
        self.exits, self.logs = self.home / "exits", self.home / "pods"
        self.temporary = self.home / "tmp"
        # As short as CRI-O's own: an address of a socket has 107 bytes (unix(7)).
        self.sockets = Path(tempfile.mkdtemp(prefix="crio-"))
        for directory in (self.exits, self.temporary, self.logs):
            directory.mkdir(parents=True)
        self.monitor_env = [
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"ATTACHD_ROOT={self.state_root}",
        ]
        self.systemd = False
        self.change: Callable[[dict], object] | None = None  #: of each container's config.json
        self.containers: list[Container] = []
        self._shop = shop

    def create(self, *command: str, restore: str = "", **kind: object) -> "Container":
        """Have a container made, as CreateContainer does; raises RuntimeError as that fails."""
        made = Container(self, self._shop.bundle(*command), **kind)
        self.containers.append(made)
        made.create(restore)
        return made

    def run(self, *command: str, **kind: object) -> "Container":
        """The same, and StartContainer."""
        made = self.create(*command, **kind)
        made.start()
        return made

    def runc(self, *words: object) -> subprocess.CompletedProcess[bytes]:
        """Call the runtime as CRI-O does by itself."""
        argv = [self.runtime, "--root", self.runtime_root, *map(str, words)]
        return subprocess.run(argv, capture_output=True, timeout=PATIENCE, check=False)

    def execs(self) -> list[Path]:
        """Return the state directories of execs."""
        return list((self.state_root / ".execs").glob("*"))

    def left(self) -> list[str]:
        """Return what conmon has left: processes, state, links, sockets, temporary files."""
        found = [str(path) for path in self.state_root.glob("*") if path.name != ".execs"]
        found += map(str, (*self.execs(), *self.sockets.iterdir(), *self.temporary.iterdir()))
        found += [str(path) for path in self.home.rglob("*.new")]
        found += [str(path) for path in self.home.rglob("attach")]
        return found + self.processes()

    def processes(self) -> list[str]:
        """Return every process that names this directory, or works in it."""
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            try:
                words = (process / "cmdline").read_bytes()
                links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
            except OSError:
                continue
            home = str(self.home)
            if home.encode() in words or any(home in link for link in links):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def close(self) -> None:
        """End what is there, and let nothing be left but what CRI-O removes by itself."""
        for container in self.containers:
            container.remove()
        wait_for(lambda: not self.processes())

    def forget(self) -> None:
        """Remove what is not below the test's own directory."""
        shutil.rmtree(self.sockets)

    def temporary_file(self, prefix: str) -> str:
        fd, path = tempfile.mkstemp(prefix=prefix, dir=self.temporary)
        os.close(fd)
        return path


class Container:
    """One container, known by what CRI-O knows of it."""

    def __init__(
        self,
        crio: Crio,
        bundle: Path,
        *,
        terminal: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
        log_size_max: int = -1,
        more: tuple[str, ...] = (),
        env: tuple[str, ...] = (),
        passed: int = -1,
    ) -> None:
        self.crio = crio
        self.id = secrets.token_hex(32)
        self.bundle = bundle
        self.name = f"k8s_c_{self.id[:8]}"
        self.terminal, self.stdin, self.stdin_once = terminal, stdin, stdin_once
        self.log_size_max, self.more, self.env = log_size_max, more, env
        self.passed = passed
        self.persist = crio.home / "persist" / self.id
        self.persist.mkdir(parents=True)
        self.log = crio.logs / f"pod-{self.id[:8]}" / "0.log"
        self.log.parent.mkdir(parents=True)
        self.pid = 0
        self._exits = INotify()
        self._exits.add_watch(crio.exits, flags.CREATE | flags.MOVED_TO)
        if crio.change is not None:
            self.change_spec(crio.change)
        if terminal:
            self.change_spec(lambda spec: spec["process"].update(terminal=True))

    @property
    def monitor_pid(self) -> int:
        return int((self.bundle / "conmon-pidfile").read_text())

    @property
    def spec(self) -> dict:
        return json.loads((self.bundle / "config.json").read_text())

    def change_spec(self, change) -> None:
        spec = self.spec
        change(spec)
        (self.bundle / "config.json").write_text(json.dumps(spec))

    # Creation

    def words(self, restore: str = "") -> list[str]:
        crio = self.crio
        words = [
            "-b", self.bundle, "-c", self.id, "--exit-dir", crio.exits, "-l", self.log,
            "--log-level", "info", "-n", self.name, "-P", self.bundle / "conmon-pidfile",
            "-p", self.bundle / "pidfile", "--persist-dir", self.persist, "-r", crio.runtime,
            "--runtime-arg", f"--root={crio.runtime_root}",
            "--socket-dir-path", crio.sockets, "--syslog", "-u", self.id,
        ]  # fmt: skip
        words += ["-s"] if crio.systemd else []
        if self.log_size_max >= 0:
            words += ["--log-size-max", self.log_size_max]
        if self.terminal:
            words += ["-t"]
        elif self.stdin:
            words += ["-i"] if self.stdin_once else ["--leave-stdin-open", "-i"]
        words += ["--restore", restore] if restore else []
        return [str(word) for word in (*words, *self.more)]

    def create(self, restore: str = "") -> None:
        with _pair() as (sync, their_sync), _pair() as (start, their_start):
            with open(os.devnull, "r+b") as null, tempfile.TemporaryFile() as errors:
                passed = [self.passed] if self.passed >= 0 else []
                fds = [null.fileno(), null.fileno(), errors.fileno(), *passed]
                pipes = [f"_OCI_SYNCPIPE={len(fds)}", f"_OCI_STARTPIPE={len(fds) + 1}"]
                monitor = _spawn(
                    [self.crio.monitor, *self.words(restore)],
                    [*self.crio.monitor_env, *self.env, *pipes],
                    str(self.bundle),
                    (*fds, their_sync.fileno(), their_start.fileno()),
                )
                their_sync.close()
                their_start.close()
                start.send(b"\0")
                status = _wait(monitor)
                errors.seek(0)
                if status != 0:
                    raise RuntimeError(f"conmon: {status}: {errors.read().decode()}")
            sync.settimeout(PATIENCE)
            told = json.loads(sync.recv(65536) or b"{}")
        if told.get("pid", -1) <= 0:
            raise RuntimeError(f"container create failed: {told.get('message')}")
        self.pid = told["pid"]

    # Life

    def start(self) -> None:
        done = self.crio.runc("start", self.id)
        assert done.returncode == 0, done.stderr

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.crio.runc("kill", self.id, int(number))

    def exit_code(self) -> int:
        """Wait as CRI-O does for the exit file's name to be made; return what it tells."""
        path = self.crio.exits / self.id
        names: set[str] = set()
        while self.id not in names:
            heard = self._exits.read(timeout=PATIENCE * 1000)
            assert heard, "no exit file came"
            names |= {event.name for event in heard}
        return int(path.read_text())

    def remove(self) -> None:
        """DeleteContainer, and the wait for the monitor."""
        self.crio.runc("delete", "--force", self.id)
        with contextlib.suppress(OSError, ValueError):
            monitor = self.monitor_pid
            wait_for(lambda: not is_alive(monitor))
        self._exits.close()

    # Attach

    def attach(self) -> "Attached":
        """AttachContainer's connection, by the short path."""
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect(str(self.crio.sockets / self.id / "attach"))
        return Attached(peer)

    def control(self, line: str) -> None:
        fd = os.open(self.bundle / "ctl", os.O_WRONLY)
        os.write(fd, line.encode())
        os.close(fd)

    def reopen_log(self) -> None:
        """ReopenContainerLog: returns when the file was made, or written to."""
        with INotify() as watch:
            watch.add_watch(self.log.parent, flags.CREATE | flags.MOVED_TO | flags.MODIFY)
            self.control("2 0 0\n")
            wait_for(
                lambda: any(event.name == self.log.name for event in watch.read(timeout=100))
            )

    def rotate_log(self, number: int) -> Path:
        """What the kubelet does: it renames the file, then asks to have it reopened."""
        rotated = self.log.with_name(f"0.log.2024010{number}-000000")
        self.log.rename(rotated)
        self.reopen_log()
        return rotated

    # Exec

    def begin_exec(self, *command: str, timeout: int = 0) -> "Exec":
        return Exec(self, command, timeout)

    def exec_sync(self, *command: str, timeout: int = 0) -> Said:
        """ExecSyncContainer; raises ExecFailed."""
        return self.begin_exec(*command, timeout=timeout).finish()


class Attached:
    """A client of the attach socket."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        peer.settimeout(PATIENCE)
        self.streams = {1: b"", 2: b"", 3: b""}

    def read_until(self, text: bytes, stream: int = 2) -> None:
        while text not in self.streams[stream]:
            assert self._take(), self.streams

    def read_all(self) -> dict[int, bytes]:
        """Read to the end of the connection."""
        while self._take():
            pass
        return self.streams

    def send(self, data: bytes) -> None:
        self.peer.send(data)

    def end_input(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)

    def __enter__(self) -> "Attached":
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()

    def _take(self) -> bool:
        try:
            packet = self.peer.recv(8193)
        except ConnectionResetError:
            return False
        if packet:
            self.streams[packet[0]] += packet[1:]
        return bool(packet)


class Exec:
    """A program that CRI-O executes and waits for."""

    def __init__(self, container: Container, command: tuple[str, ...], timeout: int) -> None:
        crio = container.crio
        self.status: int | None = None
        self.pid_file = crio.temporary_file("pidfile")
        self.log = crio.temporary_file(f"crio-log-{container.id}")
        self.process = crio.temporary_file("exec-process-")
        process = copy.deepcopy(container.spec["process"])
        process |= {"args": list(command), "terminal": container.terminal}
        Path(self.process).write_text(json.dumps(process))
        words = [
            "-c", container.id, "-n", container.name, "-r", crio.runtime, "-p", self.pid_file,
            "-e", "-l", self.log, "--socket-dir-path", crio.sockets, "--log-level", "info",
            "--sync", "--log-global-size-max", MOST_OUTPUT,
        ]  # fmt: skip
        words += ["-t"] if container.terminal else []
        words += ["-T", timeout] if timeout else []
        words += ["-s"] if crio.systemd else []
        words += ["--exec-process-spec", self.process]
        words += ["--runtime-arg", f"--root={crio.runtime_root}"]
        self._begin(crio, [crio.monitor, *map(str, words)])

    def _begin(self, crio: Crio, argv: list[str]) -> None:
        self._sync, their_sync = os.pipe()
        self.outputs = [os.pipe(), os.pipe()]
        with _pair() as (start, their_start), open(os.devnull, "rb") as null:
            stdio = (null.fileno(), *(write for _, write in self.outputs))
            env = [*crio.monitor_env, "_OCI_SYNCPIPE=3", "_OCI_STARTPIPE=4"]
            self.monitor = _spawn(
                argv, env, os.getcwd(), (*stdio, their_sync, their_start.fileno())
            )
            for fd in (their_sync, *stdio[1:]):
                os.close(fd)
            their_start.close()
            start.send(b"\0")

    @property
    def pid(self) -> int:
        """The program's, when it is known."""
        return int(Path(self.pid_file).read_text() or 0)

    def finish(self) -> Said:
        """Wait for the monitor, then for what it says, and remove the temporary files."""
        try:
            self.finish_monitor()
            return self._understand()
        finally:
            self.close()

    def finish_monitor(self) -> None:
        """Wait for the monitor, and for what it has said on its stdout and stderr."""
        if self.status is None:
            self.status = _wait(self.monitor)
            self.stdout, self.stderr = (_read_all(read) for read, _ in self.outputs)

    def _understand(self) -> Said:
        line = _read_all(self._sync).partition(b"\n")[0]
        if not line:
            raise ExecFailed("EOF")
        told = json.loads(line)
        code, message = told["exit_code"], told.get("message", "")
        if (code, message) == (-1, TIMED_OUT):
            return Said(-1, b"", TIMED_OUT.encode())
        if code == -1:
            raise ExecFailed(message)
        if os.stat(self.log).st_size > MOST_OUTPUT:
            os.truncate(self.log, MOST_OUTPUT)
        return Said(code, *_parse(Path(self.log).read_bytes()))

    def close(self) -> None:
        for fd in (self._sync, *(read for read, _ in self.outputs)):
            with contextlib.suppress(OSError):
                os.close(fd)
        for path in (self.pid_file, self.log, self.process):
            os.unlink(path)


def _parse(log: bytes) -> tuple[bytes, bytes]:
    """Return both streams from a log, as cri-o's parseLog does."""
    streams = {b"stdout": b"", b"stderr": b""}
    parts: dict[bytes, list[bytes]] = {name: [] for name in streams}
    for line in log.split(b"\n"):
        fields = line.split(b" ", 3)
        if len(fields) == 4:
            _, stream, tag, text = fields
            parts[stream].append(text if tag == b"P" else text + b"\n")
    return b"".join(parts[b"stdout"]), b"".join(parts[b"stderr"])


@contextlib.contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """CRI-O's newPipe."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def _spawn(argv: list[str], env: list[str], directory: str, fds: tuple[int, ...]) -> int:
    """Start a program in a directory with these descriptors from 0 on, as Go's os/exec does.

    A value of ``$$`` is the program's own pid.
    """
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(directory)
            for number, fd in enumerate(high):
                os.dup2(fd, number)
            own = {"$$": str(os.getpid())}
            pairs = (word.split("=", 1) for word in env)
            os.execve(argv[0], argv, {name: own.get(text, text) for name, text in pairs})
        finally:
            os._exit(127)
    for fd in high:
        os.close(fd)
    return pid


def _wait(pid: int) -> int:
    """Return the exit status of a child of ours; fail when it does not end."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([pidfd], [], [], PATIENCE)
        if not ready:
            os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ready, "the monitor did not end"
        return status
    finally:
        os.close(pidfd)


def _read_all(fd: int) -> bytes:
    """Read to the end; fail when that does not come."""
    found = bytearray()
    while True:
        ready, _, _ = select.select([fd], [], [], PATIENCE)
        assert ready, "somebody holds the other end"
        part = os.read(fd, 65536)
        if not part:
            return bytes(found)
        found += part


def records(log: Path) -> list[tuple[bytes, bytes, bytes]]:
    """Return stream, tag and text of each line of a log."""
    rows = [line.split(b" ", 3) for line in log.read_bytes().split(b"\n")[:-1]]
    return [(stream, tag, text) for _, stream, tag, text in rows]


def text_of(*logs: Path, stream: bytes = b"stdout") -> bytes:
    """Return a stream's exact bytes from files that follow one another."""
    return _parse(b"".join(log.read_bytes() for log in logs))[stream == b"stderr"]
