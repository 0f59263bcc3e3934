"""conmon's first process: makes container and shim, and goes when the keeper is told of.

Startup matters here, since a manager starts one for each container and each exec: nothing that
is slow to import is on this path.
"""

import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Collection

from attachd.doors.conmon.drivers import K8S_FILE, Driver
from attachd.doors.conmon.manager import Manager, Wanted, open_descriptors
from attachd.doors.conmon.options import Options
from attachd.doors.conmon.pipes import Pipes
from attachd.doors.conmon.translation import bundle_of, config_of, link_of
from attachd.errors import AttachdError
from attachd.keeper import birth, console, files
from attachd.keeper.claim import lock
from attachd.keeper.config import Config
from attachd.keeper.ears import PASSED_ON

_FAILED = 1

#: The status of a container that nobody knows, or that was killed because its time was over.
_UNKNOWN = 255

#: A shim that was killed is gone within so long, unless a disk keeps it.
_SWEEP_SECONDS = 5.0
_SWEEP_PAUSE = 0.01

#: A status is a small number in digits.
_STATUS_BYTES = 64


def launch(options: Options, drivers: tuple[Driver, ...]) -> int:
    """Make what the options ask for; return the exit code.

    With ``--sync`` that is the program's own, when it has ended.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o022)
    _check_log_directories(drivers)
    pipes = Pipes.of(os.environ)
    if options.exec_attach and pipes.attach < 0:
        raise AttachdError("--attach specified but _OCI_ATTACHPIPE was not")
    pipes.wait_start()
    given = open_descriptors()
    stay = Stay() if options.sync else None
    config = config_of(options, drivers)
    if config.terminal:
        # Podman's own, whose size it also says, but a busy keeper may hear that after the
        # program has asked for it.
        config = config._replace(own_size=console.own_size())
    inherited = _inherited(options, config.door.listens, set(given) - set(pipes))
    theirs = stay.theirs if stay else -1
    manager = Manager(pipes, _wanted(options, config, inherited), theirs, given)
    for name in ("_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"):
        os.environ.pop(name, None)
    try:
        birth.create(config, caller=manager)
    except AttachdError as error:
        manager.tell_failure(error)
        raise
    return stay.wait(config.directory) if stay else 0


def _check_log_directories(drivers: tuple[Driver, ...]) -> None:
    """Refuse a log in a directory that is not there: conmon makes none, and nobody removes it."""
    for driver in drivers:
        directory = os.path.dirname(os.path.abspath(driver.path))
        if driver.driver == K8S_FILE and not os.path.isdir(directory):
            raise AttachdError(
                f"Failed to open log file {driver.path}: {directory} is no directory"
            )


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


def _inherited(options: Options, listens: bool, given: Collection[int]) -> tuple[int, ...]:
    """Return which of those given the runtime is to pass on, from 3 on.

    It is told how many by ``--preserve-fds`` and, when it ``listens``, by LISTEN_FDS
    (sd_listen_fds(3)).
    """
    words = " ".join(options.runtime_opt).replace("--preserve-fds=", "--preserve-fds ").split()
    counts = [
        word for before, word in itertools.pairwise(words) if before == "--preserve-fds"
    ][:1]
    counts += [os.environ.get("LISTEN_FDS", "")] if listens else []
    most = max(
        (int(word[:9]) for word in counts if word.isascii() and word.isdigit()), default=0
    )
    return tuple(sorted(fd for fd in given if 3 <= fd < 3 + most))


class Stay:
    """A launcher that stays (``--sync``): it is signalled as if it were the program, and ends so.

    Over a socket, of which a server has the other end, whichever server that is: there a
    signal's number goes in one packet, and from there the status comes in one. It is closed
    when the shim has gone.
    """

    def __init__(self) -> None:
        """Signals are passed on from now on; what comes before there is a program waits."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.theirs = theirs.detach()
        self._peer = ours
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)

    def wait(self, directory: str) -> int:
        """Return the program's status when it has ended and nothing of its shim is left.

        Whoever reads what we would say is let go before. A shim that was killed as a whole
        tells no status, and its state directory is removed here.
        """
        _leave_stdio()
        told = b""
        while part := self._peer.recv(_STATUS_BYTES):
            told = told or part  # a server that was killed in between has told it before
        if not told:
            _sweep(directory)
            return _FAILED
        return int(told) if int(told) >= 0 else _UNKNOWN

    def _pass_on(self, number: int, _frame: object) -> None:
        with contextlib.suppress(OSError):  # there is nobody any more
            self._peer.send(bytes([number]), socket.MSG_DONTWAIT)


def _sweep(directory: str) -> None:
    """Remove a state directory that is nobody's any more, or will not be in a moment.

    Of who was killed the kernel closes one descriptor after the other.
    """
    deadline = time.monotonic() + _SWEEP_SECONDS
    with contextlib.suppress(OSError, AttachdError):
        while lock(directory) is None:
            if time.monotonic() > deadline:
                return
            time.sleep(_SWEEP_PAUSE)
        files.empty_directory(directory)
        os.rmdir(directory)


def _leave_stdio() -> None:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in range(3):
        os.dup2(null, fd)
    os.close(null)
