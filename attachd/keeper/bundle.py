"""The embedded default: a bundle for a command, with a root that needs no image.

With a static busybox, its own root: writable, all applets. Otherwise the host's /usr, read-only,
under an empty root. Either way the container has its own pid, mount, ipc, uts and network
namespaces, and the capabilities that docker gives by default, less the network's.
"""

import json
import os
import shutil
import stat
import struct

from attachd.errors import UsageError
from attachd.state.sizes import MAX_SIDE, Size

_CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
]  # fmt: skip

#: runc's own defaults (``runc spec``): what must not be seen or written of the host's kernel.
_MASKED = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

_HOST_LINKS = ("bin", "sbin", "lib", "lib64", "lib32", "libx32")
_EMPTY = ("dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var")

_ELF_HEADER = struct.Struct("<16s HHIQQQIHHH")  # elf(5), Elf64_Ehdr up to e_phnum
_PT_INTERP = 3


def write_bundle(
    directory: str, command: tuple[str, ...], hostname: str, *, terminal: bool = False
) -> None:
    """Write ``config.json`` and ``rootfs`` into an existing, empty directory.

    Raises UsageError when it cannot be written, or when there is nothing to make a root of.
    """
    if not command:
        raise UsageError("nothing to run: give a command after --, or a bundle with --bundle")
    try:
        root = os.path.join(directory, "rootfs")
        os.mkdir(root, 0o755)
        busybox = shutil.which("busybox")
        if busybox and _is_static(busybox):
            mounts = _busybox_root(root, busybox)
        else:
            mounts = _host_root(root)
        spec = _spec(command, hostname, mounts, terminal)
        with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
            json.dump(spec, file, indent=2)
            file.write("\n")
    except OSError as error:
        raise UsageError(f"cannot write a bundle in {directory}: {error.strerror}") from None


def read_spec(bundle: str) -> dict[str, object]:
    """Return a bundle's ``config.json``; raises UsageError when it is missing or broken."""
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "rb") as file:
            spec = json.load(file)
    except FileNotFoundError:
        what = (
            "it has no config.json" if os.path.isdir(bundle) else "there is no such directory"
        )
        raise UsageError(f"{bundle} is not a bundle: {what}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path} is broken: {error}") from None
    if not isinstance(spec, dict) or not isinstance(spec.get("process", {}), dict):
        raise UsageError(f"{path} is broken: an OCI configuration is a JSON object")
    return spec


def wants_terminal(spec: dict[str, object]) -> bool:
    """Return whether the configuration asks for a pseudoterminal."""
    process = spec.get("process")
    return isinstance(process, dict) and process.get("terminal") is True


def console_size(spec: dict[str, object]) -> Size | None:
    """Return ``process.consoleSize`` (runtime-spec, config.md), or None; raises UsageError."""
    process = spec.get("process")
    wish = process.get("consoleSize") if isinstance(process, dict) else None
    if wish is None:
        return None
    sides = (wish.get("width"), wish.get("height")) if isinstance(wish, dict) else (None, None)
    if sides == (0, 0):
        return None  # what encoders write that cannot leave it out
    match sides:
        case int(columns), int(rows) if Size(columns, rows).usable:
            return Size(columns, rows)
    raise UsageError(
        f"process.consoleSize needs width and height from 1 to {MAX_SIDE}, not {wish!r:.80}"
    )


def _is_static(path: str) -> bool:
    """True for an ELF program that needs no interpreter (elf(5): no PT_INTERP segment)."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if not head.startswith(b"\x7fELF\x02\x01") or len(head) < _ELF_HEADER.size:
        return False
    _, _, _, _, _, offset, _, _, _, size, count = _ELF_HEADER.unpack_from(head)
    if offset + size * count > len(head):
        return False  # what cannot be seen is not called static
    kinds = (head[offset + i * size : offset + i * size + 4] for i in range(count))
    return all(int.from_bytes(kind, "little") != _PT_INTERP for kind in kinds)


def _busybox_root(root: str, busybox: str) -> list[dict[str, object]]:
    for name in (*_EMPTY, "bin"):
        os.mkdir(os.path.join(root, name), 0o755)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    inside = os.path.join(root, "bin", "busybox")
    shutil.copyfile(busybox, inside)
    os.chmod(inside, 0o755)
    applets = _applets(inside)
    if "sh" not in applets:
        raise UsageError(f"{busybox} does not list its applets: repair it, or use --bundle")
    for applet in applets:
        if applet != "busybox":
            os.symlink("busybox", os.path.join(root, "bin", applet))
    for name in ("sbin", "usr/bin", "usr/sbin"):
        os.symlink("/bin", os.path.join(root, name))
    _write_accounts(root)
    return []


def _applets(busybox: str) -> list[str]:
    """Ask the program itself for its applets."""
    read, write = os.pipe2(os.O_CLOEXEC)
    action = [(os.POSIX_SPAWN_DUP2, write, 1)]
    pid = os.posix_spawn(busybox, ["busybox", "--list"], {}, file_actions=action)
    os.close(write)
    with open(read, encoding="ascii", errors="replace") as listing:
        names = listing.read().split()
    os.waitpid(pid, 0)
    return [name for name in names if "/" not in name]


def _host_root(root: str) -> list[dict[str, object]]:
    for name in _EMPTY:
        os.mkdir(os.path.join(root, name), 0o755)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    mounts = [_bind("/usr")]
    for name in _HOST_LINKS:
        path = f"/{name}"
        if os.path.islink(path):
            os.symlink(os.readlink(path), os.path.join(root, name))
        elif os.path.isdir(path):
            os.mkdir(os.path.join(root, name), 0o755)
            mounts.append(_bind(path))
    _write_accounts(root)
    if not stat.S_ISDIR(os.stat("/usr").st_mode):
        raise UsageError("no static busybox and no /usr to make a root of: use --bundle")
    return mounts


def _bind(path: str) -> dict[str, object]:
    options = ["rbind", "ro", "nosuid", "nodev"]
    return {"destination": path, "type": "bind", "source": path, "options": options}


def _write_accounts(root: str) -> None:
    for name, text in (
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        ("group", "root:x:0:\nnogroup:x:65534:\n"),
    ):
        with open(os.path.join(root, "etc", name), "w", encoding="ascii") as file:
            file.write(text)


def _mount(destination: str, kind: str, *options: str) -> dict[str, object]:
    return {
        "destination": destination, "type": kind, "source": kind, "options": list(options),
    }  # fmt: skip


def _spec(
    command: tuple[str, ...], hostname: str, mounts: list[dict[str, object]], terminal: bool
) -> dict[str, object]:
    """Return an OCI configuration (runtime-spec 1.0.2) for ``command``."""
    plain = ("nosuid", "noexec", "nodev")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": terminal,
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": dict.fromkeys(
                ("bounding", "effective", "permitted"), _CAPABILITIES
            ),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": hostname[:63],
        "mounts": [
            _mount("/proc", "proc"),
            _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
            _mount("/dev/shm", "tmpfs", *plain, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", *plain),
            _mount("/sys", "sysfs", *plain, "ro"),
            _mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777"),
            *mounts,
        ],
        "linux": {
            "namespaces": [{"type": n} for n in ("pid", "network", "ipc", "uts", "mount")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": _MASKED,
            "readonlyPaths": _READONLY,
        },
    }
