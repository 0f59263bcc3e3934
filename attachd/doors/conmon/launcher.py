"""conmon's first process: makes container and shim, and goes when the keeper is told of.

Startup matters here, since a manager starts one for each container and each exec: nothing that
is slow to import is on this path.
"""

import itertools
import os
import signal
from collections.abc import Collection

from attachd.doors.conmon.drivers import Driver
from attachd.doors.conmon.manager import Manager, Wanted, open_descriptors
from attachd.doors.conmon.options import Options
from attachd.doors.conmon.pipes import Pipes
from attachd.doors.conmon.translation import bundle_of, config_of, link_of
from attachd.errors import AttachdError
from attachd.keeper import birth, console
from attachd.keeper.config import Config

_FAILED = 1

#: The status of a container that nobody knows, or that was killed because its time was over.
_UNKNOWN = 255


def launch(options: Options, drivers: tuple[Driver, ...]) -> int:
    """Make what the options ask for; return the exit code.

    With ``--sync`` that is the program's own, when it has ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o022)
    pipes = Pipes.of(os.environ)
    if options.exec_attach and pipes.attach < 0:
        raise AttachdError("--attach specified but _OCI_ATTACHPIPE was not")
    pipes.wait_start()
    given = open_descriptors()
    read, write = os.pipe2(os.O_CLOEXEC) if options.sync else (-1, -1)
    config = config_of(options, drivers)
    if config.terminal:
        # Podman's own, whose size it also says, but a busy keeper may hear that after the
        # program has asked for it.
        config = config._replace(own_size=console.own_size())
    inherited = _inherited(options, set(given) - set(pipes))
    manager = Manager(pipes, _wanted(options, config, inherited), write, given)
    for name in ("_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"):
        os.environ.pop(name, None)
    try:
        birth.create(config, caller=manager)
    except AttachdError as error:
        manager.tell_failure(error)
        raise
    return _wait(read) if options.sync else 0


def _wanted(options: Options, config: Config, inherited: tuple[int, ...]) -> Wanted:
    bundle = "" if config.door.passthrough else bundle_of(options)
    legacy = "exit_code" if options.exec else "pid"
    key = "data" if options.api_version else legacy
    command = (config.exit_command, *config.exit_command_args)
    return Wanted(
        bundle=bundle,
        link=link_of(options) if bundle else "",
        pid_file=config.keeper_pid_file,
        key="" if options.exec and not options.api_version else key,
        failure_key=key,
        own_words=options.exec,
        waits=options.exec_attach,
        notifies=bool(options.sdnotify_socket),
        exit_command=command if config.exit_command else (),
        exit_delay=float(options.exit_delay),
        inherited=inherited,
    )


def _inherited(options: Options, given: Collection[int]) -> tuple[int, ...]:
    """Return which of those given the runtime is to pass on (``--preserve-fds N``, from 3 on)."""
    words = " ".join(options.runtime_opt).replace("--preserve-fds=", "--preserve-fds ").split()
    for before, word in itertools.pairwise(words):
        if before == "--preserve-fds" and word.isascii() and word.isdigit():
            return tuple(sorted(fd for fd in given if 3 <= fd < 3 + int(word[:9])))
    return ()


def _wait(read: int) -> int:
    """Return the program's status when the shim has told it and gone."""
    os.close(0)
    told = b""
    while part := os.read(read, 64):
        told += part
    try:
        status = int(told.partition(b"\n")[0])  # perhaps a server said it, and its successor
    except ValueError:
        return _FAILED
    return status if status >= 0 else _UNKNOWN
