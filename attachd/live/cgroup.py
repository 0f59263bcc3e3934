"""OOM kills, as the kernel counts them for a container's memory cgroup."""

import os


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
    for mount, root in _mounts(kind, option):
        inside = os.path.relpath(path, root) if root != "/" else path.lstrip("/")
        try:
            with open(os.path.join(mount, inside, name), encoding="ascii") as file:
                counts = dict(line.split(maxsplit=1) for line in file)
        except (OSError, ValueError):
            continue
        return int(counts.get("oom_kill", 0))
    return 0


def _mounts(kind: str, option: str) -> list[tuple[str, str]]:
    """Return (mount point, root) of each mount of a cgroup file system (proc(5), mountinfo)."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            root, mount = before.split()[3:5]
            fields = after.split()
            if fields[0] == kind and (not option or option in fields[-1].split(",")):
                found.append((mount, root))
    return found
