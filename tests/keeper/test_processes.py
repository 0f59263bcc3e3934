"""Starting programs: what they get of us, and what they do not."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.errors import UsageError
from attachd.keeper.processes import (
    Runtime,
    clean_environment,
    find_runtime,
    note_passing,
    spawn,
    start_time,
)

SH = "/bin/sh"


@pytest.fixture
def null() -> Iterator[int]:
    """A descriptor of /dev/null."""
    fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def output_of(argv: list[str], null: int, *, inherit: tuple[int, ...] = (), **env: str) -> str:
    """Run a program by ``spawn`` and return its stdout; it must end well."""
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = spawn(argv, env, (null, write, null), inherit)
    os.close(write)
    with open(read, encoding="utf-8") as file:
        text = file.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0
    return text


# spawn


def test_a_program_gets_its_argv_its_stdio_and_its_environment(null: int) -> None:
    """And nothing else of the environment."""
    argv = [SH, "-c", 'echo "$0 $1 $NAME ${HOME:-homeless}"', "zero", "one two"]

    assert output_of(argv, null, NAME="value") == "zero one two value homeless\n"


def test_stdin_and_stderr_are_the_ones_given(tmp_path: Path) -> None:
    """Three descriptors, each in its place."""
    given, out, err = (tmp_path / name for name in ("in", "out", "err"))
    given.write_text("question\n")
    with open(given, "rb") as stdin, open(out, "wb") as stdout, open(err, "wb") as stderr:
        stdio = (stdin.fileno(), stdout.fileno(), stderr.fileno())
        pid = spawn([SH, "-c", "cat; echo trouble >&2"], {}, stdio)
        os.waitpid(pid, 0)

    assert (out.read_text(), err.read_text()) == ("question\n", "trouble\n")


def test_nothing_of_ours_leaks_but_what_is_handed_on(null: int) -> None:
    """A descriptor in ``inherit`` keeps its number; the others are closed."""
    handed, kept = os.memfd_create("handed"), os.memfd_create("kept", os.MFD_CLOEXEC)
    try:
        os.set_inheritable(handed, False)
        argv = [sys.executable, "-I", "-c", "import os; print(*os.listdir('/proc/self/fd'))"]
        names = set(output_of(argv, null, inherit=(handed,)).split())
    finally:
        os.close(handed)
        os.close(kept)

    assert {"0", "1", "2", str(handed)} <= names
    assert str(kept) not in names


def test_handing_a_descriptor_on_leaves_ours_as_it_was(null: int) -> None:
    """Our own copy stays close-on-exec."""
    fd = os.memfd_create("handed", os.MFD_CLOEXEC)
    try:
        output_of([SH, "-c", ":"], null, inherit=(fd,))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.fixture
def keepers_signals() -> Iterator[None]:
    """Ignore what the keeper ignores (keeper.ears), and block a signal on top."""
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("keepers_signals")
def test_a_programs_signals_are_at_their_defaults(null: int) -> None:
    """No ignored and no blocked signal of the keeper is inherited by runtime or server."""
    status = output_of([SH, "-c", "cat /proc/self/status"], null, PATH=os.environ["PATH"])
    masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    ignored = [n for n in range(1, 32) if int(masks["SigIgn"], 16) >> (n - 1) & 1]

    assert int(masks["SigBlk"], 16) == 0
    assert [signal.Signals(number).name for number in ignored] == []


@pytest.mark.parametrize("name", ["missing", "plain", "directory"])
def test_what_cannot_be_executed_is_an_os_error(tmp_path: Path, null: int, name: str) -> None:
    """No process is left behind."""
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "directory").mkdir()

    with pytest.raises(OSError, match=r"No such file|denied"):
        spawn([str(tmp_path / name)], {}, (null, null, null))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# clean_environment


def test_only_known_names_go_on() -> None:
    """A secret in the launcher's environment never reaches a runtime or a hook."""
    given = {
        "PATH": "/opt/bin",
        "HOME": "/root",
        "SECRET": "x",
        "LD_PRELOAD": "y",
        "LANG": "C",
    }

    assert clean_environment(given) == {"PATH": "/opt/bin", "HOME": "/root", "LANG": "C"}


def test_there_is_always_a_path() -> None:
    """A launcher without an environment can still find newuidmap and friends."""
    assert clean_environment({})["PATH"].split(":")[-2:] == ["/sbin", "/bin"]


