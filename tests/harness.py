"""The harness: real containers on the real runc, and the promise that none outlives its test."""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

BIN = Path(sys.executable).parent

#: Generous: a deadline here only turns a hang into a failure.
PATIENCE = 60.0


def wait_for(what: Callable[[], object], patience: float = PATIENCE) -> object:
    """Return the first true value of ``what``; fail when none came in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.01)
    raise AssertionError(f"it did not come true in {patience:g} s")


def cri_streams(log: bytes) -> dict[str, bytes]:
    """Return each stream's exact bytes from a log in CRI format."""
    streams = {"stdout": b"", "stderr": b""}
    parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    for line in log.splitlines(keepends=True) if b"\r" not in log else log.split(b"\n"):
        if not line:
            continue
        text = line if line.endswith(b"\n") else line + b"\n"
        _, stream, tag, rest = text.split(b" ", 3)
        parts[stream.decode()].append(rest if tag == b"F" else rest[:-1])
    return {stream: b"".join(found) for stream, found in parts.items()} or streams


def is_alive(pid: int) -> bool:
    """False for a process that has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Shop:
    """One state root, and the programs as a user calls them."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self.scratch = scratch
        self.made: list[str] = []

    def name(self) -> str:
        """Return an id that no other test uses: runc's are global."""
        container = f"t{os.getpid()}-{secrets.token_hex(4)}"
        self.made.append(container)
        return container

    def argv(self, program: str, *words: object) -> list[str]:
        return [str(BIN / program), *map(str, words)]

    def call(
        self, program: str, *words: object, check: bool = True, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        settings: dict[str, object] = {
            "stdin": None if "input" in options else subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "timeout": PATIENCE,
            "env": os.environ | {"ATTACHD_ROOT": str(self.root)},
        }
        if "input" in options:
            del settings["stdin"]
        done = subprocess.run(self.argv(program, *words), check=False, **(settings | options))
        if check and done.returncode != 0:
            raise AssertionError(f"{program} {words}: {done.returncode}: {done.stderr!r}")
        return done

    def run(self, *command: str, options: tuple[object, ...] = ()) -> str:
        container = self.name()
        self.call("attachd", "run", *options, container, "--", *command)
        return container

    def create(self, *command: str, options: tuple[object, ...] = ()) -> str:
        container = self.name()
        self.call("attachd", "create", *options, container, "--", *command)
        return container

    def ctl(self, *words: object, check: bool = True) -> bytes:
        return self.call("attachctl", *words, check=check).stdout

    def popen(
        self, program: str, *words: object, **options: object
    ) -> subprocess.Popen[bytes]:
        settings: dict[str, object] = {
            "bufsize": 0,  # or communicate() would forget what readline() had buffered
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": os.environ | {"ATTACHD_ROOT": str(self.root)},
        }
        return subprocess.Popen(self.argv(program, *words), **(settings | options))

    def bundle(self, *command: str) -> Path:
        path = self.scratch / f"bundle-{secrets.token_hex(4)}"
        self.call("attachd", "spec", path, "--", *command)
        return path

    def patch(self, bundle: Path, change: Callable[[dict], None]) -> None:
        spec = json.loads((bundle / "config.json").read_text())
        change(spec)
        (bundle / "config.json").write_text(json.dumps(spec))

    def path(self, container: str, name: str = "") -> Path:
        return self.root / container / name

    def state(self, container: str) -> dict:
        return json.loads(self.path(container, "state.json").read_text())

    def ended(self, container: str) -> dict:
        """Wait for the exit record and return it."""
        path = self.path(container, "exit.json")
        wait_for(path.exists)
        return json.loads(path.read_text())

    def log(self, container: str) -> bytes:
        return self.path(container, "log/container.log").read_bytes()

    def output(self, container: str) -> bytes:
        return cri_streams(self.log(container))["stdout"]

    def keeper(self, container: str) -> int:
        return self.state(container)["keeper_pid"]

    def server(self, container: str) -> int:
        """Return the pid of the running server, or 0."""
        keeper = self.keeper(container)
        try:
            children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        except OSError:
            return 0
        for pid in map(int, children):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if b"attachd.live" in words or b"attachd.doors" in words:
                    return pid
            except OSError:
                continue
        return 0

    def kill_shim(self, container: str) -> int:
        """Kill keeper and server, neither of which may start the other again; return the latter.

        Stopped first: whoever of the two sees the other die makes a new one at once.
        """
        keeper, server = self.keeper(container), wait_for(lambda: self.server(container))
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in (keeper, server):
                os.kill(pid, number)
        wait_for(lambda: not any(is_alive(pid) for pid in (keeper, server)))
        return server

    def reported(self, container: str) -> dict:
        """Return what the shim reports; nothing while nobody answers."""
        done = self.call("attachctl", "stats", container, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def processes(self) -> list[str]:
        """Return every process that names this root, or works in it."""
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            try:
                words = (process / "cmdline").read_bytes()
                links = [os.readlink(fd) for fd in (process / "fd").iterdir()]
            except OSError:
                continue
            if str(self.root).encode() in words or any(str(self.root) in x for x in links):
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def close(self) -> None:
        for container in self.made:
            if self.path(container).exists():
                self.call("attachctl", "rm", "--force", container, check=False)
        left = self._left()
        for container in left:
            subprocess.run(
                ["runc", "delete", "--force", container], check=False, timeout=PATIENCE
            )
        wait_for(lambda: not self.processes())
        assert not left & self._left()

    def _left(self) -> set[str]:
        """Return what the runtime has of ours; a shim may be about to delete it."""
        listed = subprocess.run(
            ["runc", "list", "-q"], stdout=subprocess.PIPE, check=False, timeout=PATIENCE
        )
        return set(listed.stdout.decode().split()) & set(self.made)
