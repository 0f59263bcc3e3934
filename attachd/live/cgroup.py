"""OOM kills, as the kernel counts them for a container's memory cgroup."""

import os

from attachd.keeper.cgroups import inside, mounts


def oom_kills(lines: list[str]) -> int:
    """Return how many processes of a cgroup the OOM killer has killed; 0 when nobody can tell.

    ``lines`` are those of /proc/PID/cgroup. Reads ``memory.oom_control`` (cgroup v1,
    memory.rst section 10) or ``memory.events`` (cgroup v2), which exist until the runtime
    deletes the cgroup.
    """
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _count("cgroup", "memory", path, "memory.oom_control")
        if number == "0" and not controllers:
            found = _count("cgroup2", "", path, "memory.events")
            if found:
                return found
    return 0


def _count(kind: str, option: str, path: str, name: str) -> int:
    for mount, root in mounts(kind, option):
        try:
            with open(os.path.join(inside(mount, root, path), name), encoding="ascii") as file:
                counts = dict(line.split(maxsplit=1) for line in file)
        except (OSError, ValueError):
            continue
        return int(counts.get("oom_kill", 0))
    return 0
