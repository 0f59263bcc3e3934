"""A player of conmon's caller: what Podman and CRI-O do with pipes, sockets and files.

It calls ``attachd-conmon`` as they do, and runs ``runc start`` and ``runc delete`` by itself.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

from harness import BIN, PATIENCE, Shop, wait_for

RUNC = shutil.which("runc") or "runc"


class Packet(NamedTuple):
    """What comes from the attach socket: 2 is stdout, 3 is stderr."""

    stream: int
    data: bytes


class Guest:
    """A client of the attach socket."""

    def __init__(self, bundle: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(PATIENCE)
        directory = os.open(bundle, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{directory}/attach")
        finally:
            os.close(directory)

    def packet(self) -> Packet | None:
        """Return the next packet; None at the end."""
        data = self.socket.recv(8193)
        return Packet(data[0], data[1:]) if data else None

    def read(self, size: int) -> bytes:
        """Return at least so many bytes of stdout."""
        found = b""
        while len(found) < size:
            packet = self.packet()
            assert packet is not None, found
            found += packet.data
        return found

    def read_until(self, mark: bytes) -> bytes:
        """Return what comes, up to and with a mark."""
        found = b""
        while mark not in found:
            packet = self.packet()
            assert packet is not None, found
            found += packet.data
        return found

    def rest(self) -> dict[int, bytes]:
        """Return everything up to the end, by stream."""
        found = {2: b"", 3: b""}
        while (packet := self.packet()) is not None:
            found[packet.stream] += packet.data
        return found

    def type(self, data: bytes) -> None:
        """Send stdin, in packets of 32 KiB."""
        for at in range(0, len(data), 32768):
            self.socket.send(data[at : at + 32768])

    def end_input(self) -> None:
        """There is no more to type."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave."""
        self.socket.close()


