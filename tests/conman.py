"""conman, played: it calls the shim, the runtime and the attach file as that manager does.

What it does and reads, and where that is known from, is in docs/shimmy.md.
"""

import json
import os
import select
import socket
import subprocess
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from harness import PATIENCE, Shop, is_alive, wait_for

#: Its buffer for one piece of output.
READ_BYTES = 32 * 1024 + 1


class Line(NamedTuple):
    """A record of a log, as conman's tests take it apart."""

    time: datetime
    stream: str
    text: str


class Called(NamedTuple):
    """What the shim's command has ended with, and what came through the sync pipe."""

    code: int
    stdout: bytes
    stderr: bytes
    report: bytes

    @property
    def told(self) -> dict:
        return json.loads(self.report)


class Conman:
    """Containers with everything of theirs below one directory, and a runtime root of their own."""

    def __init__(self, shop: Shop, runtime: str = "runc") -> None:
        self.shop = shop
        self.runtime = runtime
        self.home = shop.scratch / "conman"
        for name in ("logs", "exits", "attach", "runc"):
            (self.home / name).mkdir(parents=True)
        self.bundles: dict[str, Path] = {}

    # Where things are

    def bundle(self, box: str, name: str = "") -> Path:
        return self.bundles[box] / name

    def log_file(self, box: str) -> Path:
        return self.home / "logs" / f"{box}.log"

    def exit_path(self, box: str) -> Path:
        return self.home / "exits" / box

    def attach_path(self, box: str) -> Path:
        return self.home / "attach" / box

    def pid(self, box: str, whose: str) -> int:
        """Return what is in a pid file, as Go's Atoi reads it: digits and nothing else."""
        text = self.bundle(box, f"{whose}.pid").read_text()
        assert text.isdigit(), text
        return int(text)

    # The shim

    def words(self, box: str, *, stdin: bool = False, stdin_once: bool = False) -> list[str]:
        """Return what conman gives to the shim, in its order; the sync pipe comes behind."""
        bundle = self.bundle(box)
        return [
            "--shimmy-pidfile", str(bundle / "shimmy.pid"),
            "--shimmy-log-level", "INFO",
            "--runtime", self.runtime,
            f"--runtime-arg='--root={self.home / 'runc'}'",
            "--bundle", str(bundle),
            "--container-id", box,
            "--container-pidfile", str(bundle / "container.pid"),
            "--container-logfile", str(self.log_file(box)),
            "--container-exitfile", str(self.exit_path(box)),
            "--container-attachfile", str(self.attach_path(box)),
            *["--stdin"] * stdin,
            *["--stdin-once"] * stdin_once,
        ]  # fmt: skip

    def call(self, words: list[str], *, variable: bool = False) -> Called:
        """Call the shim; return when it has ended, its stdio too, and the sync pipe's end came."""
        read, write = os.pipe()
        environment = os.environ | {"ATTACHD_ROOT": str(self.shop.root)}
        environment |= {"_OCI_SYNCPIPE": "3"} if variable else {}

        def have_it_as_3() -> None:
            os.dup2(write, 3)
            os.set_inheritable(3, True)

        shim = subprocess.Popen(
            self.shop.argv(
                "attachd", "shimmy", *words, *["--syncpipe-fd", "3"] * (not variable)
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            close_fds=False,
            preexec_fn=have_it_as_3,
        )
        stdout, stderr = shim.communicate(timeout=PATIENCE)
        os.close(write)
        return Called(shim.returncode, stdout, stderr, _read_to_the_end(read))

    def prepare(self, *command: str) -> str:
        """Make a bundle; return the id of the container that is to be made of it."""
        box = self.shop.name()
        self.bundles[box] = self.shop.bundle(*command)
        return box

    def create(self, *command: str, **stdin: bool) -> str:
        """Have a container made; return its id when its pid was reported."""
        box = self.prepare(*command)
        called = self.call(self.words(box, **stdin))
        assert (called.code, called.stdout, called.stderr) == (0, b"", b"")
        assert called.told == {"kind": "container_pid", "pid": self.pid(box, "container")}
        return box

    # The runtime

    def runc(self, *words: str, check: bool = True) -> bytes:
        call = ["runc", "--root", str(self.home / "runc"), *words]
        return subprocess.run(
            call, stdout=subprocess.PIPE, check=check, timeout=PATIENCE
        ).stdout

    def run(self, *command: str, **stdin: bool) -> str:
        """Create a container, and start it."""
        box = self.create(*command, **stdin)
        self.runc("start", box)
        return box

    # What it reads

    def ended(self, box: str) -> dict:
        """Wait for the exit file; return what conman takes from it, by its rules."""
        wait_for(self.exit_path(box).exists)
        found = json.loads(self.exit_path(box).read_bytes())
        assert datetime.fromisoformat(found["at"]).tzinfo is not None
        assert found["reason"] in ("exited", "signaled")
        if found["reason"] == "exited":
            assert 0 <= found["exitCode"] <= 127
        else:
            assert found["signal"] > 0
        return found

    def gone(self, box: str) -> None:
        """Wait until the shim has ended."""
        wait_for(lambda: not is_alive(self.pid(box, "shimmy")))

    def log(self, box: str) -> list[Line]:
        lines = []
        for line in self.log_file(box).read_text().split("\n"):
            if line:
                time, stream, text = line.split(" ", 2)
                assert stream in ("stdout", "stderr")
                lines.append(Line(datetime.fromisoformat(time), stream, text))
        return lines

    def attach(self, box: str) -> "Attached":
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(PATIENCE)
        peer.connect(str(self.attach_path(box)))
        return Attached(peer)

    def close(self) -> None:
        for box in self.bundles:
            self.runc("delete", "--force", box, check=False)


def _read_to_the_end(fd: int) -> bytes:
    """Read and close a pipe whose writers must go in time."""
    data = b""
    with open(fd, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe], [], [], PATIENCE)
            assert ready, f"the sync pipe stays open, after {data!r}"
            part = pipe.read(65536)
            if not part:
                return data
            data += part


class Attached:
    """``conmanctl attach``: what one read brings is one piece, its first byte the stream."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.heard = {1: b"", 2: b""}

    def hear(self) -> bool:
        """Read once; return False at the end."""
        data = self.peer.recv(READ_BYTES)
        if data:
            self.heard[data[0]] += data[1:]
        return bool(data)

    def hear_until(self, stream: int, text: bytes) -> None:
        while text not in self.heard[stream]:
            assert self.hear(), self.heard

    def hear_all(self) -> dict[int, bytes]:
        while self.hear():
            pass
        self.peer.close()
        return self.heard

    def say(self, data: bytes) -> None:
        self.peer.sendall(data)

    def end_input(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)
