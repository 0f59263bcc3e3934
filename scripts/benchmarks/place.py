"""The place where everything happens, and the shims that are measured in it."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

VENV = Path(__file__).resolve().parent.parent.parent / ".venv"
PYTHON = str(VENV / "bin" / "python")
ATTACHD = str(VENV / "bin" / "attachd")

#: No step takes longer on a machine that works.
STEP_SECONDS = 60.0


class Failed(Exception):
    """Something did not work: there is nothing to measure."""


class Place:
    """Where everything happens: directories of our own, with a runc that knows only us."""

    def __init__(self, directory: Path, logs: Path) -> None:
        self.directory = directory
        self.logs = logs
        self.runc = ["runc", "--root", str(directory / "runc")]
        self.environment = dict(os.environ)
        self._words = directory / "words"
        self._shims: dict[str, int] = {}  #: a container's shim, as a pidfd
        self._born = 0
        (directory / "exits").mkdir()

    def name(self) -> str:
        """Return a new container's id."""
        self._born += 1
        return f"bench-{os.getpid()}-{self._born}"

    def bundle(self, name: str, *command: str, terminal: bool = False) -> Path:
        """Make a bundle for a command."""
        path = self.directory / name
        self.call(ATTACHD, "spec", str(path), "--", *command)
        if terminal:
            spec = json.loads((path / "config.json").read_text())
            spec["process"]["terminal"] = True
            (path / "config.json").write_text(json.dumps(spec))
        return path

    def call(self, *argv: str, **more: int) -> None:
        """Run a program to its end, without reading its words; raises Failed.

        Waits on a pidfd: ``Popen.wait`` with a timeout polls, which would be measured.
        """
        null = subprocess.DEVNULL
        environment = self.environment | {name: str(fd) for name, fd in more.items()}
        fds = tuple(more.values())
        with open(self._words, "wb") as words:
            process = subprocess.Popen(
                argv, stdin=null, stdout=null, stderr=words, pass_fds=fds, env=environment
            )
        pidfd = os.pidfd_open(process.pid)
        ended = select.select([pidfd], [], [], STEP_SECONDS)[0]
        os.close(pidfd)
        if not ended:
            process.kill()
        if process.wait() != 0:
            words_of_it = self._words.read_text(errors="replace").strip()[-1000:]
            raise Failed(f"{' '.join(argv)}: status {process.returncode}: {words_of_it}")

    def watch(self, container: str, pid_file: Path) -> None:
        """Remember a container's shim, to wait for its end."""
        with contextlib.suppress(ProcessLookupError):
            self._shims[container] = os.pidfd_open(int(pid_file.read_text()))

    def delete(self, container: str) -> None:
        """End a container and wait until its shim is gone, too."""
        self.call(*self.runc, "delete", "--force", container)
        shim = self._shims.pop(container, None)
        if shim is None:
            return
        if not select.select([shim], [], [], STEP_SECONDS)[0]:
            signal.pidfd_send_signal(shim, signal.SIGKILL)
            raise Failed(f"the shim of {container} outlived it")
        os.close(shim)

    def clean(self) -> None:
        """End all that is left."""
        left = self.directory / "runc"
        for container in os.listdir(left) if left.is_dir() else []:
            with contextlib.suppress(Failed):
                self.delete(container)


# The contestants. Each makes and starts a container, and returns when it runs.


def attachd(place: Place, container: str, bundle: Path, log: Path, *more: str) -> Path:
    """``attachd run`` with more options; return where the exit record will be."""
    root = place.directory / "attachd"
    options = ["--root", root, "--runtime-root", place.directory / "runc", "--linger", "0"]
    words = [*options, "--bundle", bundle, "--log", f"cri:{log}", *more, container]
    place.call(ATTACHD, "run", *map(str, words))
    return root / container / "exit.json"


def conmon(place: Place, container: str, bundle: Path, log: Path, *more: str) -> Path:
    """What a manager does with conmon and more options; return where the exit file will be."""
    run, exits = place.directory, place.directory / "exits"
    read, write = os.pipe()
    try:
        place.call(
            *("conmon", "-c", container, "-u", container, "-n", container),
            *("-r", str(shutil.which("runc")), f"--runtime-arg=--root={run / 'runc'}"),
            *("-b", str(bundle), "-p", str(run / "pid"), "-P", str(run / "conmon.pid")),
            *("--exit-dir", str(exits), "--full-attach", "-l", f"k8s-file:{log}"),
            *more,
            _OCI_SYNCPIPE=write,
        )
        os.close(write)
        told = select.select([read], [], [], STEP_SECONDS)[0] and os.read(read, 4096)
    finally:
        os.close(read)
    if not told or json.loads(told)["pid"] <= 0:
        raise Failed(f"conmon reported {told!r}")
    place.call(*place.runc, "start", container)
    return exits / container


def runc(place: Place, container: str, bundle: Path, _log: Path) -> None:
    """``runc run -d``: a container without a shim."""
    place.call(*place.runc, "run", "--detach", "--bundle", str(bundle), container)


def python(place: Place, _container: str, _bundle: Path, _log: Path) -> None:
    """A Python that does nothing: what attachd can never go below."""
    place.call(PYTHON, "-c", "pass")


def watch_attachd(place: Place, container: str) -> None:
    """Remember the keeper."""
    place.watch(container, place.directory / "attachd" / container / "keeper.pid")


def watch_conmon(place: Place, container: str) -> None:
    """Remember the monitor."""
    place.watch(container, place.directory / "conmon.pid")


WATCHES: dict[str, Callable[[Place, str], None]] = {
    "attachd": watch_attachd,
    "conmon": watch_conmon,
}


@contextlib.contextmanager
def places() -> Iterator[Place]:
    """Two temporary directories, and in the end nothing: no file, container or process."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4e9
    logs = str(memory) if roomy and "TMPDIR" not in os.environ else None
    with (
        tempfile.TemporaryDirectory(prefix="attachd-bench-") as own,
        tempfile.TemporaryDirectory(prefix="attachd-bench-", dir=logs) as log_directory,
    ):
        place = Place(Path(own), Path(log_directory))
        try:
            yield place
        finally:
            signal.alarm(0)
            place.clean()
