"""Podman on a storage of its own, with the shim that a test wants in conmon's place.

Nothing of the machine's own Podman is read or written but its caches: storage, locks, state,
events and configuration are in one directory, which goes when the tests have ended. Podman
starts the shim three times for a container: for its version, for the container, and, again for
its version, from the exit command. Only a containers.conf reaches all of them.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from harness import BIN, PATIENCE, cri_streams, is_alive, wait_for

#: The shims that Podman can be given, by the names that tests use.
SHIMS = {"attachd": BIN / "attachd-conmon", "conmon": Path("/usr/bin/conmon")}

IMAGE = "box"

#: containers.conf(5). File locks: those in shared memory are one set for the whole machine, and
#: whoever starts first after a boot, which every new tmpdir is to Podman, frees all of them.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
conmon_env_vars = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ATTACHD_ROOT={root}"]
conmon_path = ["{shim}"]
events_logger = "file"
infra_image = "localhost/{image}"
lock_type = "file"
runtime = "runc"
stop_timeout = 1
[network]
network_config_dir = "{home}/net"
"""  # noqa: E501

CGROUPS = Path("/sys/fs/cgroup")


class Podman:
    """One storage with one image, and the program as a user calls it."""

    def __init__(self, shim: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="ap-"))
        self.root = self.home / "attachd"
        self._cgroup = self.home.name
        self._opened: list[subprocess.Popen[bytes]] = []
        self._has_pods = False
        self._write_program(shim)
        self._import_image()

    def _write_program(self, shim: Path) -> None:
        """Make ``podman``, which a person in a terminal can type too."""
        conf = self.home / "containers.conf"
        values = {"home": self.home, "image": IMAGE, "root": self.root, "shim": shim}
        conf.write_text(CONFIGURATION.format(**values))
        # vfs: as fast as overlay for an image this small, and no mount is left by a crash.
        options = (
            f"--root {self.home}/r --runroot {self.home}/n --tmpdir {self.home}/t"
            " --storage-driver vfs --log-level error"
        )
        self.program = self.home / "podman"
        self.program.write_text(
            f"#!/bin/sh\nexport CONTAINERS_CONF={conf} DISABLE_HC_SYSTEMD=true\n"
            f'exec podman {options} "$@"\n'
        )
        self.program.chmod(0o755)

    def _import_image(self) -> None:
        """A busybox, and a link to it for each of its programs."""
        tree = self.home / "image"
        for folder in ("bin", "dev", "etc", "gate", "proc", "root", "sys", "tmp"):
            (tree / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        listed = subprocess.run(
            ["/bin/busybox", "--list"], stdout=subprocess.PIPE, timeout=PATIENCE, check=True
        )
        for name in set(listed.stdout.decode().split()) - {"busybox"}:
            (tree / "bin" / name).symlink_to("busybox")
        (tree / "pause").write_text("#!/bin/sh\nexec sleep 1000\n")  # what a pod's own runs
        (tree / "pause").chmod(0o755)
        packed = self.home / "image.tar"
        subprocess.run(["tar", "-C", tree, "-cf", packed, "."], timeout=PATIENCE, check=True)
        self.call(
            "import", "--change", "CMD /pause", "--change", "ENV PATH=/bin", packed, IMAGE
        )

    def argv(self, *words: object) -> list[str]:
        """Return a call; what it makes is under this host's own cgroup."""
        verb, rest = words[0], words[1:]
        if verb in ("run", "create"):
            rest = ("--cgroup-parent", f"/{self._cgroup}", *rest)
        self._has_pods |= verb in ("pod", "play")
        return [str(self.program), str(verb), *map(str, rest)]

    def call(
        self,
        *words: object,
        before: tuple[object, ...] = (),
        check: bool = True,
        **options: object,
    ) -> subprocess.CompletedProcess[bytes]:
        """Call Podman, through the program that ``before`` names if it does."""
        settings: dict[str, object] = {
            "cwd": self.home,  # where the real conmon leaves a file when memory runs out
            "stderr": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "timeout": PATIENCE,
        }
        if "input" not in options:
            settings["stdin"] = subprocess.DEVNULL
        argv = [*map(str, before), *self.argv(*words)]
        done = subprocess.run(argv, check=False, **(settings | options))
        if check and done.returncode != 0:
            raise AssertionError(f"podman {words}: {done.returncode}: {done.stderr!r}")
        return done

    def popen(self, *words: object, **options: object) -> subprocess.Popen[bytes]:
        """Start Podman with pipes, unbuffered; it is ended with the test if need be."""
        settings: dict[str, object] = {
            "bufsize": 0,
            "cwd": self.home,
            "stderr": subprocess.PIPE,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
        }
        self._opened.append(subprocess.Popen(self.argv(*words), **(settings | options)))
        return self._opened[-1]

    def native(self, program: str, *words: object) -> bytes:
        """Call one of attachd's own programs and return what it prints."""
        done = subprocess.run(
            [str(BIN / program), *map(str, words)], stdin=subprocess.DEVNULL,
            capture_output=True, timeout=PATIENCE, check=False, env=self._native_environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def native_popen(self, program: str, *words: object) -> subprocess.Popen[bytes]:
        """Start one of attachd's own programs; it is ended with the test if need be."""
        self._opened.append(
            subprocess.Popen(
                [str(BIN / program), *map(str, words)], bufsize=0, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._native_environment(),
            )
        )  # fmt: skip
        return self._opened[-1]

    def _native_environment(self) -> dict[str, str]:
        return os.environ | {"ATTACHD_ROOT": str(self.root)}

    def name(self) -> str:
        return f"t-{secrets.token_hex(4)}"

    def create(self, *command: str, options: tuple[object, ...] = ()) -> str:
        name = self.name()
        self.call("create", "--name", name, *options, IMAGE, *command)
        return name

    def run(self, *command: str, options: tuple[object, ...] = ()) -> str:
        """Start a container in the background and return its name."""
        name = self.name()
        self.call("run", "--detach", "--name", name, *options, IMAGE, *command)
        return name

    def told(self, name: str) -> dict:
        """Return what ``podman inspect`` tells of a container."""
        return json.loads(self.call("container", "inspect", name).stdout)[0]

    def state(self, name: str) -> dict:
        return self.told(name)["State"]

    def ended(self, name: str) -> int:
        """Wait for a container's end and return the exit code that Podman tells."""
        return int(self.call("wait", name).stdout)

    def exists(self, name: str) -> bool:
        return self.call("container", "exists", name, check=False).returncode == 0

    def events(self, name: str) -> list[dict]:
        """Return what happened to a container, in order."""
        found = self.call(
            "events", "--stream=false", "--filter", f"container={name}", "--format", "json"
        )
        return [json.loads(line) for line in found.stdout.splitlines()]

    def userdata(self, name: str) -> Path:
        """Return the directory of a container's bundle, socket and log."""
        return self.home / "r/vfs-containers" / self.told(name)["Id"] / "userdata"

    def log(self, name: str) -> bytes:
        return (self.userdata(name) / "ctr.log").read_bytes()

    def output(self, name: str) -> bytes:
        """Return the container's stdout, as its log has it."""
        return cri_streams(self.log(name))["stdout"]

    def server(self, name: str) -> int:
        """Return the pid of the shim's process that moves the bytes: conmon itself, if it is."""
        shim = self.state(name)["ConmonPid"]
        children = Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
        for pid in map(int, children):
            with contextlib.suppress(OSError):
                if b"attachd.live" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return shim

    def processes(self) -> dict[int, str]:
        """Return every process that Podman or the shim has started here and that still runs."""
        found = {}
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or not is_alive(int(process.name)):
                continue
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes()
                told = (process / "environ").read_bytes() + (process / "cgroup").read_bytes()
                if self.home.name.encode() in words + told:
                    text = words.replace(b"\0", b" ").decode(errors="replace")
                    found[int(process.name)] = text
        return found

    def clear(self) -> None:
        """Remove what a test has made; fail when the shim has left a process."""
        try:
            for process in self._opened:
                with process:  # which closes its pipes and waits for it
                    process.kill()
            if self._has_pods:
                self.call("pod", "rm", "--force", "--all", "--time", 0)
            self.call("rm", "--force", "--all", "--time", 0, "--volumes")
            with contextlib.suppress(AssertionError):  # told below, with their names
                wait_for(lambda: not self.processes())
        finally:
            self._opened.clear()
            self._has_pods = False
            left = self._end_processes()
        assert not left, "what the test has started still runs"

    def _end_processes(self) -> dict[int, str]:
        """Kill what is left and return it."""
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not self.processes())
        return left

    def close(self) -> None:
        """Remove what the runtime still knows, the storage, its mounts and its cgroups."""
        self._delete_from_runtime()
        for line in Path("/proc/self/mounts").read_text().splitlines()[::-1]:
            if line.split()[1].startswith(f"{self.home}/"):
                subprocess.run(["umount", line.split()[1]], timeout=PATIENCE, check=True)
        shutil.rmtree(self.home)
        for cgroup in (CGROUPS / self._cgroup, *CGROUPS.glob(f"*/{self._cgroup}")):
            if cgroup.is_dir():
                remove_cgroup(cgroup)

    def _delete_from_runtime(self) -> None:
        """Delete containers that Podman has forgotten: of a test that was cut off, say."""
        command = ["runc", "list", "--format", "json"]
        listed = subprocess.run(
            command, stdout=subprocess.PIPE, timeout=PATIENCE, check=False
        ).stdout
        for told in json.loads(listed or b"null") or []:
            if told["bundle"].startswith(f"{self.home}/"):
                delete = ["runc", "delete", "--force", told["id"]]
                subprocess.run(delete, timeout=PATIENCE, check=True)


def remove_cgroup(cgroup: Path) -> None:
    """Remove an empty cgroup with those in it, deepest first."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(folder)
