"""One container is taken up again: from its state directory to a running keeper, top to bottom.

Whoever is killed on the way has changed nothing that the next one does not find: the lock goes
with the process, and the state file is the last thing that is written.
"""

import contextlib
import os
import time
from typing import NamedTuple

from attachd.errors import AttachdError, UsageError
from attachd.keeper import access, daemon, descriptors, files, heir, parcels, renewal, report
from attachd.keeper.claim import lock
from attachd.keeper.descriptors import Table
from attachd.keeper.processes import clean_environment, forget_environment, start_time
from attachd.recovery import left as leaving
from attachd.recovery import logs as log_ends
from attachd.recovery import pipes
from attachd.recovery.left import Left
from attachd.state.exitrecord import CLD_UNSEEN
from attachd.state.header import Header


class Recovered(NamedTuple):
    """A container that was taken up again, and what could not be saved, in words."""

    pid: int  #: 0 when it has ended
    losses: list[str]


class NotNeeded(UsageError):
    """There is a shim, or the end of the container is known."""


def recover(root: str, container: str) -> Recovered:
    """Take up a container whose keeper and server are gone.

    Raises NotNeeded, UsageError when it cannot be taken up, and AttachdError or OSError.
    """
    path = os.path.join(root, container)
    if not os.path.isdir(path):
        raise UsageError(f"no container {container!r:.160} under {root}: see 'attachctl ls'")
    directory = lock(path)
    if directory is None:
        raise NotNeeded(f"{container} has a shim")
    try:
        if _came_by_door(path):
            raise NotNeeded(f"{container} is for the manager that made it to take care of")
        if os.path.exists(os.path.join(path, files.EXIT)):
            raise NotNeeded(f"{container} has ended, and how is known")
        return _take_up(path, directory, leaving.read(path))
    finally:
        os.close(directory)


def _came_by_door(path: str) -> bool:
    """Return whether a manager holds all that is to be done at its end: its pipes and files."""
    try:
        config = files.read_json(os.path.join(path, files.STATE))["config"]
        assert isinstance(config, dict)
        return bool(config["door"]["kind"])
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        return False  # what is wrong with it is told by `left`


def _take_up(path: str, directory: int, left: Left) -> Recovered:
    """Make all that a shim holds, and fork its keeper; what is ours of it is closed again."""
    with contextlib.ExitStack() as held:
        init = leaving.find_init(left)
        alive = init >= 0
        losses = _lost_output(left) if alive else _lost_end()
        fds, _, made = descriptors.open_logs(tuple(left.logs))
        _close_at_end(held, init, *fds)
        unmade = held.enter_context(contextlib.ExitStack())
        unmade.callback(descriptors.unmake, made)
        found = [
            log_ends.look(path, number, spec, fds[number])
            for number, spec in enumerate(left.logs)
        ]
        base = log_ends.base_of(found)
        ring, header_fd = descriptors.make_ring(left.ring_size, base)
        _close_at_end(held, ring, header_fd)
        header = descriptors.map_header(header_fd)
        _fill(header, left, alive=alive)
        for number, log in enumerate(found):
            log_ends.list_other_file(path, number, left.logs[number], log, base, fds[number])
            log_ends.go_on(header, number, left.logs[number], log, base, fds[number])
        server_end, post = parcels.make()
        _close_at_end(held, server_end, post)
        stdio, lost = _stdio(left)
        _close_at_end(held, *stdio.values())
        losses += lost if alive else []
        files.remove_file(os.path.join(path, files.SOCKET))
        table = descriptors.make_table(directory, ring, header_fd, server_end, stdio)
        table = table._replace(kept=descriptors.named_logs(fds), init=init)
        _close_at_end(held, table.intake, table.listener, table.news, table.orders)
        access.open_to(left.rights, os.path.dirname(path), directory)
        renewal.check(renewal.own_code(), table, clean_environment(os.environ))
        losses += [
            f"nobody knows how exec {name} ends" for name in leaving.close_execs(path, left)
        ]
        _fork(path, table, post, _Change(left, base, made))
        unmade.pop_all()
    return Recovered(left.pid if alive else 0, losses)


