"""Birth: one sequence from a Config to a running keeper, read from top to bottom.

Everything that can be refused is refused before the fork, in the caller's own process; what
fails after it is undone by the keeper, which then reports the error. Nothing half-made stays.
"""

import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

from attachd.errors import AttachdError, UsageError
from attachd.keeper import (
    access,
    bundle,
    creation,
    daemon,
    descriptors,
    files,
    keep,
    parcels,
    report,
)
from attachd.keeper.caller import Caller, Reporter
from attachd.keeper.claim import check_id, claim
from attachd.keeper.config import Config
from attachd.keeper.processes import find_runtime, note_passing
from attachd.keeper.room import make_room
from attachd.state.eofpolicy import NEVER, ONCE
from attachd.state.sizes import DEFAULT_POLICY


class Newborn(NamedTuple):
    """A container that was made: its pid (None with ``sync_fd``), and our own connection."""

    pid: int | None
    connection: int | None


def create(config: Config, *, attach: bool = False, caller: Caller | None = None) -> Newborn:
    """Make a container and its shim.

    Returns when the creation report is in; with ``config.sync_fd`` at once, the report then
    goes there, and with a ``caller`` at once, too. With ``attach`` the connection is made before
    the container is, so that its first byte cannot be missed. Raises UsageError, RuntimeFailed
    or AttachdError.
    """
    check_id(config.id)
    note_passing(os.environ, whole=config.door.passes_environment)
    config = config._replace(runtime=find_runtime(config.runtime))
    if config.bundle and not config.door:
        config = _heed_bundle(config)
    config = config._replace(size=config.size or config.own_size)
    directory = claim(config.root, config.id, replace=bool(config.door))
    made: list[str] = []
    read, caller = (-1, caller) if caller is not None else _own_caller(config, looks_on=attach)
    try:
        shim, made = _prepare(config, directory, caller)
        connection = _connect(directory) if attach else None
    except (AttachdError, OSError) as error:
        _unmake(config, made)
        os.close(directory)
        raise report.as_attachd_error(error) from None
    return Newborn(_fork(shim, caller, read), connection)


def _own_caller(config: Config, *, looks_on: bool) -> tuple[int, Caller]:
    """Return where the report can be read, -1 when somebody else does, and who writes it."""
    if config.sync_fd is not None:
        return -1, Reporter(config.sync_fd)
    read, write = os.pipe2(os.O_CLOEXEC)
    return read, Reporter(write, looks_on=looks_on)


def _heed_bundle(config: Config) -> Config:
    """Take from a bundle whether there is a terminal, and its size unless one was given."""
    spec = bundle.read_spec(config.bundle)
    terminal = bundle.wants_terminal(spec)
    if config.terminal and not terminal:
        raise UsageError(
            f"{config.bundle} asks for no terminal: set process.terminal to true, or leave --tty"
        )
    if not terminal and (config.size or config.size_policy != DEFAULT_POLICY):
        raise UsageError("--size and --size-policy are for a container with a terminal")
    if terminal and config.stdin_eof == ONCE:
        raise UsageError("--stdin-eof once is for pipes: a terminal stays open")
    size = config.size or config.own_size or bundle.console_size(spec)
    return config._replace(terminal=terminal, size=size)


def _prepare(
    config: Config, directory: int, caller: Caller
) -> tuple[creation.Shim, list[str]]:
    """Make every file and descriptor; return the shim and the paths outside its directory."""
    make_room(config.directory)
    if not config.bundle:
        path = os.path.join(config.directory, files.BUNDLE)
        os.mkdir(path, 0o700)
        bundle.write_bundle(path, config.command, config.id, terminal=config.terminal)
        config = config._replace(bundle=path)
    logs, specs, made = descriptors.open_logs(config.logs, rotated=config.log_care.rotates)
    config = config._replace(logs=tuple(specs))
    try:
        ways = caller.prepare()
        made += ways.made
        stdio = _make_stdio(config)
        ring, header = descriptors.make_ring(config.ring_size)
        parcels_end, post = parcels.make()
        table = descriptors.make_table(directory, ring, header, parcels_end, stdio.ours)
        table = table._replace(kept=descriptors.named_logs(logs) | dict(ways.kept))
        access.open_to(config.rights, config.root, directory)
    except BaseException:
        descriptors.unmake(made)
        raise
    stream_id = os.urandom(16).hex()
    return creation.Shim(config, table, post, stdio.ends, stream_id, tuple(made)), made


def _make_stdio(config: Config) -> descriptors.Stdio:
    if config.terminal:
        return descriptors.make_inner_pipe()
    if config.door.passthrough:
        return descriptors.make_ended_pipes()
    if not config.outlives:
        return descriptors.make_pipes(config.stdin)
    lasting = config.stdin_eof == NEVER
    return descriptors.make_lasting_pipes(config.stdin, lasting_stdin=lasting)


def _connect(directory: int) -> int:
    """Connect to the shim that is about to be: the listener's backlog keeps us until it serves."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(f"/proc/self/fd/{directory}/{files.SOCKET}")
    return client.detach()


def _unmake(config: Config, made: Sequence[str]) -> None:
    descriptors.unmake(made)
    files.empty_directory(config.directory)
    descriptors.unmake([config.directory])


def _fork(shim: creation.Shim, caller: Caller, read: int) -> int | None:
    """Daemonize the keeper; return the pid it reports, or None when it reports to the caller."""
    kept = {caller.fd, *caller.inherited, *caller.held, *shim.held} - {-1}

    def live() -> None:
        for fd in kept:
            os.set_inheritable(fd, False)
        keep.keep(shim, caller)

    told = daemon.fork(shim.table.directory, kept, live, caller.note_keeper)
    if not told:
        _unmake(shim.config, shim.made)
    for fd in (caller.fd, *shim.held):
        if fd >= 0:
            os.close(fd)
    if not told:
        raise AttachdError("the pid of the shim cannot be written where it was asked for")
    if read < 0:
        return None
    try:
        return report.receive(read)
    finally:
        os.close(read)
