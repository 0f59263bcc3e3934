"""Execs, as the keeper sees them: descriptors, one call of the runtime each, and two deaths.

A server has made the pipes and the files, and has handed them over as parcels named
``exec/NAME/…``. The keeper calls ``runc exec`` itself, so that whatever dies meanwhile the
program's exit is known: the runtime's end tells whether it worked, and the program, an orphan
then, is the keeper's child. Both are noted in the exec's own header before they are reaped.
"""

import contextlib
import json
import os
import signal
import sys
import time

from attachd.errors import AttachdError
from attachd.keeper import console, descriptors, files
from attachd.keeper.processes import Runtime, spawn
from attachd.state.header import Header

#: What the keeper holds of an exec until the runtime has it: the program's descriptors 0 to 2.
ENDS = ("end0", "end1", "end2")

#: As a shell says that a program could not be executed.
NOT_EXECUTED = 126

#: As a shell says that it was killed: with the keeper that was about to call the runtime, too.
KILLED = 128 + signal.SIGKILL


def parcel(name: str, what: str) -> str:
    """Return what a descriptor of an exec is called among the keeper's parcels."""
    return f"exec/{name}/{what}"


class _Exec:
    """One that was begun."""

    def __init__(self, name: str, header: Header, listener: int) -> None:
        self.name = name
        self.header = header
        self.listener = listener  #: of the console socket; -1 without a terminal