def _close_at_end(held: contextlib.ExitStack, *fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            held.callback(os.close, fd)


def _lost_output(left: Left) -> list[str]:
    if left.logs:
        return ["what it had said and was not in the log yet is lost"]
    return ["what it had said is lost: there is no log"]


def _lost_end() -> list[str]:
    return ["it has ended meanwhile, and nobody knows how: its exit record says so"]


def _stdio(left: Left) -> tuple[dict[str, int], list[str]]:
    """Return our ends of the container's stdio as far as it can be had, and what cannot."""
    ended = {"stdout": pipes.make_ended(), "stderr": pipes.make_ended()}
    if left.terminal:
        return ended, ["its terminal is lost, and with it all that it says and reads"]
    made, lost = dict[str, int](), list[str]()
    for name in ("stdout", "stderr"):
        fd = pipes.reopen(left.pipes[name], os.O_RDONLY) if left.same_boot else None
        if fd is None:
            made[name] = ended.pop(name)
        else:
            made[name] = fd
    for fd in ended.values():
        if fd not in made.values():
            os.close(fd)
    if "stdin" in left.pipes and left.same_boot:
        fd = pipes.reopen(left.pipes["stdin"], os.O_WRONLY)
        if fd is not None:
            made["stdin"] = fd
        if not left.lasting_stdin:
            lost.append("whoever was reading its stdin has seen the end of it")
    return made, lost


def _fill(header: Header, left: Left, *, alive: bool) -> None:
    """Write what the keeper's words say of a container that was made long ago."""
    header.pid = left.pid
    header.started_clock = left.started_clock
    header.started = left.started
    if not alive:
        header.exit_time = time.time_ns()
        header.exit_code = CLD_UNSEEN
    header.created = 1


class _Change(NamedTuple):
    """What state.json is to tell: ``base`` is where the old stream ends and the new one begins."""

    left: Left
    base: int
    made: list[str]


def _fork(path: str, table: Table, post: int, change: _Change) -> None:
    """Daemonize the keeper; return when it has written its state. Raises AttachdError."""
    read, write = os.pipe2(os.O_CLOEXEC)

    def live() -> None:
        environment = clean_environment(os.environ)
        forget_environment()
        try:
            _write_state(path, change)
        except OSError as error:
            report.send(write, report.of_error(AttachdError(f"cannot take it up: {error}")))
            return
        report.send(write, report.of_pid(change.left.pid))
        descriptors.lift_descriptor_limit()
        heir.keep_on(table, post, environment)

    held = (post, *table.items().values())
    daemon.fork(table.directory, {write, *held}, live)
    os.close(write)
    try:
        report.receive(read)
    finally:
        os.close(read)


def _write_state(path: str, change: _Change) -> None:
    """Say who keeps the container from now on, and that its output is a stream of its own."""
    left, base, made = change
    state, pid = left.state, os.getpid()
    config = left.config | ({"terminal": False, "stdin": False} if left.terminal else {})
    was_made, former = state.get("made"), state.get("former")
    changes: dict[str, object] = {
        "stream_id": os.urandom(16).hex(),
        "former": (former if isinstance(former, dict) else {}) | {left.stream_id: base},
        "keeper_pid": pid,
        "keeper_start": start_time(pid),
        "made": [*(was_made if isinstance(was_made, list) else []), *made],
        "config": config,
        "recovered": left.times + 1,
    }
    files.write_number(os.path.join(path, files.KEEPER_PID), pid, mode=0o600)
    if config.get("keeper_pid_file"):
        with contextlib.suppress(OSError):
            files.write_number(str(config["keeper_pid_file"]), pid)
    files.write_json(os.path.join(path, files.STATE), state | changes)