@pytest.mark.parametrize(
    "name", ["XDG_RUNTIME_DIR", "NOTIFY_SOCKET", "DBUS_SESSION_BUS_ADDRESS", "TMPDIR"]
)
def test_what_runtimes_need_goes_on(name: str) -> None:
    """runc without root, readiness, and the systemd driver depend on it."""
    assert clean_environment({name: "value"})[name] == "value"


# start_time


def test_a_process_has_one_start_time() -> None:
    """The same at each reading, as the kernel counts it since boot."""
    ours = start_time(os.getpid())
    stat = Path("/proc/self/stat").read_text()

    assert ours > 0
    assert ours == start_time(os.getpid())
    assert int(stat[stat.rindex(")") + 2 :].split()[19]) == ours


def test_a_name_with_brackets_and_spaces_changes_nothing() -> None:
    """A program may call itself ``) R 1 (``; its start time is still its own."""
    code = (
        "import os\n"
        "open('/proc/self/comm', 'w').write(') R 1 (')\n"
        "from attachd.keeper.processes import start_time\n"
        "stat = open('/proc/self/stat').read()\n"
        "assert ') R 1 (' in stat, stat\n"
        "print(start_time(os.getpid()) == int(stat.rsplit(') ', 1)[1].split()[19]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_process_that_is_gone_has_no_start_time() -> None:
    """0, which no process has."""
    pid = os.posix_spawn(SH, [SH, "-c", ":"], {})
    os.waitpid(pid, 0)

    assert start_time(pid) == 0


# The runtime's argv


def test_global_options_come_before_the_verb() -> None:
    """Options of the caller, then --root, then the words of the call."""
    runtime = Runtime("/bin/runc", "/run/r", ("--systemd-cgroup",))

    assert runtime.command("kill", "box", "9") == [
        "/bin/runc", "--systemd-cgroup", "--root", "/run/r", "kill", "box", "9",
    ]  # fmt: skip


def test_without_a_root_the_runtimes_own_is_used() -> None:
    """No empty --root is passed."""
    assert Runtime("/bin/runc", "", ()).command("list") == ["/bin/runc", "list"]


def test_a_runtime_is_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In PATH; the answer is absolute, since we change directory."""
    program = tmp_path / "bin" / "runc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.chdir(tmp_path)

    assert find_runtime("runc") == str(program)
    assert find_runtime("./bin/runc") == str(program)


@pytest.mark.parametrize("name", ["no-such-runtime", "./file", "/", ""])
def test_a_runtime_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The message names the option that helps; a file that cannot run is not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch(0o644)

    with pytest.raises(UsageError, match="--runtime"):
        find_runtime(name)


def test_a_forgotten_environment_can_be_read_nowhere() -> None:
    """Neither in /proc, nor by the C library, nor by Python; the process goes on."""
    code = (
        "import ctypes, os\n"
        "from attachd.keeper.processes import forget_environment\n"
        "forget_environment()\n"
        "with open('/proc/self/environ', 'rb') as file: left = file.read()\n"
        "getenv = ctypes.CDLL(None).getenv\n"
        "getenv.restype = ctypes.c_char_p\n"
        "print(left.strip(b'\\0'), getenv(b'SECRET'), dict(os.environ))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.defpath, "SECRET": "hunter2"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "b'' None {}\n"


@pytest.mark.parametrize("asked", [{}, {"ATTACHD_PASS_ALL": "1"}])
def test_programs_get_the_whole_environment_only_when_a_door_wants_it(
    monkeypatch, asked
) -> None:
    """Whatever the caller has set; what is meant for a Python is never passed on."""
    for name in os.environ:
        monkeypatch.delenv(name)
    given = {"SECRET": "hunter2", "HOME": "/root", "PYTHONHOME": "/nowhere", **asked}
    for name, text in given.items():
        monkeypatch.setenv(name, text)
    note_passing(os.environ, whole=False)
    found = clean_environment(os.environ)
    assert set(found) == {"HOME", "PATH"}
    note_passing(os.environ, whole=True)
    found = clean_environment(os.environ)
    assert found["SECRET"] == "hunter2"
    assert "PYTHONHOME" not in found
    assert "SECRET" in clean_environment(os.environ)  # and again, in a successor
    note_passing(os.environ, whole=False)
