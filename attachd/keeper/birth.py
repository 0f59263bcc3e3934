"""Birth: one sequence from a Config to a running keeper, read from top to bottom.

Everything that can be refused is refused before the fork, in the caller's own process; what
fails after it is undone by the keeper, which then reports the error. Nothing half-made stays.
"""

import os
import socket
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
from attachd.keeper.claim import check_id, claim
from attachd.keeper.config import Config
from attachd.keeper.processes import find_runtime
from attachd.keeper.room import make_room
from attachd.state.eofpolicy import NEVER, ONCE
from attachd.state.sizes import DEFAULT_POLICY


class Newborn(NamedTuple):
    """A container that was made: its pid (None with ``sync_fd``), and our own connection."""

    pid: int | None
    connection: int | None


def create(config: Config, *, attach: bool = False) -> Newborn:
    """Make a container and its shim.

    Returns when the creation report is in; with ``config.sync_fd`` at once, the report then
    goes there. With ``attach`` the connection is made before the container is, so that its
    first byte cannot be missed. Raises UsageError, RuntimeFailed or AttachdError.
    """
    check_id(config.id)
    config = config._replace(runtime=find_runtime(config.runtime))
    config = _heed_bundle(config) if config.bundle else config
    config = config._replace(size=config.size or config.own_size)
    directory = claim(config.root, config.id)
    made: list[str] = []
    try:
        shim, made = _prepare(config, directory)
        connection = _connect(directory) if attach else None
    except (AttachdError, OSError) as error:
        _unmake(config, made, directory)
        raise report.as_attachd_error(error) from None
    return Newborn(_fork(shim), connection)


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


def _prepare(config: Config, directory: int) -> tuple[creation.Shim, list[str]]:
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
        stdio = _make_stdio(config)
        ring, header = descriptors.make_ring(config.ring_size)
        parcels_end, post = parcels.make()
        table = descriptors.Table(
            directory=directory,
            header=header,
            ring=ring,
            intake=os.memfd_create("attachd-stdin", os.MFD_CLOEXEC),
            listener=descriptors.make_listener(directory, files.SOCKET),
            news=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
            orders=os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK),
            parcels=parcels_end,
            kept=descriptors.named_logs(logs),
            **stdio.ours,
        )
        access.open_to(config.rights, config.root, directory)
    except BaseException:
        descriptors.unmake(made)
        raise
    stream_id = os.urandom(16).hex()
    return creation.Shim(config, table, post, stdio.ends, stream_id, tuple(made)), made


def _make_stdio(config: Config) -> descriptors.Stdio:
    if config.terminal:
        return descriptors.make_inner_pipe()
    if not config.outlives:
        return descriptors.make_pipes(config.stdin)
    lasting = config.stdin_eof == NEVER
    return descriptors.make_lasting_pipes(config.stdin, lasting_stdin=lasting)


def _connect(directory: int) -> int:
    """Connect to the shim that is about to be: the listener's backlog keeps us until it serves."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(f"/proc/self/fd/{directory}/{files.SOCKET}")
    return client.detach()


def _unmake(config: Config, made: list[str], directory: int) -> None:
    descriptors.unmake(made)
    files.empty_directory(config.directory)
    descriptors.unmake([config.directory])
    os.close(directory)


def _fork(shim: creation.Shim) -> int | None:
    """Daemonize the keeper; return the pid it reports, or None when it reports to the caller."""
    sync_fd = shim.config.sync_fd
    read, write = (-1, sync_fd) if sync_fd is not None else os.pipe2(os.O_CLOEXEC)

    def live() -> None:
        os.set_inheritable(write, False)
        keep.keep(shim, write)

    daemon.fork(shim.table.directory, {write, *shim.held}, live)
    for fd in (write, *shim.held):
        os.close(fd)
    if read < 0:
        return None
    try:
        return report.receive(read)
    finally:
        os.close(read)
