"""CRI-O's container, from its creation to its exit file."""

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import pytest
from crio import Crio, records, with_both
from harness import is_alive, wait_for

#: What the kubelet's parser of the CRI format takes: RFC 3339 with nine digits, stream, tag.
LINE = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*"
)

#: A runtime that notes how it is called; what it makes is a sleep.
RECORDER = """#!/bin/sh
printf '%s\\n' "$@" >{home}/argv
while [ $# -gt 1 ]; do
    [ "$1" = --pid-file ] && pid_file=$2
    shift
done
sleep 1000 </dev/null >/dev/null 2>&1 &
printf %s $! >"$pid_file"
"""


def recorder(crio: Crio) -> Path:
    """Put the recording runtime in the place of runc; return where it writes its words."""
    path = crio.home / "recorder"
    path.write_text(RECORDER.format(home=crio.home))
    path.chmod(0o755)
    crio.runtime = str(path)
    return crio.home / "argv"


@with_both()
def test_life_of_a_container(crio: Crio) -> None:
    """Created, told of, started by CRI-O, logged for the kubelet, ended in two exit files."""
    container = crio.create("sh", "-c", "echo out; echo err >&2; printf tail; exit 7")

    assert (container.bundle / "pidfile").read_text() == str(container.pid)
    assert (crio.sockets / container.id).resolve() == container.bundle
    assert container.log.read_bytes() == b""

    container.start()

    assert container.exit_code() == 7
    assert (container.persist / "exit").read_text() == "7"
    assert sorted(records(container.log)) == [
        (b"stderr", b"F", b"err"), (b"stdout", b"F", b"out"), (b"stdout", b"P", b"tail"),
    ]  # fmt: skip
    assert all(LINE.fullmatch(line) for line in container.log.read_bytes().splitlines())


@with_both()
def test_what_is_there_while_it_runs(crio: Crio) -> None:
    """A monitor that lives, a socket and two FIFOs in the bundle, and a link to it."""
    container = crio.run("sleep", "1000")

    assert is_alive(container.monitor_pid)
    assert stat.S_ISSOCK(os.stat(container.bundle / "attach").st_mode)
    assert stat.S_ISFIFO(os.stat(container.bundle / "ctl").st_mode)
    assert stat.S_ISFIFO(os.stat(container.bundle / "winsz").st_mode)
    assert (crio.sockets / container.id).is_symlink()


def test_nothing_is_left(crio: Crio) -> None:
    """When it has ended: no process, link, socket or state; the FIFOs are CRI-O's to remove."""
    container = crio.run("sh", "-c", "exit 3")

    assert container.exit_code() == 3
    wait_for(lambda: not crio.left())
    assert sorted(path.name for path in container.bundle.iterdir()) == [
        "config.json", "conmon-pidfile", "ctl", "pidfile", "rootfs", "winsz",
    ]  # fmt: skip
    assert [path.name for path in container.log.parent.iterdir()] == ["0.log"]


@with_both()
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda n: n.name)
def test_ended_by_a_signal(crio: Crio, number: signal.Signals) -> None:
    """The exit file has 128 and the signal's number."""
    container = crio.run("sh", "-c", "trap 'kill -9 $$' QUIT; sleep 1000 & wait")
    container.change_spec(lambda spec: None)
    if (
        number == signal.SIGTERM
    ):  # the first process of a pid namespace hears only what it traps
        container = crio.run("sh", "-c", "trap 'exit 143' TERM; echo up; sleep 1000 & wait")
        wait_for(lambda: records(container.log))
    container.kill(number)

    assert container.exit_code() == 128 + number


@with_both()
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name
)
def test_the_monitor_passes_signals_on(crio: Crio, number: signal.Signals) -> None:
    """Who signals the monitor means the container."""
    script = f"trap 'exit 9' {number.name[3:]}; echo up; while :; do sleep 0.05; done"
    container = crio.run("sh", "-c", script)
    wait_for(lambda: records(container.log))
    os.kill(container.monitor_pid, number)

    assert container.exit_code() == 9


@with_both()
def test_a_runtime_that_fails(crio: Crio) -> None:
    """Its words come to CRI-O, and the container is gone."""
    with pytest.raises(RuntimeError, match=r"container create failed: .*no-such-program"):
        crio.create("/no-such-program")

    assert crio.runc("list", "-q").stdout == b""


def test_nothing_is_left_of_a_failure(crio: Crio) -> None:
    """Neither state nor link nor FIFO; the runtime has forgotten it."""
    with pytest.raises(RuntimeError):
        crio.create("/no-such-program")

    wait_for(lambda: not crio.left())
    bundle = crio.containers[0].bundle
    assert not {"attach", "ctl", "winsz"} & {path.name for path in bundle.iterdir()}


