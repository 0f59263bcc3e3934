"""What the caller wants of one shim, as plain values. Built in ``cli``, read nowhere as a whole."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from attachd.state.eofpolicy import ANY
from attachd.state.journal import Journal
from attachd.state.rights import Policy
from attachd.state.sizes import DEFAULT_POLICY, Size

#: 4 MiB: some 50,000 short lines of history, allocated only as output comes.
DEFAULT_RING = 4 * 1024 * 1024
MIN_RING = 64 * 1024
MAX_RING = 1 << 30


class LogCare(NamedTuple):
    """How logs are rotated, kept and written; 0 and empty text mean "no limit" and "no"."""

    max_size: int = 0
    max_files: int = 0
    max_age: float = 0.0
    max_total: int = 0
    cuts: bool = False  #: a file may end with a piece of a line, and so is never over max_size
    max_ever: int = 0  #: a log that has so much text gets no more of it, for good
    compress: str = ""
    on_error: str = "drop"
    sync: bool = False

    @property
    def rotates(self) -> bool:
        """True when a file is left for a new one by itself."""
        return bool(self.max_size or self.max_age)


class LogSpec(NamedTuple):
    """One log: how it is written, and where; ``start`` is its file's size when this shim began.

    For the format ``journald`` the path is the socket's.
    """

    format: str
    path: str
    start: int = 0


class Door(NamedTuple):
    """What only a manager asks for that came by another door than ours (`attachd.doors`).

    Such a manager starts and deletes the container by itself, so that it counts as running from
    its creation on, and nothing of ours is left when it has ended.
    """

    kind: str = ""  #: the package in `attachd.doors` that serves it; "" for our own
    name: str = ""  #: what people call the container, besides its id
    exec_of: str = ""  #: in which container ``process`` is executed; "" to create one
    process: str = ""  #: path of the process to execute (runtime-spec, config.md, "Process")
    restore: str = ""  #: path of a checkpoint from which it is to be restored
    options: tuple[str, ...] = ()  #: of the runtime's verb that makes it
    own_log: bool = True  #: the runtime writes its log for us, unless the manager wants it
    passthrough: bool = False  #: the container has the manager's own stdio
    listens: bool = False  #: descriptors for it are meant for whom LISTEN_PID names
    passes_environment: bool = False  #: programs that we start get all of the manager's
    wishes: Mapping[str, object] = MappingProxyType({})  #: what its server half reads, as JSON

    def __bool__(self) -> bool:
        return bool(self.kind)


class Config(NamedTuple):
    """Times are seconds, sizes bytes, paths absolute; empty text and None mean "not wanted"."""

    id: str
    root: str
    bundle: str = ""
    command: tuple[str, ...] = ()
    runtime: str = "runc"
    runtime_root: str = ""
    runtime_args: tuple[str, ...] = ()
    logs: tuple[LogSpec, ...] = ()
    log_care: LogCare = LogCare()
    journal: Journal = Journal()  #: what entries of a log of format ``journald`` tell
    pid_file: str = ""
    keeper_pid_file: str = ""
    exit_file: str = ""
    sync_fd: int | None = None
    outlives: bool = True  #: it holds its own pipes, and lives on without any process of ours
    stdin: bool = False
    stdin_eof: str = ANY  #: who may close stdin: a policy of `state.eofpolicy`
    ring_size: int = DEFAULT_RING
    rm: bool = False
    timeout: float | None = None
    exit_command: str = ""
    exit_command_args: tuple[str, ...] = ()
    oom_score_adj: int | None = None
    drain_timeout: float = 2.0
    linger: float = 1.0
    allow_block: float = 0.0  #: how long a client may hold the container up; 0: not at all
    create_timeout: float = 120.0
    terminal: bool = False
    size: Size | None = None
    own_size: Size | None = None  #: of the terminal in which it will be seen at once
    size_policy: str = DEFAULT_POLICY
    start: bool = False
    rights: Policy = Policy()  #: whom besides root and us it is open to
    door: Door = Door()

    @property
    def directory(self) -> str:
        """The container's state directory."""
        return os.path.join(self.root, self.id)

    @property
    def container(self) -> str:
        """What the runtime knows it by: an exec is a program in another one."""
        return self.door.exec_of or self.id
