"""Who has asked for a container, as birth and the young keeper see it: told how it went, asked
when it may begin. Our own command line is one of them; a door (`attachd.doors`) is another.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from attachd.errors import AttachdError
from attachd.keeper import report
from attachd.state.sizes import Size


class Ways(NamedTuple):
    """What a door has made beside our own socket, before there is a container."""

    kept: Mapping[str, int] = {}  #: descriptors for the server, by names that begin with DOOR
    made: tuple[str, ...] = ()  #: paths outside the state directory, to be removed on failure


#: How the names of a door's descriptors begin, among those that the keeper keeps.
DOOR = "door/"


class Early(Protocol):
    """What the caller may want before a server can give it, or while none is there."""

    @property
    def fds(self) -> list[int]:
        """What becomes readable when it may have said something."""

    @property
    def expected(self) -> bool:
        """True while it is to be looked again soon."""

    def look(self) -> None:
        """Heed what it has said, and leave it to be read by the server."""


class Caller(Protocol):
    """Asked in this order: ``prepare`` by the launcher, the others by the keeper."""

    @property
    def fd(self) -> int:
        """Where it hears how creation went; -1 for nowhere."""

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors that the runtime gets under the same numbers, and only it."""

    @property
    def held(self) -> tuple[int, ...]:
        """Descriptors that stay open until the container has ended, and nobody else gets."""

    @property
    def looks_on(self) -> bool:
        """True when somebody wants the program's output and end more than the report.

        The server's code is then loaded while the runtime is at work: it is there a tenth of a
        second sooner, and the report comes a tenth of that later (`scripts/bench`, births and
        podman).
        """

    def prepare(self) -> Ways:
        """Make what is outside the state directory. Raises AttachdError or OSError."""

    def note_keeper(self, pid: int) -> None:
        """The keeper is this process. Raises OSError; called in a process between."""

    def begin(self) -> Size | None:
        """Return when the runtime may be called, and with which size of a terminal, if known."""

    def watch(self, terminal: int) -> "Early | None":
        """Return what is to be heeded of the caller before there is a server, if anything."""

    def created(self, pid: int) -> None:
        """It is there."""

    def failed(self, error: AttachdError, environment: dict[str, str]) -> None:
        """It could not be made, and everything is undone; ``environment`` is for programs."""


class Reporter:
    """Our own caller: reads one line of JSON (`keeper.report`) from a descriptor."""

    inherited: tuple[int, ...] = ()
    held: tuple[int, ...] = ()

    def __init__(self, fd: int, *, looks_on: bool = False) -> None:
        self.fd = fd
        self.looks_on = looks_on

    def prepare(self) -> Ways:
        """There is no way but our own socket."""
        return Ways()

    def note_keeper(self, pid: int) -> None:
        """It is told with the pid of the container."""

    def begin(self) -> Size | None:
        """At once."""
        return None

    def watch(self, terminal: int) -> Early | None:
        """It says nothing."""
        return None

    def created(self, pid: int) -> None:
        """Report the pid."""
        report.send(self.fd, report.of_pid(pid))

    def failed(self, error: AttachdError, environment: dict[str, str]) -> None:
        """Report why."""
        report.send(self.fd, report.of_error(error))