@with_both()
def test_a_pid_file_of_before_stays(crio: Crio) -> None:
    """What CRI-O has put there is CRI-O's, whatever comes of the creation."""
    words = ("-p", str(crio.home / "pids"))
    (crio.home / "pids").write_text("")
    with pytest.raises(RuntimeError):
        crio.create("/no-such-program", more=words)

    assert (crio.home / "pids").read_text() == ""


def test_the_systemd_driver_is_passed_on(crio: Crio) -> None:
    """``--systemd-cgroup`` comes before the runtime's own words, and those before the verb."""
    words = recorder(crio)
    crio.systemd = True
    container = crio.create("true", more=("--no-pivot",))
    told = words.read_text().split("\n")[:-1]

    assert told[:3] == ["--systemd-cgroup", f"--root={crio.runtime_root}", "create"]
    assert ["--bundle", str(container.bundle)] == told[3:5]
    assert told[-2:] == ["--no-pivot", container.id]
    os.kill(container.pid, signal.SIGKILL)
    assert container.exit_code() == 137


def test_restoration(crio: Crio) -> None:
    """``--restore`` is the runtime's restore, with the checkpoint and CRI-O's labels."""
    words = recorder(crio)
    label = "--lsm-profile=selinux:system_u:object_r:c:s0"
    more = ("--runtime-opt", label)
    container = crio.create("true", restore=str(crio.home / "checkpoint"), more=more)
    told = words.read_text().split("\n")[:-1]

    assert told[:2] == [f"--root={crio.runtime_root}", "restore"]
    assert "--detach" in told
    image = told.index("--image-path")
    assert told[image + 1] == str(crio.home / "checkpoint")
    assert told[told.index("--work-path") + 1] == str(container.bundle)
    assert told[-2:] == [label, container.id]
    os.kill(container.pid, signal.SIGKILL)
    assert container.exit_code() == 137


@pytest.mark.parametrize("names_us", [True, False], ids=["LISTEN_PID", "--replace-listen-pid"])
def test_passed_sockets(crio: Crio, names_us: bool) -> None:
    """Descriptors that a service manager has passed to us come to the container's program."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inode = os.fstat(listener.fileno()).st_ino
        container = crio.run(
            "sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; readlink /proc/$$/fd/3",
            passed=listener.fileno(),
            env=("LISTEN_FDS=1", "LISTEN_PID=" + ("$$" if names_us else "1")),
            more=() if names_us else ("--replace-listen-pid",),
        )  # fmt: skip

    assert container.exit_code() == 0
    assert records(container.log) == [
        (b"stdout", b"F", b"1 1"),
        (b"stdout", b"F", b"socket:[%d]" % inode),
    ]


def test_listen_pid_that_names_nobody(crio: Crio) -> None:
    """Is refused before anything is made."""
    with pytest.raises(RuntimeError, match="LISTEN_PID is 'x', and no pid"):
        crio.create("true", env=("LISTEN_PID=x",))

    assert not crio.left()


def test_out_of_memory(crio: Crio) -> None:
    """An empty file ``oom`` in the persistent directory and in the bundle, where CRI-O looks."""
    limit = {"memory": {"limit": 32 << 20, "swap": 32 << 20}}
    crio.change = lambda spec: spec["linux"].setdefault("resources", {}).update(limit)
    container = crio.run("sh", "-c", "exec tail /dev/zero")

    assert container.exit_code() == 137
    assert (container.persist / "oom").read_bytes() == b""
    assert (container.bundle / "oom").read_bytes() == b""


def test_own_words_in_syslog(crio: Crio) -> None:
    """``--syslog``: what the monitor has to say while the container runs is in syslog."""
    if os.path.lexists("/dev/log"):
        pytest.skip("this machine has a syslog of its own")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind("/dev/log")
        try:
            syslog.settimeout(60)
            container = crio.run("sleep", "1000")
            container.control("what\n")
            told = f"conmon {container.id[:20]} <warning>: ctl: not understood: b'what'"
            while told not in syslog.recv(4096).decode():
                pass  # whoever else on this machine has something to say
        finally:
            os.unlink("/dev/log")


def test_the_spec_is_left_alone(crio: Crio) -> None:
    """The bundle's config.json is CRI-O's, byte for byte."""
    container = crio.create("true")
    before = (container.bundle / "config.json").read_bytes()
    container.start()
    container.exit_code()

    assert (container.bundle / "config.json").read_bytes() == before
    assert json.loads(before)["process"]["args"] == ["true"]


@with_both()
def test_a_log_whose_directory_is_not_there(crio: Crio) -> None:
    """Is refused, and no directory made that nobody would ever remove."""
    missing = crio.logs / "gone"
    with pytest.raises(RuntimeError, match="Failed to open log file"):
        crio.create("true", more=("-l", str(missing / "0.log")))

    assert not missing.exists()
