"""``podman logs``, and where the log drivers leave a container's output."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import wait_for
from podman_host import IMAGE

pytestmark = pytest.mark.runc

BOTH = "echo out; echo err >&2"


def test_logs_keep_their_streams(podman) -> None:
    name = podman.run("sh", "-c", BOTH)
    assert podman.ended(name) == 0
    done = podman.call("logs", name)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


def test_logs_end_as_the_output_does(podman) -> None:
    """Bytes that are no text, a long line, an empty one, and an end without a newline."""
    command = r"printf '\000\377 \r x\n\n'; head -c 20000 /dev/zero | tr '\0' a; printf end"
    name = podman.run("sh", "-c", command)
    assert podman.ended(name) == 0
    expected = b"\0\xff \r x\n\n" + b"a" * 20000 + b"end"
    assert podman.call("logs", name).stdout == expected
    assert podman.output(name) == expected


def test_logs_are_there_as_soon_as_the_container_has_ended(podman) -> None:
    """Whoever has seen the end finds every line, and the last."""
    name = podman.name()
    podman.call("run", "--name", name, IMAGE, "seq", "30000")
    lines = podman.call("logs", name).stdout.splitlines()
    assert lines == [b"%d" % n for n in range(1, 30001)]
    assert podman.call("logs", "--tail", 3, name).stdout == b"29998\n29999\n30000\n"


def test_followers_get_every_line_and_the_end(podman, gate) -> None:
    """Those before, those while they look on, and the last one; then they end."""
    command = "seq 1000; read go </gate/fifo; seq 1001 3000"
    name = podman.run("sh", "-c", command, options=gate.options)
    follower = podman.popen("logs", "--follow", name)
    seen = [follower.stdout.readline() for _ in range(1000)]
    gate.let_pass()
    seen += follower.stdout.readlines()
    assert seen == [b"%d\n" % n for n in range(1, 3001)]
    assert follower.wait(60) == 0


def test_logs_since_a_time_leave_out_what_was_before(podman, gate) -> None:
    name = podman.run("sh", "-c", "echo one; read go </gate/fifo; echo two",
                      options=gate.options)  # fmt: skip
    wait_for(lambda: podman.output(name) == b"one\n")
    gate.let_pass()
    assert podman.ended(name) == 0
    lines = podman.call("logs", "--timestamps", name).stdout.decode().splitlines()
    first, second = (line.split()[0] for line in lines)
    assert podman.call("logs", "--since", first, name).stdout == b"two\n"
    assert podman.call("logs", "--until", second, name).stdout == b"one\n"


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_a_log_file_is_in_the_format_that_others_read(podman, driver: str) -> None:
    """Each line has a time with nanoseconds and its zone, its stream and a tag; private."""
    name = podman.run("sh", "-c", f"{BOTH}; printf part", options=("--log-driver", driver))
    assert podman.ended(name) == 0
    path = Path(podman.told(name)["HostConfig"]["LogConfig"]["Path"])
    time = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d)"
    lines = path.read_bytes().splitlines()
    found = [re.fullmatch(time + rb" (.*)", line)[1] for line in lines]
    assert sorted(found) == [b"stderr F err", b"stdout F out", b"stdout P part"]
    assert path.stat().st_mode & 0o007 == 0


def test_a_log_may_be_elsewhere(podman, tmp_path: Path) -> None:
    podman.call("run", "--log-opt", f"path={tmp_path}/its.log", IMAGE, "echo", "out")
    assert (tmp_path / "its.log").read_bytes().endswith(b" stdout F out\n")


def test_no_log_is_kept_where_none_is_wanted(podman) -> None:
    """And whoever is attached gets the output all the same."""
    name = podman.name()
    done = podman.call("run", "--name", name, "--log-driver", "none", IMAGE, "echo", "out")
    assert done.stdout == b"out\n"
    assert not (podman.userdata(name) / "ctr.log").exists()
    assert podman.call("logs", name, check=False).returncode == 125


def test_output_passes_through_where_that_is_wanted(podman, tmp_path: Path) -> None:
    """``passthrough``: the container has Podman's own stdin, stdout and stderr."""
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        done = podman.call(
            "run", "--log-driver", "passthrough", IMAGE, "sh", "-c", f"{BOTH}; exit 7",
            check=False, stdout=out, stderr=err,
        )  # fmt: skip
    assert done.returncode == 7
    assert (tmp_path / "out").read_bytes() == b"out\n"
    assert (tmp_path / "err").read_bytes() == b"err\n"


def test_a_log_does_not_grow_beyond_its_size(podman) -> None:
    """And has the last lines: none is torn, none after another."""
    name = podman.run("seq", "5000", options=("--log-opt", "max-size=10kb"))
    assert podman.ended(name) == 0
    assert len(podman.log(name)) <= 10_000
    lines = podman.call("logs", name).stdout.splitlines()
    assert lines
    assert lines == [b"%d" % n for n in range(5001 - len(lines), 5001)]


class Journal:
    """A journal that remembers what it was told, in a mount namespace that has only this one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "socket"))
        self._socket.settimeout(60)
        script = (
            "mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/journal &&"
            ' mount --bind "$0" /run/systemd/journal && exec "$@"'
        )
        self.before = ("unshare", "--mount", "sh", "-c", script, folder)

    def entry(self) -> dict[str, bytes]:
        """Return a container's next one: Podman writes of its own doings, too.

        The format: https://systemd.io/JOURNAL_NATIVE_PROTOCOL.
        """
        while "CONTAINER_ID" not in (found := self._fields(self._socket.recv(1 << 20))):
            pass
        return found

    @staticmethod
    def _fields(left: bytes) -> dict[str, bytes]:
        found = {}
        while left:
            name, separator, rest = re.split(rb"([=\n])", left, maxsplit=1)
            if separator == b"=":
                value, _, left = rest.partition(b"\n")
            else:
                size = 8 + int.from_bytes(rest[:8], "little")
                value, left = rest[8:size], rest[size + 1 :]
            found[name.decode()] = value
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    if not Path("/run/systemd").is_dir():
        pytest.skip("needs the directory in which a journal would listen")
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


def test_the_journal_gets_every_line_with_its_container(podman, journal) -> None:
    name = podman.name()
    options = ("--log-driver", "journald", "--log-opt", "tag=its-tag")
    done = podman.call(
        "run", "--rm", "--name", name, *options, IMAGE, "sh", "-c",
        "echo out; printf part; echo ial; echo err >&2", before=journal.before,
    )  # fmt: skip
    assert done.stdout == b"out\npartial\n"
    entries = sorted((journal.entry() for _ in range(3)), key=lambda one: one["PRIORITY"])
    told = [(entry["PRIORITY"], entry["MESSAGE"].rstrip(b"\n")) for entry in entries]
    assert told == [(b"3", b"err"), (b"6", b"out"), (b"6", b"partial")]
    for entry in entries:
        assert entry["CONTAINER_NAME"] == name.encode()
        assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == b"its-tag"
        assert entry["CONTAINER_ID_FULL"].startswith(entry["CONTAINER_ID"])
        assert len(entry["CONTAINER_ID"]) == 12
