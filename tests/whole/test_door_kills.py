"""The conmon door under kill -9: guests go on, and the end is told exactly as promised."""

import os
import shlex
import signal
import socket

import pytest
from harness import is_alive, wait_for

#: Counts how often it has run, and waits until it may end.
WAITING = 'echo begun >>"$2"; while ! [ -e "$2.go" ]; do sleep 0.05; done; echo ended >>"$2"'

COUNT = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); echo $i; done; read line; exit 5"
COUNTED = b"".join(b"%d\n" % i for i in range(1, 200_001))


def kill_server(box, before: int = 0) -> int:
    """Kill the server that comes after ``before``; return its pid."""
    pid = wait_for(lambda: (found := box.server()) != before and found)
    os.kill(pid, signal.SIGKILL)
    return pid


def test_guests_go_on_when_the_server_is_killed(manager) -> None:
    """What they read, and what they type; afterwards their end is told as ever."""
    box = manager.box("sh", "-c", "while read line; do echo got $line; done; exit 4")
    box.create("-i")
    guest = box.guest()
    box.start()
    before = 0
    for number in range(3):
        guest.type(b"%d\n" % number)
        assert guest.read_until(b"\n") == b"got %d\n" % number
        before = kill_server(box, before)
    guest.type(b"last\n")
    guest.end_input()
    assert guest.rest() == {2: b"got last\n", 3: b""}
    assert box.ended() == 4
    box.gone()


def test_no_byte_is_missing_when_servers_are_killed_again_and_again(manager) -> None:
    """A guest and the log get the whole output."""
    box = manager.box("sh", "-c", COUNT)
    box.create("-i")
    guest = box.guest()
    box.start()
    found, before = b"", 0
    for _ in range(4):
        found += guest.read(200_000)
        before = kill_server(box, before)
    found += guest.read(len(COUNTED) - len(found))
    assert found == COUNTED
    guest.end_input()
    assert box.ended() == 5
    lines = box.log.read_bytes().splitlines()
    assert [line.split(b" ", 3)[3] for line in lines] == COUNTED.splitlines()


def test_a_server_killed_during_the_exit_command_does_nothing_twice(manager) -> None:
    """Nor touches the container that the command, or anybody, has made anew."""
    box = manager.box("sh", "-c", "echo hello; exit 3")
    box.create(*box.exit_command(WAITING))
    server = wait_for(box.server)
    box.start()
    assert box.ended() == 3
    wait_for(box.told.exists)
    first = box.keeper()
    manager.runc("delete", box.id)
    (box.exits / box.id).unlink()
    manager.shop.patch(
        box.bundle,
        lambda spec: spec["process"].update(args=["sh", "-c", "echo again; sleep 9"]),
    )
    box.create()
    box.start()
    guest = box.guest()
    wait_for(lambda: b"again" in box.log.read_bytes())
    log = box.log.read_bytes()
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: not is_alive(first))
    assert box.told.read_text() == "begun\n"
    assert not (box.exits / box.id).exists()
    assert (box.bundle / "attach").exists()
    assert box.log.read_bytes() == log
    assert wait_for(box.server)
    manager.runc("kill", box.id, "KILL")
    guest.rest()
    assert box.ended() == 137
    (box.bundle / "told.go").touch()


def test_a_container_is_made_anew_by_its_exit_command(manager) -> None:
    """As Podman's restart policy has it: same id, same bundle, same log."""
    box = manager.box("sh", "-c", "echo hello; exit 3")
    call = shlex.join([manager.shop.argv("attachd-conmon")[0], *box.words()])
    script = (
        f'set -e; rm "$3/pidfile"; runc delete "$1"; ATTACHD_ROOT={manager.shop.root} '
        f'{call}; while ! [ -e "$3/pidfile" ]; do sleep 0.05; done; '
        'runc start "$1"; echo started >"$2"'
    )
    box.create(*box.exit_command(script))
    first = box.keeper()
    box.start()
    wait_for(lambda: box.told.exists() and box.told.read_text())
    assert box.keeper() != first
    wait_for(lambda: box.log.read_bytes().count(b"hello") == 2)
    box.gone()


@pytest.mark.parametrize("when", ["running", "ended"])
def test_a_killed_keeper_has_an_heir_whose_pid_is_told(manager, when) -> None:
    """In the manager's file, too; then the end is told as ever."""
    box = manager.box("sh", "-c", "read line; exit 6")
    box.create("-i", *box.exit_command('cat "$3/exits/$1" >"$2"'))
    box.start()
    guest = box.guest()
    wait_for(box.server)
    keeper = box.keeper()
    if when == "running":
        os.kill(keeper, signal.SIGKILL)
        wait_for(lambda: box.keeper() != keeper)
    guest.type(b"\n")
    if when == "ended":
        os.kill(keeper, signal.SIGKILL)
    guest.rest()
    assert box.ended() in ((6,) if when == "running" else (6, -1))
    wait_for(lambda: box.told.exists() and box.told.read_text())
    box.gone()


def test_an_upgrade_in_place_keeps_guests(manager) -> None:
    """And what the manager has reserved by a descriptor stays so."""
    box = manager.box("sh", "-c", "while read line; do echo got $line; done")
    reserved, other = socket.socketpair()
    box.create("-i", pass_fds=(other.fileno(),))
    other.close()
    box.start()
    guest = box.guest()
    guest.type(b"one\n")
    assert guest.read_until(b"\n") == b"got one\n"
    keeper = box.keeper()
    manager.shop.ctl("upgrade", box.id)
    assert box.keeper() == keeper
    guest.type(b"two\n")
    assert guest.read_until(b"\n") == b"got two\n"
    reserved.setblocking(False)
    with pytest.raises(BlockingIOError):
        reserved.recv(1)
    guest.end_input()
    assert guest.rest() == {2: b"", 3: b""}
    assert reserved.recv(1) == b""  # given back before anybody hears of the end
    reserved.close()
    assert box.ended() == 0


def test_without_any_process_of_ours_the_manager_can_go_on(manager) -> None:
    """Both killed: the container lives, and its id can be used again when it was deleted."""
    box = manager.box("sleep", "1000")
    box.create()
    box.start()
    wait_for(box.server)
    killed = [box.keeper(), box.server()]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in killed:
            os.kill(pid, number)
    wait_for(lambda: not any(map(is_alive, killed)))
    assert b"running" in manager.runc("state", box.id)
    manager.runc("delete", "--force", box.id)
    box.create()
    box.start()
    box.guest()
    manager.runc("kill", box.id, "KILL")
    assert box.ended() == 137


def test_a_client_that_reads_nothing_holds_the_end_up_for_seconds_only(manager) -> None:
    """Without a log the container waits for it, as long as it runs."""
    box = manager.box("sh", "-c", "head -c 10000000 /dev/zero; exit 2")
    words = box.words()
    words[words.index("-l") + 1] = "none"
    call = manager.call(words)
    call.go()
    assert call.line()["data"] > 0
    guest = box.guest()
    box.start()
    manager.runc("kill", box.id, "KILL")
    assert box.ended() in (137, 2)
    assert sum(map(len, guest.rest().values())) <= 10_000_000
