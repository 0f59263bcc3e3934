"""Exec: another program in the container is a session like the container's own."""

import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

import msgpack
import pytest
import trio
from attachd_clients import attach, attach_blocking
from attachd_clients.conversation import Ended
from harness import PATIENCE, wait_for

from attachd.errors import Refused
from attachd.wire import messages as say

pytestmark = pytest.mark.runc

#: What runs while others are executed beside it.
IDLE = ("sleep", "1000")

HELLO = {"type": "hello", "version": 1, "features": ["exec"], "credit": 1 << 20}


class Raw:
    """A client that says what it likes."""

    def __init__(self, shop, box: str, tail: bytes = b"", **hello: object) -> None:
        self.peer = socket.socket(socket.AF_UNIX)
        self.peer.settimeout(PATIENCE)
        self.peer.connect(os.fspath(shop.path(box, "attach.sock")))
        self.say(HELLO | hello, tail)

    def say(self, message: dict, tail: bytes = b"") -> None:
        """Send a message, its last byte replaced by ``tail``, where there is one."""
        body = msgpack.packb(message)
        body = body[:-1] + tail if tail else body
        self.peer.sendall(struct.pack(">I", len(body)) + body)

    def hear(self) -> dict:
        """Return the next message; a server that goes away is a failure."""
        return msgpack.unpackb(self._take(struct.unpack(">I", self._take(4))[0]))

    def _take(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self.peer.recv(size - len(found))
            assert data, "the server has closed the connection without a word"
            found += data
        return found


@pytest.fixture
def raw(shop):
    """Makes clients that say what they like, and hangs up for them."""
    made: list[Raw] = []

    def connect(box: str, tail: bytes = b"", **hello: object) -> Raw:
        made.append(Raw(shop, box, tail, **hello))
        return made[-1]

    yield connect
    for client in made:
        client.peer.close()


def execute(shop, box: str, *words: object, **options: object):
    """Call ``attachctl exec`` as a user does; whatever comes of it is returned."""
    return shop.call("attachctl", "exec", *words[:-1], box, *words[-1], check=False, **options)


def status(shop, box: str) -> dict:
    return json.loads(shop.ctl("stats", box))


def execs(shop, box: str) -> dict[str, dict]:
    return {told["name"]: told for told in status(shop, box)["execs"]}


def record(shop, box: str, name: str) -> dict:
    """Return the exit record of an exec, as soon as it is there."""
    path = shop.path(box, f"exec/{name}/exit.json")
    wait_for(path.exists)
    return json.loads(path.read_text())


def leave_running(shop, box: str, name: str, *command: str, options: tuple = ()) -> None:
    assert execute(shop, box, "-d", "--name", name, *options, command).stdout == b"%s\n" % (
        name.encode()
    )


# What a program is given, and how its end is told


def test_the_exit_code_is_the_programs_or_says_why_there_is_none(shop) -> None:
    """Its own, 128+n, 127 when it is not there, 126 when it cannot be executed; one line."""
    box = shop.run(*IDLE)
    for command, code in (
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 127"), 127),
        (("sh", "-c", "kill -9 $$"), 137),
        (("nothing-of-this-name",), 127),
        (("/no/such/program",), 127),
        (("./nope",), 127),
        (("/etc/passwd",), 126),
        (("/etc",), 126),
    ):
        done = execute(shop, box, command)
        assert done.returncode == code, command
        assert done.stderr.count(b"\n") == (code in (126, 127) and command[0] != "sh"), command
    assert execs(shop, box) == {}
    ran = sorted(os.listdir(shop.path(box, "exec")))
    assert ran == ["1", "2", "3"]  # what has not run has no record


def test_it_gets_what_was_asked_for(shop) -> None:
    """Both streams apart, variables, directory, user by number, and the container's limits."""
    box = shop.run(*IDLE)
    script = 'echo "$A|$B|$C|$PATH"; pwd; id -u; id -g; echo err >&2'
    words = ("-e", "A=x=y z\n", "-e", "B=", "-e", "C=1", "-e", "C=2", "-e", "UNSET_HERE")
    done = execute(shop, box, *words, "-w", "/tmp", "-u", "12:34", ("sh", "-c", script))
    out = done.stdout.decode().split("\n")

    assert out[:2] == ["x=y z", "||2|" + out[1].split("|")[-1]]
    assert out[2:] == ["/tmp", "12", "34", ""]
    assert done.stderr == b"err\n"
    inside = execute(shop, box, ("sh", "-c", "ulimit -n; ulimit -Hn")).stdout
    pid = shop.state(box)["pid"]
    limits = Path(f"/proc/{pid}/limits").read_text().split("Max open files")[1].split()
    assert inside.decode().split() == limits[:2]


def test_what_cannot_be_is_told_in_one_line(shop) -> None:
    """125, one line that says why, and nothing is left of it."""
    box = shop.run(*IDLE)
    for *words, told in (
        ("-e", "=x", box, "true", b"NAME=VALUE"),
        ("-w", "tmp", box, "true", b"must begin with /"),
        ("-w", "/not/there", box, "true", b"/not/there"),
        ("-u", "nobody-here", box, "true", b"no user 'nobody-here'"),
        ("--name", "../x", box, "true", b"cannot be an exec's name"),
        ("--stdin-eof", "sometimes", box, "true", b"stdin_eof"),
        ("--detach-keys", "ctrl-x", box, "true", b"--detach-keys"),
        (box, os.fsdecode(b"\xff"), b"UTF-8"),
        (box, "true", *["z" * 99] * 12_000, b""),
        (box, b"nothing to execute"),
    ):
        done = shop.call("attachctl", "exec", *words, check=False)
        assert done.returncode == 125, words[:3]
        assert done.stderr.count(b"\n") == 1, words[:3]
        assert told in done.stderr

    assert status(shop, box)["restarts"] == 0
    assert not list(shop.path(box).glob("exec/*"))


@pytest.mark.parametrize("phase", ["created", "stopped"])
def test_a_container_that_does_not_run_executes_nothing(shop, phase) -> None:
    """It says which phase it is in, or that it has ended."""
    if phase == "created":
        box = shop.create(*IDLE)
    else:
        box = shop.run("true", options=("--linger", "20"))
        shop.ended(box)
    done = execute(shop, box, ("true",))

    assert done.returncode == 125
    assert phase.encode() in done.stderr
    assert done.stderr.count(b"\n") == 1


# Users


def test_a_user_is_who_the_container_says(shop) -> None:
    """Names, groups and links as a program inside would see them."""
    bundle = shop.bundle(*IDLE)
    etc = bundle / "rootfs/etc"
    for name in ("passwd", "group"):
        (etc / name).unlink(missing_ok=True)
    (bundle / "rootfs/users").write_text("joe:x:1001:1002:Joe\x85root:x:0:0::/:/bin/sh\n")
    (etc / "passwd").symlink_to("/users")
    (etc / "group").write_text("first:x:1002:\nsecond:x:1003:amy,joe\nthird:x:1004:amy\n")
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)

    def who(user: str) -> list[bytes]:
        script = "id -u; id -g; grep Groups /proc/self/status"
        return execute(shop, box, "-u", user, ("sh", "-c", script)).stdout.split()

    assert who("joe") == [b"1001", b"1002", b"Groups:", b"1003"]
    assert who("1001") == who("joe")
    assert who("joe:third") == [b"1001", b"1004", b"Groups:"]
    assert execute(shop, box, "-u", "root", ("id",)).returncode == 125


