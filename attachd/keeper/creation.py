"""Creation: the runtime makes the container and starts it; what fails is undone.

In the keeper, after the fork: so the container is the keeper's child, and its descriptors go
nowhere else.
"""

import json
import os
import time
from typing import NamedTuple

from attachd.errors import AttachdError, RuntimeFailed
from attachd.keeper import console, descriptors, files, leftovers
from attachd.keeper.caller import Caller
from attachd.keeper.config import Config
from attachd.keeper.processes import Runtime, boot_id, start_time
from attachd.keeper.runtime import Words, call, failure
from attachd.state.header import Header
from attachd.state.sizes import DEFAULT_SIZE

#: What is above is the status of who was killed, as a shell tells it.
KILLED = 128

#: Has LISTEN_PID name the runtime, which takes the shell's place (sd_listen_fds(3)).
_AS_LISTENER = ("/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"')

#: runc delete and state are quick or stuck.
CALL_LIMIT = 60.0


class Shim(NamedTuple):
    """All there is at the moment of the fork."""

    config: Config
    table: descriptors.Table
    post: int  #: our own end of `parcels`
    ends: tuple[int, ...]  #: the container's descriptors from 0 on; none with a terminal
    stream_id: str
    made: tuple[str, ...]  #: log files and directories that we created

    @property
    def held(self) -> tuple[int, ...]:
        """Every descriptor that is ours."""
        return (self.post, *self.ends, *self.table.items().values())

    @property
    def runtime(self) -> Runtime:
        """How the runtime is called, with its log where we read the reason of a failure."""
        config = self.config
        log = os.path.join(config.directory, files.RUNTIME_LOG)
        own = ("--log", log, "--log-format", "json") if config.door.own_log else ()
        return Runtime(config.runtime, config.runtime_root, (*own, *config.runtime_args))


def bring_up(shim: Shim, header: Header, environment: dict[str, str], caller: Caller) -> Shim:
    """Create, note, and for ``run`` start the container; raises AttachdError or OSError.

    Returns the shim with what creation has added to its table.
    """
    config = shim.config
    _write_state(shim, header, "creating")
    size = caller.begin()
    if size is not None:
        shim = shim._replace(config=config._replace(size=size))
    pid_file = os.path.join(config.directory, files.PID)
    words = (*_verb(shim.config, pid_file), *config.door.options)
    if config.terminal:
        shim = _create_with_terminal(shim, words, environment, caller.inherited)
    else:
        _create_with_pipes(shim, words, environment, caller.inherited)
    header.pid = _read_pid(pid_file)
    os.chmod(pid_file, 0o600)
    if config.door:
        _note_start(header, time.time_ns(), time.monotonic_ns())
    _write_files(shim, header, "running" if config.door else "created")
    if config.start:
        start(shim, header, environment)
        _write_state(shim, header, "running")
    header.created = 1
    return shim


def _verb(config: Config, pid_file: str) -> tuple[str, ...]:
    """Return the runtime's verb that makes the program, with its first options."""
    door, pids = config.door, ("--pid-file", pid_file)
    if door.exec_of:
        return ("exec", "--detach", *pids, "--process", _process(config))
    if door.restore:
        image = ("--image-path", door.restore, "--work-path", config.bundle)
        return ("restore", "--detach", "--bundle", config.bundle, *pids, *image)
    return ("create", "--bundle", config.bundle, *pids)


def _process(config: Config) -> str:
    """Return the path of the process to execute, which begins in a terminal of the right size."""
    path = config.door.process
    if not config.terminal:
        return path
    try:
        process = files.read_json(path)
    except (OSError, ValueError):
        return path  # the runtime will tell what is wrong
    if config.size is None and process.get("consoleSize"):
        return path
    columns, rows = config.size or DEFAULT_SIZE
    size = {"width": columns, "height": rows}
    own = os.path.join(config.directory, files.PROCESS)
    files.write_json(own, process | {"consoleSize": size})
    return own


def _create_with_pipes(
    shim: Shim,
    words: tuple[str, ...],
    environment: dict[str, str],
    inherited: tuple[int, ...],
) -> None:
    """Run ``runc create``: what it has to say comes where the container's stderr will.

    So it does of ``runc exec``, when it has failed: before that the program has the word there.
    """
    config, stderr = shim.config, shim.table.stderr
    heard = Words(late=stderr) if config.door.exec_of else Words(stderr)
    more = len(shim.ends) - 3
    kept = ("--preserve-fds", str(more)) if more else ()
    try:
        words = (*words, *kept, config.container)
        _ask(shim, words, environment, shim.ends, heard, inherited)
    finally:
        for fd in shim.ends:
            os.close(fd)


def _create_with_terminal(
    shim: Shim,
    words: tuple[str, ...],
    environment: dict[str, str],
    inherited: tuple[int, ...],
) -> Shim:
    """Run ``runc create`` with a console socket; take the terminal that it sends."""
    config, directory = shim.config, shim.table.directory
    listener = descriptors.make_listener(directory, console.SOCKET)
    try:
        words = (*words, "--console-socket", console.path(directory), config.container)
        _ask_aside(shim, words, environment, inherited)
        terminal = console.receive(listener)
    finally:
        os.close(listener)
        os.unlink(console.SOCKET, dir_fd=directory)
    console.set_size(terminal, config.size or DEFAULT_SIZE)
    return shim._replace(table=shim.table._replace(terminal=terminal))


def _read_pid(path: str) -> int:
    """Return what the runtime wrote there; raises AttachdError when it did not."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        raise AttachdError("the runtime said that it worked, and wrote no pid") from None


def start(shim: Shim, header: Header, environment: dict[str, str]) -> None:
    """Run ``runc start``; raises RuntimeFailed."""
    # Before: it may have ended when the runtime returns.
    begun, clock = time.time_ns(), time.monotonic_ns()
    _ask_aside(shim, ("start", shim.config.id), environment)
    _note_start(header, begun, clock)


def _note_start(header: Header, begun: int, clock: int) -> None:
    header.started_clock = clock
    header.started = begun


def _ask_aside(
    shim: Shim,
    words: tuple[str, ...],
    environment: dict[str, str],
    inherited: tuple[int, ...] = (),
) -> None:
    """Call the runtime with a pipe of its own for its words; raises RuntimeFailed."""
    read, write = _make_pipe()
    try:
        _ask(shim, words, environment, (0, 1, write), Words(read), inherited)
    finally:
        os.close(read)
        os.close(write)


def _make_pipe() -> tuple[int, int]:
    """Return a pipe that we do not wait at; who writes does, or would lose what has no room."""
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    return read, write


def _ask(
    shim: Shim,
    words: tuple[str, ...],
    environment: dict[str, str],
    stdio: tuple[int, ...],
    heard: Words,
    inherited: tuple[int, ...] = (),
) -> None:
    listener = _AS_LISTENER if shim.config.door.listens else ()
    argv = [*listener, *shim.runtime.command(*words)]
    limit = shim.config.create_timeout
    status = call(argv, environment, stdio, heard, limit, inherited)
    if status != 0:
        log = os.path.join(shim.config.directory, files.RUNTIME_LOG)
        raise failure(words[0], status, heard.text, log)


def _write_files(shim: Shim, header: Header, phase: str) -> None:
    """Write state.json and the pid files that were asked for; raises OSError."""
    config = shim.config
    _write_state(shim, header, phase)
    ours = os.path.join(config.directory, files.KEEPER_PID)
    files.write_number(ours, os.getpid(), mode=0o600)
    if config.keeper_pid_file:
        files.write_number(config.keeper_pid_file, os.getpid())
    if config.pid_file:
        files.write_number(config.pid_file, header.pid)


def _write_state(shim: Shim, header: Header, phase: str) -> None:
    config = shim.config
    logs = [spec._asdict() for spec in config.logs]
    state = {
        "schema": 1,
        "id": config.id,
        "stream_id": shim.stream_id,
        "phase": phase,
        "pid": header.pid or None,
        "pid_start": start_time(header.pid) if header.pid else None,
        "keeper_pid": os.getpid(),
        "keeper_start": start_time(os.getpid()),
        "boot_id": boot_id(),
        "bundle": config.bundle,
        "runtime": list(shim.runtime.command()),
        "started": header.started,
        "started_clock": header.started_clock,
        "cgroups": _cgroups(header.pid),
        "pipes": {} if config.terminal else _pipes(shim.table),
        "recovered": 0,
        "former": {},
        "logs": logs,
        "made": list(shim.made),
        "deleted": False,
        "config": config._asdict()
        | {"logs": logs, "log_care": config.log_care._asdict()}
        | {"rights": config.rights._asdict(), "journal": config.journal._asdict()}
        | {"door": config.door._asdict() | {"wishes": dict(config.door.wishes)}},
    }
    files.write_json(os.path.join(config.directory, files.STATE), state)


def _pipes(table: descriptors.Table) -> dict[str, int]:
    """Return what somebody must know who takes the container up when we are gone."""
    ours = {"stdin": table.stdin, "stdout": table.stdout, "stderr": table.stderr}
    return descriptors.pipe_numbers(ours)


def _cgroups(pid: int) -> list[str]:
    """Return the lines of /proc/PID/cgroup: where to look for OOM kills when it has ended."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError:
        return []


def undo(shim: Shim, environment: dict[str, str], error: Exception) -> None:
    """Leave nothing of a failed creation: container, files, directory, log.

    A runtime that was killed could not clean up, and is asked to forget an id that it says not to
    know (runc delete --force removes its own directory then). One that has failed by itself has
    done so, and the id may be another's.
    """
    config = shim.config
    if config.door.exec_of:
        _undo_exec(shim)
        return
    known = _known(shim, environment)
    killed = isinstance(error, RuntimeFailed) and error.status > KILLED
    if known.get("bundle") == config.bundle or (killed and not known):
        _quietly(shim, environment, "delete", "--force", config.id)
    leftovers.kill_children()
    if not known:
        leftovers.remove_cgroups(config.id, config.bundle)
    _remove_files(shim)


def _undo_exec(shim: Shim) -> None:
    """The same of a program in a container that goes on."""
    leftovers.kill_children()
    _remove_files(shim)


def _remove_files(shim: Shim) -> None:
    config = shim.config
    ours = () if config.door else (config.keeper_pid_file, config.pid_file)
    for path in ours:  # a manager has its own, and may have made the file itself
        if path:
            files.remove_file(path)
    descriptors.unmake(list(shim.made))
    files.empty_directory(config.directory)
    descriptors.unmake([config.directory])


def _known(shim: Shim, environment: dict[str, str]) -> dict[str, object]:
    """Ask the runtime: the id may be another's, and that is why creation failed. Nothing: {}."""
    try:
        state = json.loads(_quietly(shim, environment, "state", shim.config.id))
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _quietly(shim: Shim, environment: dict[str, str], *words: str) -> str:
    """Call the runtime, whatever comes of it; return its stdout."""
    read, write = _make_pipe()
    heard = Words(read)
    try:
        call(shim.runtime.command(*words), environment, (0, write, 1), heard, CALL_LIMIT)
    except RuntimeFailed:
        pass
    finally:
        os.close(read)
        os.close(write)
    return heard.text
