"""The container as the server sees it: its phase, how it is started and signalled, how it ends."""

import contextlib
import json
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator

import trio

from attachd.errors import LifecycleError, RuntimeFailed
from attachd.keeper import files, pidfds
from attachd.keeper.processes import start_time
from attachd.live import pidfd
from attachd.live.asking import ask
from attachd.live.guardian import Guardian
from attachd.live.news import News
from attachd.live.settings import Settings
from attachd.state.exitrecord import CLD_UNKNOWN
from attachd.state.header import Header
from attachd.state.lifecycle import Phase, Step, advance, phase_of

#: How long the keeper may take to note the end of a container that is seen to be gone.
KEEPER_SECONDS = pidfds.REAP_SECONDS + 2.0

_POLL_SECONDS = 0.05

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """A file that cannot be brought up to date is told; one that was removed has no reader."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        _log.error("cannot bring %s up to date: %s", path, error)


class Container:
    """Requests, and waits for what happens. The keeper's words in the header are the truth."""

    def __init__(
        self,
        header: Header,
        directory: str,
        settings: Settings,
        news: News,
        guardian: Guardian,
        init: int,
    ) -> None:
        self._header = header
        self._directory = directory
        self._settings = settings
        self._news = news
        self._guardian = guardian
        self._starting = False
        self._pidfd = init

    @property
    def phase(self) -> Phase:
        """Where the container is in its life."""
        header = self._header
        return phase_of(header.created, header.started, header.exit_code)

    async def wait_exit(self) -> None:
        """Return when the container's end is in the header, and a start under way is, too."""
        while not self._header.exit_code or self._starting:
            await self._news.wait()

    async def watch_keeper(self) -> None:
        """See the container go even when no keeper is there to tell; then return.

        One that was gone before anybody had a pidfd of it has its end in the header.
        """
        if self._pidfd < 0:
            return
        await watch_keeper(self._pidfd, self._header, self._news, self._guardian)

    async def enforce_timeout(self) -> None:
        """Kill the container when its time is over. Returns then, or when it has no limit.

        By a clock that never jumps, and goes on while no server is there.
        """
        limit = self._settings.timeout
        if limit is None:
            return
        while not self._header.started:
            await self._news.wait()
        await trio.sleep(max(0.0, limit - run_time(self._header)))
        if not self._header.exit_code:
            self._header.timed_out = 1
            with contextlib.suppress(LifecycleError):
                self._kill()

    def _kill(self) -> None:
        """Kill it; of a program that was executed in another container its group as well."""
        if self._settings.door.exec_of:
            with contextlib.suppress(OSError):
                os.killpg(os.getpgid(self._header.pid), signal.SIGKILL)
        self.signal(signal.SIGKILL)

    async def start(self) -> None:
        """Run ``runc start``. Raises LifecycleError or RuntimeFailed."""
        advance(self.phase, Step.START)
        if self._starting:
            raise LifecycleError("the container is being started")
        self._starting = True
        begun, clock = time.time_ns(), time.monotonic_ns()
        try:
            await self._call_start()
            self._note_start(begun, clock)
        finally:
            self._starting = False
            self._news.tell()

    async def find_start(self) -> None:
        """Ask the runtime whether a start was under way when the server before us died."""
        if self.phase is Phase.CREATED and await self._is_running():
            self._note_start(time.time_ns(), time.monotonic_ns())

    async def _call_start(self) -> None:
        """Have the runtime start it. Raises RuntimeFailed, but not of one that has done it."""
        try:
            await self.call_runtime("start", self._settings.id)
        except RuntimeFailed as error:
            if not await self._is_running():
                raise
            _log.error("the container runs, though its runtime has failed: %s", error)

    async def _is_running(self) -> bool:
        """Ask the runtime; what it cannot tell is no."""
        with contextlib.suppress(RuntimeFailed, ValueError):
            told = json.loads(await self.call_runtime("state", self._settings.id))
            return isinstance(told, dict) and told.get("status") == "running"
        return False

    def signal(self, number: int) -> None:
        """Send a signal to the container's init.

        Raises LifecycleError when it has ended, Refused for what is not a signal.
        """
        if self.phase is Phase.STOPPED:
            raise LifecycleError("cannot signal a container that is stopped")
        pidfd.send(self._pidfd, number)

    async def call_runtime(self, *words: str) -> bytes:
        """Call the runtime and return its stdout; raises RuntimeFailed with its own words.

        It may take as long as creation might.
        """
        settings, log = self._settings, os.path.join(self._directory, files.RUNTIME_LOG)
        argv = [*settings.runtime, *words]
        return await ask(argv, words[0], settings.create_timeout, log)

    def write_phase(self, *, deleted: bool = False) -> None:
        """Bring state.json up to date; when its directory is gone, nothing is made again."""
        path = os.path.join(self._directory, files.STATE)
        with _told(path):
            state = files.read_json(path) | {
                "phase": self.phase.value,
                "started": self._header.started,
                "started_clock": self._header.started_clock,
                "deleted": deleted,
            }
            files.write_json(path, state)

    def note_keeper(self, pid: int) -> None:
        """Tell others which process is the keeper now."""
        path = os.path.join(self._directory, files.STATE)
        with _told(path):
            state = files.read_json(path)
            files.write_json(
                path, state | {"keeper_pid": pid, "keeper_start": start_time(pid)}
            )
        ours = os.path.join(self._directory, files.KEEPER_PID)
        with contextlib.suppress(OSError):
            files.write_number(ours, pid, mode=0o600)
        if self._settings.keeper_pid_file:
            with contextlib.suppress(OSError):
                files.write_number(self._settings.keeper_pid_file, pid)

    def _note_start(self, begun: int, clock: int) -> None:
        self._header.started_clock = clock
        self._header.started = begun
        self._news.tell()
        self.write_phase()


def run_time(header: Header, clock: Callable[[], int] = time.monotonic_ns) -> float:
    """Return for how many seconds a container that was started has run."""
    return (clock() - header.started_clock) / 1e9


async def watch_keeper(fd: int, header: Header, news: News, guardian: Guardian) -> None:
    """Wait for the end of the process that ``fd`` is a pidfd of, then for the keeper to note it.

    When it does not, or is gone itself, note what the kernel tells; then return.
    """
    await trio.lowlevel.wait_readable(fd)
    found: tuple[int, int] | None = None
    with trio.move_on_after(KEEPER_SECONDS):
        while found is None and not header.exit_code:
            with trio.move_on_after(_POLL_SECONDS):
                await news.wait()
            found = None if guardian.alive else pidfds.exit_of(fd)
    if not header.exit_code:
        code, status = found or (CLD_UNKNOWN, 0)
        header.exit_time = time.time_ns()
        header.exit_status = status
        header.exit_code = code
        news.tell()