def test_no_user_file_leads_out_of_the_container_or_harms_the_server(shop) -> None:
    """Links to outside, devices, pipes, directories, /proc: it has no such user, that is all."""
    bundle = shop.bundle(*IDLE)
    passwd = bundle / "rootfs/etc/passwd"
    outside = shop.scratch / "outside"
    outside.write_text("joe:x:0:0::/:/bin/sh\n")
    box = shop.name()
    shop.call("attachd", "run", "--bundle", bundle, box)
    up = "../" * 30
    for target in (outside, f"{up}{outside}", f"/proc/1/root{outside}", "/proc/1/mem",
                   "/proc/kmsg", "/proc/self/fd/0", "passwd", "pipe", "directory",
                   "device"):  # fmt: skip
        passwd.unlink(missing_ok=True)
        if target == "pipe":
            os.mkfifo(passwd)
        elif target == "directory":
            passwd.mkdir()
        elif target == "device":
            os.mknod(passwd, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
        else:
            passwd.symlink_to(target)
        done = execute(shop, box, "-u", "joe", ("id",))
        assert done.returncode == 125, target
        assert b"no user 'joe'" in done.stderr, target
        if target == "directory":
            passwd.rmdir()

    assert status(shop, box)["restarts"] == 0


# Bytes


def test_stdin_goes_through_it_whole(shop) -> None:
    """20 MB in, the same 20 MB out, by checksum."""
    box, data = shop.run(*IDLE), os.urandom(20_000_000)
    done = execute(shop, box, "-i", ("cat",), input=data)

    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_no_stdin_of_ours_is_the_end_of_its(shop) -> None:
    """/dev/null and a closed descriptor are empty input: whoever wants a filter waits for it."""
    box = shop.run(*IDLE)
    assert execute(shop, box, "-i", ("cat",)).returncode == 0
    closed = execute(shop, box, "-i", ("cat",), stdin=None, preexec_fn=lambda: os.close(0))
    assert closed.returncode == 0
    assert execute(shop, box, "-it", ("cat",)).returncode == 0


def test_a_slow_reader_loses_nothing(shop) -> None:
    """Whoever had it made is waited for, also when the program has long ended."""
    box = shop.run(*IDLE, options=("--drain-timeout", "0"))
    client = shop.popen(
        "attachctl", "exec", "--name", "big", box, "sh", "-c",
        "head -c 3000000 /dev/zero; echo $$ >/ended; exit 3",
    )  # fmt: skip
    first = client.stdout.read(1)
    path = Path(shop.state(box)["bundle"]) / "rootfs/ended"
    wait_for(lambda: execs(shop, box).get("big", {}).get("phase") == "stopped" or None)
    assert path.exists()
    rest, words = client.communicate(timeout=PATIENCE)

    assert len(first) + len(rest) == 3_000_000
    assert (client.returncode, words) == (3, b"")


def test_many_megabytes_wait_for_their_reader(shop) -> None:
    """50 MB through a pipe of 64 KiB, and a ring of 1 MiB."""
    box = shop.run(*IDLE)
    command = ("sh", "-c", "yes 'all of it' | head -c 50000000")
    client = shop.popen("attachctl", "exec", "--name", "big", box, *command)
    wait_for(lambda: execs(shop, box).get("big", {}).get("newest", 0) > 1_000_000)
    digest, size = hashlib.sha256(), 0
    while data := client.stdout.read(1 << 20):
        digest.update(data)
        size += len(data)

    expected = (b"all of it\n" * 5_000_000)[:50_000_000]
    assert (size, digest.digest()) == (50_000_000, hashlib.sha256(expected).digest())
    assert client.wait(PATIENCE) == 0
    assert client.communicate()[1] == b""


def test_a_grandchild_that_keeps_the_pipe_open_is_not_waited_for(shop) -> None:
    """The exit code comes after the drain timeout, and the record says so."""
    box = shop.run(*IDLE, options=("--drain-timeout", "0.2"))
    done = execute(shop, box, "--name", "x", ("sh", "-c", "sleep 1000 & echo out; exit 3"))

    assert (done.returncode, done.stdout) == (3, b"out\n")
    assert record(shop, box, "x")["drained"] is False


# Leaving and coming back


@pytest.mark.parametrize("typed", [b"", b"line\n"])
def test_a_plain_exec_with_stdin_ends_with_its_client(shop, typed) -> None:
    """kill -9 of ``exec -i`` ends the cat, whether or not anything was ever typed."""
    box = shop.run(*IDLE)
    client = shop.popen(
        "attachctl", "exec", "-i", "--name", "cat", box, "sh", "-c", "echo up; cat",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert client.stdout.readline() == b"up\n"
    client.stdin.write(typed)
    assert not typed or client.stdout.readline() == typed
    client.kill()
    client.communicate(timeout=PATIENCE)

    assert record(shop, box, "cat")["exit_code"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_of_a_plain_exec_reach_the_program(shop, number) -> None:
    """ctrl-C is the program's; its own code comes back."""
    box = shop.run(*IDLE)
    script = f"trap 'exit {50 + number}' INT TERM HUP; echo up; while :; do sleep 0.05; done"
    client = shop.popen("attachctl", "exec", box, "sh", "-c", script)
    assert client.stdout.readline() == b"up\n"
    client.send_signal(number)

    assert client.wait(PATIENCE) == 50 + number
    client.communicate()


def test_ctrl_c_before_the_welcome_ends_without_a_traceback(shop) -> None:
    """130, as a shell tells it: there was nobody yet to pass it on to."""
    box = shop.run(*IDLE)
    server = wait_for(lambda: shop.server(box))
    os.kill(server, signal.SIGSTOP)
    try:
        client = shop.popen("attachctl", "exec", box, *IDLE)
        wait_for(lambda: descriptors(client.pid).get("socket", 0) > 2)  # two are Trio's own
        client.send_signal(signal.SIGINT)
        _, words = client.communicate(timeout=PATIENCE)
    finally:
        os.kill(server, signal.SIGCONT)

    assert (client.returncode, words) == (130, b"")


def test_left_running_it_is_found_by_its_name(shop) -> None:
    """attach --exec sees its output from the start, inspect lists it, its code comes back."""
    box = shop.run(*IDLE)
    leave_running(
        shop, box, "job", "sh", "-c", "echo one; read x; echo $x; exit 9", options=("-i",)
    )
    told = json.loads(shop.ctl("inspect", box))
    assert told["shim"]["execs"][0]["phase"] == "running"
    assert told["shim"]["execs"][0]["argv"][0] == "sh"
    again = execute(shop, box, "--name", "job", ("true",))
    assert (again.returncode, again.stderr.count(b"\n")) == (125, 1)
    viewer = shop.popen("attach", "--exec", "job", "--from", "start", "--read-only", box)
    wait_for(lambda: execs(shop, box)["job"]["clients"])
    done = shop.call(
        "attach", "--exec", "job", "--from", "start", box, input=b"two\n", check=False
    )

    assert (done.returncode, done.stdout) == (9, b"one\ntwo\n")
    assert viewer.communicate(timeout=PATIENCE)[0] == b"one\ntwo\n"
    ended = json.loads(shop.ctl("inspect", box))["execs"][0]
    assert (ended["name"], ended["exit"]["exit_code"]) == ("job", 9)
    assert ended["exit"]["offset"] == 8
    assert shop.call("attach", "--exec", "job", box, check=False).returncode == 9
    assert execute(shop, box, "--name", "job", ("sh", "-c", "exit 2")).returncode == 2


def test_a_number_that_is_somebodys_name_is_nobody_elses(shop) -> None:
    """Names that the server chooses are free ones."""
    box = shop.run(*IDLE)
    leave_running(shop, box, "1", *IDLE)
    assert execute(shop, box, "-d", IDLE).stdout == b"2\n"
    assert execute(shop, box, "-d", IDLE).stdout == b"3\n"
    assert {name: told["phase"] for name, told in execs(shop, box).items()} == dict.fromkeys(
        "123", "running"
    )


def test_many_look_on_and_all_see_the_same(shop) -> None:
    """Six viewers from the start, each with every byte and the code."""
    box = shop.run(*IDLE)
    leave_running(shop, box, "job", "sh", "-c", "read x; seq 20000; exit 4", options=("-i",))
    words = ("attach", "--exec", "job", "--from", "start", "--read-only", box)
    viewers = [shop.popen(*words) for _ in range(6)]
    wait_for(lambda: len(execs(shop, box)["job"]["clients"]) == 6)
    with attach_blocking(box, root=str(shop.root), exec="job", since="none") as client:
        client.send(b"go\n", PATIENCE)
    seen = {viewer.communicate(timeout=PATIENCE)[0] for viewer in viewers}

    assert seen == {b"".join(b"%d\n" % i for i in range(1, 20001))}
    assert {viewer.returncode for viewer in viewers} == {4}


# The container's end


@pytest.mark.parametrize("own", [True, False], ids=["own pid namespace", "the host's"])
def test_it_outlives_nothing_when_the_container_ends(shop, own) -> None:
    """It is killed with it; its client is told, its record is on the disk, no process is left."""
    bundle = shop.bundle(*IDLE)
    if not own:
        shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    box = shop.name()
    options = ("--drain-timeout", "0.3", "--bundle", bundle)
    shop.call("attachd", "run", *options, box)
    client = shop.popen(
        "attachctl", "exec", "--name", "x", box, "sh", "-c", "echo $$; sleep 999"
    )
    client.stdout.readline()
    pid = execs(shop, box)["x"]["pid"]
    shop.ctl("kill", box)
    shop.ended(box)

    assert client.wait(PATIENCE) == 137
    assert client.communicate()[1] == b""
    assert record(shop, box, "x")["signal"] == signal.SIGKILL
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_slow_reader_does_not_outlive_the_container(shop) -> None:
    """The exec is waiting for its client when the container ends: its record comes all the same."""
    box = shop.run(*IDLE, options=("--drain-timeout", "0.1", "--linger", "0"))
    client = shop.popen(
        "attachctl", "exec", "--name", "x", box, "head", "-c", "9m", "/dev/zero"
    )
    wait_for(lambda: execs(shop, box).get("x", {}).get("newest", 0) > 1 << 20)
    shop.ctl("kill", box)
    shop.ended(box)

    assert record(shop, box, "x")["signal"] == signal.SIGKILL
    client.kill()
    client.communicate()


# Who misbehaves


NESTED = b"\x91" * 1000 + b"\xc0"

HOSTILE: list[object] = [
    {"argv": []},
    {"argv": "true"},
    {"argv": [1]},
    {"argv": ["a\0b"]},
    {"argv": [["true"]]},
    {"argv": ["true"], "stdin": 1},
    {"argv": ["true"], "columns": True},
    {"argv": ["true"], "columns": -1, "terminal": True},
    {"argv": ["true"], "columns": 80},
    {"argv": ["true"], "columns": 80, "rows": 1 << 40, "terminal": True},
    {"argv": ["true"], "ring_size": 1},
    {"argv": ["true"], "ring_size": 1 << 60},
    {"argv": ["true"], "allow_block": 1.5},
    {"argv": ["true"], "cwd": "/\0"},
    {"argv": ["true"], "user": None},
    {"argv": ["true"], "privileged": True},
    {"argv": ["true"], "terminal": True, "stdin_eof": "once"},
    {"x" * 100_000: 1},
    {"": 1},
]


def test_hostile_specs_are_refused_and_harm_nobody(shop, raw) -> None:
    """Wrong types, NULs, deep nesting: bad_request, the same server, nothing was made."""
    box = shop.run(*IDLE)
    for spec in HOSTILE:
        assert raw(box, spec=spec).hear()["code"] == "bad_request", spec
    for name in ("..", ".", "a/b", "a\0b", "-x", ".x", "n" * 300, "é", "a b"):
        said = raw(box, spec={"argv": ["true"]}, exec=name).hear()
        assert said["code"] == "bad_request", name
        assert raw(box, exec=name).hear()["code"] == "no_exec"
    for hello, code in (
        ({"since": "offset:7"}, "bad_offset"),
        ({"since": "bogus"}, "bad_request"),
        ({"role": "viewer"}, "denied"),
        ({"flow": "block"}, "denied"),
        ({"since": "screen"}, "no_terminal"),
    ):
        assert raw(box, spec={"argv": ["true"]}, **hello).hear()["code"] == code, hello
    assert raw(box, NESTED, spec={"argv": None}).hear()["type"] == "goodbye"

    assert status(shop, box)["restarts"] == 0
    wait_for(lambda: all(told["phase"] == "stopped" for told in execs(shop, box).values()))


def test_a_client_that_is_refused_after_all_holds_nothing_up(shop, raw) -> None:
    """The exec was made, its creator wants what is not there: it runs to its end all the same."""
    box = shop.run(*IDLE)
    spec = {"argv": ["head", "-c", "3000000", "/dev/zero"]}
    assert raw(box, exec="x", spec=spec, since="offset:9").hear()["code"] == "bad_offset"

    assert record(shop, box, "x")["offset"] == 3_000_000


def test_a_creator_that_goes_before_the_welcome_holds_nothing_up(shop, raw) -> None:
    """It runs to its end, once."""
    box = shop.run(*IDLE)
    spec = {"argv": ["sh", "-c", "echo ran >>/ran; head -c 3000000 /dev/zero; exit 6"]}
    raw(box, exec="x", spec=spec).peer.close()

    assert record(shop, box, "x")["exit_code"] == 6
    assert (Path(shop.state(box)["bundle"]) / "rootfs/ran").read_text() == "ran\n"


async def test_of_two_with_the_same_name_one_is_made(shop) -> None:
    """At the very same time; the other is told exec_exists."""
    box, codes, told = shop.run(*IDLE), [], trio.Semaphore(0)

    async def make() -> None:
        try:
            spec = {"argv": list(IDLE)}
            async with attach(box, root=str(shop.root), exec="one", spec=spec):
                codes.append("made")
                told.release()
                await trio.sleep_forever()
        except Ended as error:
            codes.append(error.code)
            told.release()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(make)
            nursery.start_soon(make)
            for _ in range(2):
                await told.acquire()
            nursery.cancel_scope.cancel()

    assert sorted(codes) == ["exec_exists", "made"]


def test_the_same_key_and_spec_is_the_same_exec(shop, raw) -> None:
    """Whoever asks again, not having heard, is welcomed to what it has had made."""
    box, key = shop.run(*IDLE), b"k" * 16
    spec = {"argv": ["sh", "-c", "echo ran >>/ran; sleep 1000"]}
    said = [raw(box, key=key, spec=spec).hear()["exec"] for _ in range(3)]

    assert said == ["1", "1", "1"]
    ran = Path(shop.state(box)["bundle"]) / "rootfs/ran"
    wait_for(lambda: ran.exists() and ran.stat().st_size)  # it is there before its text is
    assert ran.read_text() == "ran\n"


def test_an_ended_exec_is_kept_for_whoever_still_reads_it(shop, raw) -> None:
    """One client releases it while another has taken nothing yet: that one gets every byte."""
    box = shop.run(*IDLE)
    leave_running(shop, box, "x", "head", "-c", "500000", "/dev/zero")
    slow = raw(box, exec="x", since="start", credit=0)
    assert slow.hear()["type"] == "welcome"
    record(shop, box, "x")
    with attach_blocking(box, root=str(shop.root), exec="x", since="none") as client:
        list(client)
    with attach_blocking(box, root=str(shop.root), exec="x", since="none") as client:
        assert client.receive(PATIENCE).record["exit_code"] == 0
    slow.say({"type": "credit", "bytes": 1 << 20})
    size = 0
    while (said := slow.hear())["type"] != "exit":
        size += len(said.get("data", b""))

    assert size == 500_000
    slow.peer.close()
    wait_for(lambda: execs(shop, box) == {})
    assert status(shop, box)["restarts"] == 0


def test_long_command_lines_do_not_fill_the_report(shop) -> None:
    """A report must fit into one message, however much was asked for."""
    box = shop.run(*IDLE)
    for name in ("a", "b", "c"):
        leave_running(shop, box, name, "sh", "-c", "sleep 1000", *["x" * 99] * 4500)

    assert set(execs(shop, box)) == {"a", "b", "c"}


def test_an_exec_knows_no_logs_and_no_start(shop) -> None:
    """What is the container's alone is refused, and the talk goes on."""
    box = shop.run(*IDLE)
    leave_running(shop, box, "x", "cat", options=("-i",))
    with attach_blocking(box, root=str(shop.root), exec="x", since="none") as client:
        for ask in (client.start, client.rotate, client.reopen, client.release):
            with pytest.raises(Refused):
                ask(PATIENCE)
        client.signal(signal.SIGTERM, PATIENCE)
        exits = [event.record for event in client if isinstance(event, say.Exit)]

    assert exits[0]["signal"] == signal.SIGTERM
    assert exits[0]["exec"] == "x"


# What it costs


def descriptors(pid: int) -> dict[str, int]:
    """Return how many descriptors a process has of each kind."""
    found: dict[str, int] = {}
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kind = os.readlink(fd).split(":")[0]
        except OSError:
            continue
        found[kind] = found.get(kind, 0) + 1
    return found


@pytest.mark.parametrize("options", [("-i",), ("-it",)], ids=["pipes", "terminal"])
def test_nothing_is_left_of_those_that_have_ended(shop, options) -> None:
    """Descriptors of server and keeper are what they were, after some at once and in a row."""
    box = shop.run(*IDLE)
    execute(shop, box, *options, ("true",))
    keeper, server = shop.keeper(box), wait_for(lambda: shop.server(box))

    def counts() -> list[dict[str, int]]:
        return [descriptors(pid) for pid in (keeper, server)]

    wait_for(lambda: execs(shop, box) == {})
    before = counts()
    words = ("attachctl", "exec", *options, box, "sh", "-c", "exit 5")
    together = [shop.popen(*words) for _ in range(5)]
    assert {client.wait(PATIENCE) for client in together} == {5}
    for client in together:
        client.communicate()
    for _ in range(2):
        assert execute(shop, box, *options, ("sh", "-c", "exit 5")).returncode == 5

    assert shop.server(box) == server
    wait_for(lambda: execs(shop, box) == {} and counts() == before, 10)


def test_no_daemon_is_added_for_an_exec(shop) -> None:
    """The keeper's children are the server, the container, and the program itself."""
    box = shop.run(*IDLE)
    leave_running(shop, box, "x", *IDLE)
    keeper = shop.keeper(box)
    pids = {shop.server(box), shop.state(box)["pid"], execs(shop, box)["x"]["pid"]}

    def children() -> set[int]:
        found = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        return set(map(int, found))

    wait_for(lambda: children() == pids)


def test_a_program_ends_when_whoever_reads_it_has_left(shop) -> None:
    """As in a pipeline of the shell: our own SIGPIPE is passed on."""
    box = shop.run(*IDLE)
    client = shop.popen("attachctl", "exec", "--name", "y", box, "yes")
    assert client.stdout.read(1) == b"y"
    client.stdout.close()

    assert client.wait(PATIENCE) == 141
    record = shop.path(box, "exec/y/exit.json")
    wait_for(record.exists)
    assert json.loads(record.read_text())["signal"] == signal.SIGPIPE
    client.stderr.close()
