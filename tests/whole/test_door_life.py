"""The conmon door: a container's whole life, as its manager sees it."""

import json
import os
import socket
import tempfile
import termios

from harness import wait_for
from managing import Packet

#: Told by the exit command: both exit files, and whether clients could still attach.
SCRIPT = """
    cat "$3/exits/$1" "$3/persist/exit" >"$2.new"
    if [ -e "$3/attach" ]; then echo " attach" >>"$2.new"; fi
    mv "$2.new" "$2"
"""


def test_a_container_lives_and_ends_as_its_manager_expects(manager) -> None:
    """Output to clients and log; then the end to clients, both exit files, the exit command."""
    box = manager.box("sh", "-c", "read line; echo $line; echo bad >&2; exit 7")
    pid = box.create("-i", *box.exit_command(SCRIPT))
    assert box.pid_file.read_text() == str(pid)
    assert os.path.exists(f"/proc/{box.keeper()}")
    guest = box.guest()
    box.start()
    guest.type(b"hello\n")
    assert guest.rest() == {2: b"hello\n", 3: b"bad\n"}
    assert box.ended() == 7
    wait_for(box.told.exists)
    assert box.told.read_text() == "77"
    lines = [line.split(b" ", 2)[1:] for line in box.log.read_bytes().splitlines()]
    assert sorted(lines) == [[b"stderr", b"F bad"], [b"stdout", b"F hello"]]
    box.gone()


def test_a_terminal_has_the_size_that_was_wanted_before_its_program_began(manager) -> None:
    """And one stream, with carriage returns."""
    box = manager.box("sh", "-c", "stty size; stty -a | grep -o .onlcr", terminal=True)
    pid = box.create("-t")
    guest = box.guest()
    box.ctl(b"1 33 77\n")
    with open(f"/proc/{pid}/fd/0", "rb") as terminal:  # the runtime has it open by now
        wait_for(lambda: termios.tcgetwinsize(terminal) == (33, 77))
    box.start()
    assert guest.rest() == {2: b"33 77\r\n onlcr\r\n", 3: b""}
    assert box.ended() == 0


def test_passthrough_gives_the_program_the_callers_own_stdio(manager) -> None:
    """Nobody can attach, and the end is told as ever."""
    box = manager.box("sh", "-c", "echo hello; exit 3")
    words = box.words(*box.exit_command(SCRIPT))
    words[words.index("-l") + 1] = "passthrough"
    call = manager.call(words)
    call.go()
    assert call.line()["data"] > 0
    assert call.process.wait() == 0
    assert not (box.bundle / "ctl").exists()
    box.start()
    assert call.process.stdout.read() == b"hello\n"
    assert box.ended() == 3
    wait_for(box.told.exists)
    box.gone()


def test_an_exec_waits_for_its_client_and_tells_its_code(manager) -> None:
    """The attach pipe, a second go, the pid, the output, the code: in this order."""
    box = manager.box("sleep", "1000")
    box.create()
    box.start()
    made = manager.executed(box, "sh", "-c", "cat; echo bad >&2; exit 9")
    call, guest = made.begin("-i", *box.exit_command('cat "$3"/*/exit/"$1" >"$2"'))
    assert call.left()[0] == 0
    call.go()
    assert call.line()["data"] == int(made.pid_file.read_text())
    guest.type(b"hello\n")
    guest.end_input()
    assert guest.rest() == {2: b"hello\n", 3: b"bad\n"}
    assert call.line() == {"data": 9}
    assert call.line() == {}
    assert (made.exits / box.id).read_text() == "9"
    wait_for(lambda: box.told.exists() and box.told.read_text() == "9")
    wait_for(lambda: not list((manager.shop.root / ".execs").iterdir()))


def test_an_execs_terminal_has_the_size_that_was_wanted_before_the_second_go(manager) -> None:
    """The program sees it from its first look on."""
    box = manager.box("sleep", "1000")
    box.create()
    box.start()
    made = manager.executed(box, "stty", "size", terminal=True)
    call, guest = made.begin("-i")
    fd = os.open(made.directory / "ctl", os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, b"1 40 100\n")
    os.close(fd)
    call.go()
    assert guest.rest() == {2: b"40 100\r\n", 3: b""}
    assert [call.line()["data"] > 0, call.line(), call.line()] == [True, {"data": 0}, {}]