class Execs:
    """All execs of one container that were begun and are not forgotten."""

    def __init__(
        self,
        directory: int,
        runtime: Runtime,
        container: str,
        environment: dict[str, str],
        held: dict[str, int],
    ) -> None:
        self._directory = directory
        self._path = os.readlink(f"/proc/self/fd/{directory}")
        self._runtime = runtime
        self._container = container
        self._environment = environment
        self._held = held
        self._execs: dict[str, _Exec] = {}

    @property
    def busy(self) -> bool:
        """True while a runtime is at work for one of them."""
        headers = (made.header for made in self._execs.values())
        return any(h.runtime_pid and not (h.started or h.failed) for h in headers)

    def begin(self, name: str) -> None:
        """Call the runtime, unless there is no such exec, or it was begun before.

        One whose header cannot be mapped (mmap(2), ENOMEM; EMFILE) is given up by who waits.
        """
        fd = self._held.get(parcel(name, "header"), -1)
        if fd < 0 or name in self._execs:
            return
        try:
            made = _Exec(name, descriptors.map_header(fd), -1)
        except OSError as error:
            print(f"attachd: exec {name}: {error.strerror}", file=sys.stderr, flush=True)
            return
        self._execs[name] = made
        ends = tuple(self._held.pop(parcel(name, end), -1) for end in ENDS)
        terminal = parcel(name, "inner") in self._held
        try:
            if not terminal and min(ends) < 0:
                made.header.failed = KILLED  # its pipes have gone with a keeper before us
            else:
                made.header.runtime_pid = self._spawn(made, ends)
        except OSError as error:
            self._tell(made, f"cannot run {self._runtime.path}: {error.strerror or error}")
            made.header.failed = NOT_EXECUTED
        for fd in ends:
            if fd >= 0:
                os.close(fd)

    def adopt(self, name: str) -> Header:
        """Take over one that a keeper before us has begun; return its header.

        A runtime that was at work is killed: what it leaves is nobody's child of ours.
        """
        made = self._execs[name] = _Exec(
            name, descriptors.map_header(self._held[parcel(name, "header")]), -1
        )
        header = made.header
        if header.runtime_pid and not (header.started or header.failed):
            for pid in (header.runtime_pid, self._read_pid(made)):
                _kill_if_there(pid)
            header.failed = KILLED
        return header

    def forget(self, name: str) -> None:
        """A parcel was dropped; without its header an exec is nobody's any more."""
        made = next(
            (e for e in self._execs.values() if parcel(e.name, "header") == name), None
        )
        if made is not None:
            self._close_listener(self._execs.pop(made.name))

    def saw(self, dead: os.waitid_result) -> bool:
        """Note a death in the header that it concerns; return False when it is nobody's."""
        for made in self._execs.values():
            header = made.header
            if dead.si_pid == header.runtime_pid and not (header.started or header.failed):
                self._note_runtime(made, dead)
                return True
            pid = header.pid or self._read_pid(made)
            if dead.si_pid == pid and not header.exit_code:
                header.pid = pid  # it may have ended before its runtime
                _note_exit(header, dead)
                return True
        return False

    def _spawn(self, made: _Exec, ends: tuple[int, ...]) -> int:
        """Start ``runc exec``; return its pid. Raises OSError."""
        at = os.path.join(self._path, files.EXECS, made.name)
        words = ["exec", "--detach", "--pid-file", os.path.join(at, files.PID)]
        words += ["--process", os.path.join(at, files.PROCESS)]
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            if ends[1] < 0:
                inside = f"{files.EXECS}/{made.name}/{console.SOCKET}"
                made.listener = descriptors.make_listener(self._directory, inside)
                words += ["--console-socket", console.path(self._directory, inside)]
            log = ("--log", os.path.join(at, files.RUNTIME_LOG), "--log-format", "json")
            runtime = self._runtime._replace(args=(*log, *self._runtime.args))
            argv = runtime.command(*words, self._container)
            stdin, stdout, stderr = (fd if fd >= 0 else null for fd in ends)
            return spawn(argv, self._environment, (stdin, stdout, stderr))
        finally:
            os.close(null)

    def _tell(self, made: _Exec, reason: str) -> None:
        """Leave a reason where the server looks for the runtime's own."""
        path = os.path.join(self._path, files.EXECS, made.name, files.RUNTIME_LOG)
        line = json.dumps({"level": "error", "msg": reason})
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _note_runtime(self, made: _Exec, dead: os.waitid_result) -> None:
        """The runtime has ended: either the program runs, or it never will."""
        header = made.header
        header.pid = header.pid or self._read_pid(made)
        failed = _status(dead)
        if not failed:
            failed = 0 if header.pid and self._take_terminal(made) else 1
        self._close_listener(made)
        if failed:
            _kill_child(header.pid)  # it is of no use, and nobody would know of it
            header.pid = 0
            header.failed = failed
        else:
            header.started_clock = time.monotonic_ns()
            header.started = time.time_ns()

    def _take_terminal(self, made: _Exec) -> bool:
        """Take what the runtime has sent, if one is wanted; without it the program is of no use."""
        if made.listener < 0:
            return True
        try:
            self._held[parcel(made.name, "terminal")] = console.receive(made.listener)
        except AttachdError:
            return False
        return True

    def _read_pid(self, made: _Exec) -> int:
        """Return what the runtime has written; 0 when it has not, or is not ours to read."""
        if made.header.failed or made.header.exit_code:
            return 0
        try:
            with open(os.path.join(self._path, files.EXECS, made.name, files.PID)) as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0

    def _close_listener(self, made: _Exec) -> None:
        if made.listener >= 0:
            os.close(made.listener)
            made.listener = -1


def _status(dead: os.waitid_result) -> int:
    """Return an exit status as a shell tells it."""
    return dead.si_status if dead.si_code == os.CLD_EXITED else 128 + dead.si_status


def _kill_if_there(pid: int) -> None:
    with contextlib.suppress(OSError):
        if pid:
            os.kill(pid, signal.SIGKILL)


def _kill_child(pid: int) -> None:
    """Kill a process, if it is our child, and not another that has its number by now."""
    with contextlib.suppress(OSError):
        if pid:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            os.kill(pid, signal.SIGKILL)


def _note_exit(header: Header, dead: os.waitid_result) -> None:
    header.exit_time = time.time_ns()
    header.exit_status = dead.si_status
    header.exit_code = dead.si_code