class Call:
    """One call of ``attachd-conmon``, and the manager's ends of its pipes."""

    def __init__(
        self,
        words: list[str],
        environment: dict[str, str],
        *,
        attach: bool,
        pass_fds: tuple[int, ...] = (),
        as_three: int = -1,
    ) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        (self.sync, sync), (self.start, start), (self.attach, attach_end) = pairs
        numbers = {"_OCI_SYNCPIPE": sync, "_OCI_STARTPIPE": start}
        if attach:
            numbers["_OCI_ATTACHPIPE"] = attach_end
        self.process = subprocess.Popen(
            [str(BIN / "attachd-conmon"), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | {name: str(end.fileno()) for name, end in numbers.items()},
            pass_fds=[
                *(end.fileno() for end in numbers.values()),
                *pass_fds,
                *([3] if as_three >= 0 else []),
            ],
            process_group=0,
            preexec_fn=(lambda: os.dup2(as_three, 3)) if as_three >= 0 else None,
        )
        for end in (sync, start, attach_end):
            end.close()
        for end in (self.sync, self.start, self.attach):
            end.settimeout(PATIENCE)

    def go(self) -> None:
        """Let it go on."""
        self.start.send(b"\0")

    def line(self) -> dict:
        """Return the next line of the sync pipe; nothing at its end."""
        data = self.sync.recv(65536)
        assert len(data) <= 4096
        assert data.endswith(b"\n") or not data
        return json.loads(data) if data else {}

    def left(self) -> tuple[int, bytes]:
        """Return the exit code and the stderr of the first process."""
        _, stderr = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, stderr

    def close(self) -> None:
        """Close the manager's ends."""
        for end in (self.sync, self.start, self.attach):
            end.close()


class Box:
    """One container: its id, its bundle, and the files that its manager finds."""

    def __init__(self, manager: "Manager", container: str, bundle: Path) -> None:
        self.manager = manager
        self.id = container
        self.bundle = bundle
        self.pid_file = bundle / "pidfile"
        self.conmon_pid = bundle / "conmon.pid"
        self.exits = bundle / "exits"
        self.persist = bundle / "persist"
        self.log = bundle / "ctr.log"
        self.told = bundle / "told"  #: what the exit command has written
        for directory in (self.exits, self.persist):
            directory.mkdir(exist_ok=True)

    def words(self, *more: str) -> list[str]:
        """Return the command line of a creation, as Podman's is."""
        words = ["--api-version", "1", "-c", self.id, "-u", self.id, "-r", RUNC]
        words += ["-b", str(self.bundle), "-p", str(self.pid_file), "-n", f"name-{self.id}"]
        words += ["--exit-dir", str(self.exits), "--persist-dir", str(self.persist)]
        words += ["--full-attach", "--conmon-pidfile", str(self.conmon_pid)]
        words += ["-l", f"k8s-file:{self.log}", "--log-level", "warning"]
        return words + list(more)

    def exit_command(self, script: str) -> list[str]:
        """Return the options for an exit command: a shell script.

        It has the id as $1, where it may write as $2 (whole: written beside, and renamed), and
        the bundle as $3.
        """
        words = ["-c", script, "exit-command", self.id, str(self.told), str(self.bundle)]
        found = ["--exit-command", "/bin/sh"]
        for word in words:
            found += ["--exit-command-arg", word]
        return found

    def create(self, *more: str, **options: object) -> int:
        """Have it made; return its pid."""
        call = self.manager.call(self.words(*more), **options)
        call.go()
        told = call.line()
        assert told.get("data", -1) > 0, told
        assert call.left() == (0, b"")
        return int(told["data"])

    def start(self) -> None:
        """Start the program, as a manager does by itself."""
        self.manager.runc("start", self.id)

    def guest(self) -> Guest:
        """Attach."""
        made = Guest(self.bundle)
        self.manager.guests.append(made)
        return made

    def ctl(self, data: bytes, name: str = "ctl") -> None:
        """Write to a FIFO, as Podman does."""
        fd = os.open(self.bundle / name, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def ended(self) -> int:
        """Wait for the exit file; return the status in it."""
        path = self.exits / self.id
        wait_for(path.exists)
        text = path.read_text()
        assert str(int(text)) == text
        return int(text)

    def keeper(self) -> int:
        """Return the pid in the file that was asked for."""
        return int(self.conmon_pid.read_text())

    def server(self) -> int:
        """Return the pid of the server that is at work, or 0."""
        done = self.manager.shop.call("attachctl", "stats", self.id, check=False)
        return int(json.loads(done.stdout)["server_pid"]) if done.returncode == 0 else 0

    def gone(self) -> None:
        """Wait until nothing of ours is left."""
        root = self.manager.shop.root
        wait_for(lambda: not list(root.glob(f"*{self.id}*")))
        wait_for(lambda: not (self.bundle / "attach").exists())


class Manager:
    """Makes bundles, calls, and cleans up."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.environment = os.environ | {"ATTACHD_ROOT": str(shop.root)}
        self.calls: list[Call] = []
        self.guests: list[Guest] = []

    def box(self, *command: str, terminal: bool = False) -> Box:
        """Return a container that is to run a command."""
        bundle = self.shop.bundle(*command)
        self.shop.patch(bundle, lambda spec: spec["process"].update(terminal=terminal))
        return Box(self, self.shop.name(), bundle)

    def call(
        self,
        words: list[str],
        *,
        attach: bool = False,
        pass_fds: tuple[int, ...] = (),
        as_three: int = -1,
        **environment: str,
    ) -> Call:
        """Call ``attachd-conmon``, with more descriptors, and one of them as number 3."""
        made = Call(
            words,
            self.environment | environment,
            attach=attach,
            pass_fds=pass_fds,
            as_three=as_three,
        )
        self.calls.append(made)
        return made

    def runc(self, *words: str, check: bool = True) -> bytes:
        """Call the runtime."""
        done = subprocess.run(
            [RUNC, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout

    def close(self) -> None:
        """Delete every container that is left."""
        for guest in self.guests:
            guest.close()
        for call in self.calls:
            call.close()
            if call.process.poll() is None:
                call.process.kill()
            call.process.communicate(timeout=PATIENCE)
        for container in self.shop.made:
            self.runc("delete", "--force", container, check=False)

    def executed(self, box: Box, *command: str, terminal: bool = False) -> "Execution":
        """Return an exec that is to run a command in a container."""
        return Execution(self, box, command, terminal=terminal)


class Execution:
    """One exec: its session, and the directory where its files are."""

    def __init__(
        self, manager: Manager, box: Box, command: tuple[str, ...], *, terminal: bool
    ) -> None:
        self.manager = manager
        self.box = box
        self.session = secrets.token_hex(16)
        self.directory = box.bundle / self.session
        self.exits = self.directory / "exit"
        self.exits.mkdir(parents=True)
        self.pid_file = self.directory / "exec_pid"
        self.spec = self.directory / "process.json"
        process = {"args": list(command), "cwd": "/", "env": ["PATH=/bin:/usr/bin"]}
        process |= {"user": {"uid": 0, "gid": 0}, "terminal": terminal}
        self.spec.write_text(json.dumps(process))
        self.terminal = terminal

    def words(self, *more: str) -> list[str]:
        """Return the command line as Podman's is."""
        words = ["--api-version", "1", "-c", self.box.id, "-u", self.session, "-r", RUNC]
        words += ["-b", str(self.directory), "-p", str(self.pid_file)]
        words += ["--exit-dir", str(self.exits), "--full-attach", "-l", "none"]
        words += ["-t"] if self.terminal else []
        return [*words, *more, "-e", "--exec-attach", "--exec-process-spec", str(self.spec)]

    def legacy_words(self, *more: str) -> list[str]:
        """Return the command line as CRI-O's is for a command that it waits for."""
        words = ["-c", self.box.id, "-r", RUNC, "-p", str(self.pid_file), "-e"]
        words += ["-l", str(self.directory / "log"), "--sync"]
        words += ["--log-global-size-max", "16777216"]
        return [*words, *more, "--exec-process-spec", str(self.spec)]

    def begin(self, *more: str, **options: object) -> tuple[Call, Guest]:
        """Have it made up to the moment when it waits for the second go; attach."""
        call = self.manager.call(self.words(*more), attach=True, **options)
        call.go()
        assert json.loads(call.attach.recv(100)) == {"data": 0}
        guest = Guest(self.directory)
        self.manager.guests.append(guest)
        return call, guest
