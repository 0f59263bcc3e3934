"""Where cgroups are mounted, and which one a container would be in."""

import os


def mounts(kind: str, option: str) -> list[tuple[str, str]]:
    """Return (mount point, root) of each mount of a cgroup file system (proc(5), mountinfo).

    ``kind`` is cgroup or cgroup2; ``option`` is a controller of the former, or "" for any.
    """
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            root, mount = before.split()[3:5]
            fields = after.split()
            if fields[0] == kind and (not option or option in fields[-1].split(",")):
                found.append((mount, root))
    return found


def inside(mount: str, root: str, path: str) -> str:
    """Return where the cgroup ``path`` (/proc/PID/cgroup) is under a mount of ``root``."""
    within = os.path.relpath(path, root) if root != "/" else path.lstrip("/")
    return os.path.normpath(os.path.join(mount, within))


def places_of(cgroup: str) -> list[str]:
    """Return each directory that the runtime may have made for a container.

    ``cgroup`` is the bundle's ``cgroupsPath``, or the id where there is none; one that is not
    absolute is below our own (runc, libcontainer/cgroups/fs/paths.go).
    """
    found = []
    with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, controllers, own = line.rstrip("\n").split(":", 2)
            kind = "cgroup" if controllers else "cgroup2"
            path = cgroup if cgroup.startswith("/") else os.path.join(own, cgroup)
            for mount, root in mounts(kind, controllers.split(",")[0]):
                found.append(inside(mount, root, path))
    return found
