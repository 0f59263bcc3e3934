"""One call of the OCI runtime: started, listened to, waited for, with a limit on everything."""

import json
import os
import select
import signal
import time

from attachd.errors import RuntimeFailed
from attachd.keeper.processes import spawn

#: How much of a runtime's words is kept from each end; more would only fill a report.
WORDS_BYTES = 16 * 1024

#: The verb of a `RuntimeFailed` that was killed because it took too long.
TIMEOUT = "timeout"

_READ_BYTES = 65536

#: After a program's end its pipe (1 MiB) is read empty, and not much longer.
LAST_READS = 64


class Words:
    """What a program says on its stderr, bounded: the beginning and the end are kept.

    ``fd`` is what `listen` reads; whoever reads by itself hands over what it has heard. ``late``
    is listened to only when the program has failed: before that others may speak there.
    """

    def __init__(self, fd: int = -1, *, late: int = -1) -> None:
        self.fd = fd
        self.late = late
        self._head = b""
        self._tail = b""
        self._left_out = 0

    def listen(self) -> bool:
        """Read once, without waiting; return False when nothing more will come, or not now."""
        try:
            data = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return False
        self.hear(data)
        return bool(data)

    def hear(self, data: bytes) -> None:
        """Take some more."""
        room = WORDS_BYTES - len(self._head)
        self._head += data[:room]
        tail = self._tail + data[room:]
        self._left_out += max(0, len(tail) - WORDS_BYTES)
        self._tail = tail[-WORDS_BYTES:]

    @property
    def text(self) -> str:
        """What was heard, undecodable bytes replaced."""
        gap = f"\n[{self._left_out} bytes left out]\n".encode() if self._left_out else b""
        return (self._head + gap + self._tail).decode(errors="replace")


def call(
    argv: list[str],
    environment: dict[str, str],
    stdio: tuple[int, ...],
    words: Words,
    limit: float,
    inherit: tuple[int, ...] = (),
) -> int:
    """Run a program to its end while listening to ``words``; return its status as a shell would.

    Raises RuntimeFailed when it cannot be executed or is not done after ``limit`` seconds; it
    is killed then. ``words.fd`` must not block.
    """
    try:
        pid = spawn(argv, environment, stdio, inherit)
    except OSError as error:
        raise RuntimeFailed(
            "exec", 126, f"cannot run {argv[0]}: {error.strerror}", ""
        ) from None
    try:
        in_time = _wait(pid, words, limit)
        if not in_time:
            os.kill(pid, signal.SIGKILL)
    finally:
        _, status = os.waitpid(pid, 0)
    if words.fd < 0 and status != 0:
        words.fd = words.late
    for _ in range(LAST_READS):  # what it left behind may talk for ever
        if words.fd < 0 or not words.listen():
            break
    if not in_time:
        message = f"{os.path.basename(argv[0])} was not done after {limit:g} seconds"
        raise RuntimeFailed(TIMEOUT, 137, message, words.text)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(pid: int, words: Words, limit: float) -> bool:
    """Return True when ``pid`` has ended, False when the limit has passed."""
    deadline = time.monotonic() + limit
    pidfd = os.pidfd_open(pid)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if words.fd >= 0:
        poller.register(words.fd, select.POLLIN)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready = {fd for fd, _ in poller.poll(left * 1000)}
            if words.fd in ready and not words.listen():
                poller.unregister(words.fd)
            if pidfd in ready:
                return True
        return False
    finally:
        os.close(pidfd)


def last_error(log: str) -> str:
    """Return the last error in a runtime's JSON log (``--log-format json``), or ""."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - WORDS_BYTES * 16))
            lines = file.read(WORDS_BYTES * 16).splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic"):
            return str(entry.get("msg", ""))
    return ""


def failure(verb: str, status: int, words: str, log: str) -> RuntimeFailed:
    """Make one line of what the runtime said, its log first, and keep all of its words."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    message = last_error(log) or (lines[-1] if lines else f"it ended with {status}, silently")
    return RuntimeFailed(verb, status, " ".join(message.split()), words)
