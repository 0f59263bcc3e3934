"""conmon's caller: its pipes, and what it finds in the bundle. Birth's caller (`keeper.caller`)."""

import contextlib
import os
import time
from collections.abc import Iterable
from typing import NamedTuple

from attachd.doors import places
from attachd.doors.conmon import ends
from attachd.doors.conmon.control import last_size
from attachd.doors.conmon.pipes import Pipes, line, tell
from attachd.doors.conmon.wishes import CONTROL, NOTIFY, STATUS, SYNC, WINDOW
from attachd.doors.ways import ATTACH, PLACES
from attachd.errors import AttachdError, RuntimeFailed
from attachd.keeper import console, files
from attachd.keeper.caller import Early, Ways
from attachd.keeper.descriptors import Libc
from attachd.keeper.processes import spawn
from attachd.keeper.runtime import TIMEOUT
from attachd.state.sizes import Size

#: Podman reads a line into so much, and takes a longer one for garbage.
_LINE_BYTES = 4096

#: conmon's words for a terminal that did not come.
_NO_TERMINAL = "Runtime did not set up terminal"


class Wanted(NamedTuple):
    """What of the command line concerns the manager and not the container."""

    bundle: str = ""  #: where socket and FIFOs are made; "" for nowhere
    link: str = ""  #: a link to the bundle
    pid_file: str = ""  #: for our own pid
    key: str = ""  #: how a pid is called on the sync pipe; "" when none is told
    failure_key: str = ""
    own_words: bool = False  #: a failure of which the runtime says nothing is told in ours
    waits: bool = False  #: a second "go" comes when the attach socket is there
    notifies: bool = False  #: what the program says to systemd is passed on
    exit_command: tuple[str, ...] = ()
    exit_delay: float = 0.0  #: seconds before it
    inherited: tuple[int, ...] = ()


class Manager:
    """`keeper.caller.Caller` for one call."""

    fd = -1  #: the sync pipe stays open for the server
    looks_on = True

    def __init__(
        self, pipes: Pipes, wanted: Wanted, status: int, held: tuple[int, ...]
    ) -> None:
        self.inherited = wanted.inherited
        self.held = tuple(fd for fd in held if fd not in pipes) + self._still_needed(pipes)
        self._pipes = pipes
        self._wanted = wanted
        self._status = status
        self._control = -1

    @staticmethod
    def _still_needed(pipes: Pipes) -> tuple[int, ...]:
        return tuple(fd for fd in (pipes.start, pipes.attach) if fd >= 0)

    def prepare(self) -> Ways:
        """Make the attach socket, the FIFOs and the link to them."""
        kept = {PLACES: places.make()}
        made = list[str]()
        if self._pipes.sync >= 0:
            kept[SYNC] = self._pipes.sync
        if self._status >= 0:
            kept[STATUS] = self._status
        try:
            if self._wanted.bundle:
                self._furnish(self._wanted.bundle, kept, made)
        except OSError as error:
            for path in reversed(made):
                files.remove_file(path)
            where = self._wanted.link or self._wanted.bundle
            raise AttachdError(
                f"cannot make what clients attach to, {where}: {error.strerror}"
            ) from None
        return Ways(kept, tuple(made))

    def _furnish(self, bundle: str, kept: dict[str, int], made: list[str]) -> None:
        if self._wanted.link:
            ends.make_link(self._wanted.link, bundle)
            made.append(self._wanted.link)
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            inside = f"/proc/self/fd/{directory}"
            kept[ATTACH] = ends.listen(f"{inside}/attach")
            made.append(os.path.join(bundle, "attach"))
            for name, what in (("ctl", CONTROL), ("winsz", WINDOW)):
                made.append(os.path.join(bundle, name))
                kept[what] = ends.make_fifo(f"{inside}/{name}")
            if self._wanted.notifies:
                kept[NOTIFY] = ends.make_notify(f"{inside}/notify")
                made.append(os.path.join(bundle, "notify", ends.NOTIFY))
        finally:
            os.close(directory)
        self._control = kept[CONTROL]

    def note_keeper(self, pid: int) -> None:
        """Write our pid where it was asked for."""
        if self._wanted.pid_file:
            files.write_number(self._wanted.pid_file, pid)

    def begin(self) -> Size | None:
        """Wait for the manager's second "go", and see which size it wants by then."""
        if not self._wanted.waits:
            return None
        tell(self._pipes.attach, line("data", 0))
        self._pipes.wait_start()
        return last_size(Libc().peek(self._control)) if self._control >= 0 else None

    def watch(self, terminal: int) -> Early | None:
        """Heed the size that the manager wants before it starts the program."""
        if terminal < 0 or self._control < 0:
            return None
        return FirstSize(self._control, terminal)

    def created(self, pid: int) -> None:
        """Tell the pid."""
        if self._wanted.key:
            tell(self._pipes.sync, line(self._wanted.key, pid))

    def failed(self, error: AttachdError, environment: dict[str, str]) -> None:
        """Tell the runtime's words, then run the exit command.

        Before, what the manager's next call may need is let go: the ports that it holds by
        descriptors of ours. The sync pipe ends before the command begins.
        """
        _close(self.held)
        self.tell_failure(error)
        _close((self._pipes.sync,))
        if self._wanted.exit_command:
            time.sleep(self._wanted.exit_delay)
            with contextlib.suppress(OSError):
                argv = list(self._wanted.exit_command)
                os.waitpid(spawn(argv, environment, (0, 1, 1)), 0)

    def tell_failure(self, error: AttachdError) -> None:
        """Tell why there is no container, in a line that the manager can read."""
        said = str(error)
        if isinstance(error, RuntimeFailed) and error.verb != TIMEOUT:
            said = error.stderr or (said if self._wanted.own_words else "")
        if said == console.NOT_SET_UP:
            said = _NO_TERMINAL
        key = self._wanted.failure_key
        while len(told := line(key, -1, said)) > _LINE_BYTES:
            said = said[: len(said) * 3 // 4]
        tell(self._pipes.sync, told)


class FirstSize:
    """`keeper.caller.Early`: what is said in ``ctl`` before there is a server to hear it."""

    def __init__(self, control: int, terminal: int) -> None:
        self._control = control
        self._terminal = terminal
        self._said = b""

    @property
    def fds(self) -> list[int]:
        """The FIFO, until something lies in it."""
        return [] if self._said else [self._control]

    @property
    def expected(self) -> bool:
        """True when something lies there, to which more may come."""
        return bool(self._said)

    def look(self) -> None:
        """Give the terminal the last size that was wanted; a server may do what we cannot."""
        with contextlib.suppress(OSError):
            said = Libc().peek(self._control)
            if said != self._said:
                self._said = said
                size = last_size(said)
                if size is not None:
                    console.set_size(self._terminal, size)


def open_descriptors() -> tuple[int, ...]:
    """Return every descriptor of ours beyond stdio."""
    found = [int(name) for name in os.listdir("/proc/self/fd")]
    return tuple(fd for fd in found if fd > 2 and _is_open(fd))


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
