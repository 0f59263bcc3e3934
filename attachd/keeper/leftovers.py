"""What a runtime that was killed half way has left: processes, and cgroups that nobody is in.

A keeper is the reaper of all that its runtime has started (prctl(2), PR_SET_CHILD_SUBREAPER): when
there is no container, every child that it has is such a thing.
"""

import os
import signal
import time

from attachd.errors import AttachdError
from attachd.keeper import cgroups
from attachd.keeper.bundle import read_spec

#: A process that was killed is gone in a moment, unless the kernel has it wait for a disk.
PATIENCE_SECONDS = 5.0

_PAUSE_SECONDS = 0.01


def kill_children() -> None:
    """Kill and reap our children, and theirs, which become ours; return when there are none."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for pid in _children():
            os.kill(pid, signal.SIGKILL)  # not reaped yet, so it is nobody else
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_PAUSE_SECONDS)


def remove_cgroups(container: str, bundle: str) -> None:
    """Remove the cgroups of a container that the runtime does not know, where nobody is in them."""
    try:
        linux = read_spec(bundle).get("linux")
    except AttachdError:
        linux = None
    named = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    for place in cgroups.places_of(str(named or container)):
        try:
            os.rmdir(place)
        except OSError:
            pass  # it was not made, or somebody is in it


def _children() -> list[int]:
    own = os.getpid()
    try:
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []
