"""What every program of the project stands on: where state is, and descriptors 0 to 2.

Standard library only, and little of it: this is on the way of ``attachd --version``.
"""

import os


def default_root() -> str:
    """Return ``/run/attachd`` for root, ``$XDG_RUNTIME_DIR/attachd`` for others."""
    if os.geteuid() == 0:
        return "/run/attachd"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime or f"/tmp/attachd-{os.geteuid()}", "attachd")


def state_root() -> str:
    """Return ``$ATTACHD_ROOT``, or the default root when it is not set."""
    return os.path.abspath(os.environ.get("ATTACHD_ROOT") or default_root())


def is_planted(root: str) -> bool:
    """Return whether ``root`` is our default one in /tmp, and somebody else has made that."""
    place = f"/tmp/attachd-{os.geteuid()}"
    if os.path.commonpath([place, root]) != place:
        return False
    try:
        return os.lstat(place).st_uid != os.geteuid()
    except OSError:
        return False


def open_standard_descriptors() -> None:
    """Put /dev/null where the caller has closed 0, 1 or 2; nothing of ours may get the number.

    They stay open, as standard descriptors do, in whatever this process becomes.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
