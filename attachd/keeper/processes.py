"""Starting programs and knowing processes, without the ``subprocess`` module (8 ms of import)."""

import ctypes
import os
import shutil
import signal
from typing import NamedTuple

from attachd.errors import UsageError

#: What runtimes and hooks may need; nothing else of the launcher's environment goes on.
#: XDG_RUNTIME_DIR: runc's state without root. NOTIFY_SOCKET: runc passes readiness on (runc
#: documentation, "sd_notify"). DBUS_…: the systemd cgroup driver without root.
PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET",
    "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip

#: What the keeper, or Python itself, ignores or handles.
DEFAULT_SIGNALS = [
    signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT,
    signal.SIGCHLD, signal.SIGXFSZ,
]  # fmt: skip

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


#: Set where a manager's whole environment is for its programs: the exit command of Podman, hooks.
#: `note_passing` sets it, and nobody else can.
PASS_ALL = "ATTACHD_PASS_ALL"

#: What a server is started with besides, or could not start with: not for others, nor of others.
_OURS = (
    "PYTHON", "MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_",
)  # fmt: skip


def note_passing(environment: "os._Environ[str]", *, whole: bool) -> None:
    """Note for `clean_environment`, also of successors, whether programs get all of it."""
    environment.pop(PASS_ALL, None)
    if whole:
        environment[PASS_ALL] = "1"


def clean_environment(environment: "os._Environ[str]") -> dict[str, str]:
    """Return what of ``environment`` programs that we start may see."""
    if PASS_ALL in environment:
        return {name: text for name, text in environment.items() if not name.startswith(_OURS)}
    passed = {name: environment[name] for name in PASSED_ON if name in environment}
    return {"PATH": _DEFAULT_PATH} | passed


def forget_environment() -> None:
    """Overwrite what this process was started with: /proc/PID/environ (proc(5)) tells no secret.

    Whatever is started afterwards gets its environment from `spawn`.
    """
    os.environ.clear()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end, fields 50 and 51
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def spawn(
    argv: list[str],
    environment: dict[str, str],
    stdio: tuple[int, ...],
    inherit: tuple[int, ...] = (),
    blocked: tuple[signal.Signals, ...] = (),
) -> int:
    """Start a program and return its pid; raises OSError when it cannot be executed.

    ``stdio`` becomes its descriptors from 0 on (what is to become 3 and more must not have such
    a number itself); ``inherit`` stay open under their own numbers; everything else is
    close-on-exec. Signals are at their defaults; ``blocked`` ones wait until
    the program lets them through.
    """
    actions: list[tuple[int, int, int]] = [
        (os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(stdio)
    ]
    # dup2 of a descriptor onto itself takes close-on-exec away (posix_spawn, POSIX.1-2024).
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in inherit]
    return os.posix_spawn(
        argv[0],
        argv,
        environment,
        file_actions=actions,
        setsigmask=blocked,
        setsigdef=DEFAULT_SIGNALS,
    )


def start_time(pid: int) -> int:
    """Return field 22 of /proc/PID/stat (proc(5)), which tells a reused pid; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def package_parent() -> str:
    """Return the directory that the package ``attachd`` is in: where our own code comes from."""
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def boot_id() -> str:
    """Return what tells one boot of the machine from another (random(4)); "" if nothing does."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Runtime(NamedTuple):
    """An OCI runtime and the global options for each call."""

    path: str
    root: str
    args: tuple[str, ...]

    def command(self, *words: str) -> list[str]:
        """Return the argv of one call."""
        root = ["--root", self.root] if self.root else []
        return [self.path, *self.args, *root, *words]


def find_runtime(name: str) -> str:
    """Return the absolute path of the runtime; raises UsageError when there is none."""
    found = shutil.which(name)
    if found is None:
        raise UsageError(f"no runtime {name}: install it, or name another with --runtime")
    return os.path.abspath(found)