def test_a_command_of_old_is_waited_for(manager) -> None:
    """No place to attach to: one line of JSON, the log, and the code as the process's own."""
    box = manager.box("sleep", "1000")
    box.create()
    box.start()
    made = manager.executed(box, "sh", "-c", "echo hello; exit 7")
    made.pid_file.touch()
    call = manager.call(made.legacy_words())
    call.go()
    assert call.line() == {"exit_code": 7}
    assert call.line() == {}
    assert call.left() == (7, b"")
    assert (made.directory / "log").read_bytes().endswith(b" stdout F hello\n")


def test_a_timeout_kills_and_says_so(manager) -> None:
    """Nobody's number in the exit file; an exec of old tells it in words, too."""
    box = manager.box("sleep", "1000")
    box.create("--timeout", "3")
    made = manager.executed(box, "sleep", "1000")
    box.start()
    call = manager.call(made.legacy_words("-T", "1"))
    call.go()
    assert call.line() == {"exit_code": -1, "message": "command timed out"}
    assert call.left() == (255, b"")
    assert box.ended() == -1


def test_a_link_leads_to_the_socket_where_its_path_would_be_long(manager) -> None:
    """Without --full-attach; it goes with the container."""
    box = manager.box("sh", "-c", "read line; echo $line")
    words = [word for word in box.words("-i") if word != "--full-attach"]
    with tempfile.TemporaryDirectory(prefix="at-", dir="/tmp") as links:
        call = manager.call([*words, "--socket-dir-path", links])
        call.go()
        assert call.line()["data"] > 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.connect(f"{links}/{box.id}/attach")
            box.start()
            client.send(b"hello\n")
            assert client.recv(8193) == b"\2hello\n"
            assert client.recv(8193) == b""
        assert box.ended() == 0
        assert os.listdir(links) == []


def test_what_is_printed_before_anybody_serves_is_for_who_was_attached(manager) -> None:
    """Packets are of at most 8192 bytes, and nothing is missing."""
    box = manager.box("sh", "-c", "head -c 100000 /dev/zero")
    box.create()
    guest = box.guest()
    box.start()
    found = []
    while (packet := guest.packet()) is not None:
        found.append(packet)
    assert sum(len(packet.data) for packet in found) == 100_000
    assert max(len(packet.data) for packet in found) <= 8192
    assert {packet.stream for packet in found} == {Packet(2, b"").stream}


def test_what_the_program_says_to_systemd_reaches_the_hosts_socket(manager) -> None:
    """By a socket in the bundle, which is there before the program is, and gone afterwards."""
    box = manager.box("sleep", "1000")
    (box.bundle / "notify").mkdir()
    path = box.bundle / "notify" / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(str(box.bundle / "host"))
        host.settimeout(60)
        box.create("--sdnotify-socket", str(box.bundle / "host"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
            program.sendto(b"READY=1\nMAINPID=1", str(path))
        assert host.recv(100) == b"READY=1"
    manager.runc("kill", box.id, "KILL")
    assert box.ended() == 137
    assert not path.exists()


def test_our_own_programs_work_on_it_and_leave_it_to_its_manager(manager) -> None:
    """Attach, look, signal; but neither remove, nor start, nor recover."""
    shop = manager.shop
    script = "trap 'echo got it' USR1; echo hello; while sleep 0.1; do :; done"
    box = manager.box("sh", "-c", script)
    box.create()
    box.start()
    wait_for(lambda: box.log.exists() and b"hello" in box.log.read_bytes())
    guest = box.guest()
    wait_for(lambda: json.loads(shop.ctl("stats", box.id))["door"]["connected"] == 1)
    assert b"hello" in shop.ctl("logs", f"name-{box.id}")
    assert box.id.encode() in shop.ctl("ls")
    assert shop.ctl("exec", box.id, "--", "echo", "inside") == b"inside\n"
    shop.ctl("kill", "--signal", "USR1", box.id)
    assert guest.read_until(b"\n") == b"got it\n"
    for words in (["rm", box.id], ["rm", "--force", box.id], ["start", box.id]):
        done = shop.call("attachctl", *words, check=False)
        assert done.returncode != 0, words
        assert done.stderr.count(b"\n") == 1
    done = shop.call("attachd", "recover", box.id, check=False)
    assert done.returncode != 0
    manager.runc("kill", box.id, "KILL")
    guest.rest()
    assert box.ended() == 137
