"""The conmon door, creations that fail: what is told, what runs, and that nothing is left."""

import json
import os
import socket

import pytest
from harness import wait_for
from managing import RUNC

ENVIRONMENT = 'env >"$2.new"; mv "$2.new" "$2"'


def left(box) -> list[str]:
    """Return what is in the bundle and the state root that was not there before."""
    known = {"config.json", "rootfs", "exits", "persist", "conmon.pid", "told"}
    root = box.manager.shop.root
    made = list(root.iterdir()) if root.exists() else []
    return [str(path) for path in (*box.bundle.iterdir(), *made) if path.name not in known]


def test_a_failure_is_told_in_the_runtimes_words_and_the_exit_command_runs(manager) -> None:
    """With the manager's whole environment, after the pipe has come to its end."""
    box = manager.box("/no/such/program")
    words = box.words(*box.exit_command(ENVIRONMENT))
    call = manager.call(words, SOMETHING="of the manager's")
    call.go()
    told = call.line()
    assert told["data"] == -1
    assert "/no/such/program" in told["message"]
    assert call.line() == {}
    wait_for(box.told.exists)
    assert "SOMETHING=of the manager's" in box.told.read_text().splitlines()
    wait_for(lambda: not left(box))


def test_after_a_failure_it_may_be_tried_again_at_once(manager) -> None:
    """While its exit command still runs: the log and what was passed on are free."""
    box = manager.box("/no/such/program")
    box.log.write_bytes(b"")
    held, other = socket.socketpair()
    held.set_inheritable(True)
    words = box.words(*box.exit_command('while ! [ -e "$2.go" ]; do sleep 0.05; done'))
    call = manager.call(words, pass_fds=(other.fileno(),))
    other.close()
    call.go()
    assert call.line()["data"] == -1
    held.settimeout(10)
    assert held.recv(1) == b""
    held.close()
    manager.shop.patch(box.bundle, lambda spec: spec["process"].update(args=["true"]))
    box.create()
    box.start()
    assert box.ended() == 0
    (box.bundle / "told.go").touch()


@pytest.mark.parametrize("size", [1000, 3000, 5000, 100_000])
@pytest.mark.parametrize("text", ["word ", "\\001", "\\303\\251", '"\\\\\\\\'])
def test_however_much_the_runtime_says_the_line_can_be_read(manager, size, text) -> None:
    """At most 4096 bytes of valid JSON, which begins with what was said."""
    box = manager.box("true")
    runtime = box.bundle / "runtime"
    say = f"i=0; while [ $i -lt {size} ]; do printf '{text}'; i=$((i + 5)); done >&2"
    runtime.write_text(f'#!/bin/sh\ncase "$*" in *create*) {say}; exit 1;; esac\nexit 1\n')
    runtime.chmod(0o755)
    words = box.words()
    words[words.index(RUNC)] = str(runtime)
    call = manager.call(words)
    call.go()
    told = call.line()
    assert told["data"] == -1
    assert told["message"]
    assert call.line() == {}


def test_a_silent_runtime_is_told_without_a_message(manager) -> None:
    """As conmon does; of an exec why there is no program."""
    box = manager.box("sleep", "1000")
    words = ["/bin/false" if word == RUNC else word for word in box.words()]
    call = manager.call(words)
    call.go()
    assert call.line() == {"data": -1}
    box.create()
    made = manager.executed(box, "true")
    words = ["/bin/false" if word == RUNC else word for word in made.words()]
    call = manager.call(words, attach=True)
    call.go()
    assert json.loads(call.attach.recv(100)) == {"data": 0}
    call.go()
    told = call.line()
    assert told["data"] == -1
    assert told["message"]


def test_no_place_for_the_socket_is_one_line_on_both_ways(manager) -> None:
    """The first process itself says so."""
    box = manager.box("true")
    words = [word for word in box.words() if word != "--full-attach"]
    call = manager.call([*words, "--socket-dir-path", str(box.bundle / "missing")])
    call.go()
    assert "missing" in call.line()["message"]
    code, stderr = call.left()
    assert code == 1
    assert stderr.startswith(b"[conmon:e]: ")
    assert stderr.count(b"\n") == 1
    assert not left(box)


def test_an_id_that_runs_is_not_taken_and_nothing_of_it_is_touched(manager) -> None:
    """The attach socket of the one who runs is still there."""
    box = manager.box("sleep", "1000")
    box.create()
    call = manager.call(box.words())
    call.go()
    assert "in use" in call.line()["message"]
    assert call.left()[0] == 1
    box.guest()


def test_what_another_has_put_into_the_bundle_is_not_followed(manager) -> None:
    """Links where socket and FIFOs belong are replaced, and lead nowhere."""
    box = manager.box("sleep", "1000")
    victim = box.bundle / "victim"
    victim.write_text("precious")
    for name in ("attach", "ctl", "winsz"):
        (box.bundle / name).symlink_to(victim)
    box.create()
    assert victim.read_text() == "precious"
    assert not any((box.bundle / name).is_symlink() for name in ("attach", "ctl", "winsz"))
    assert oct(os.stat(box.bundle / "attach").st_mode & 0o777) == "0o700"
    assert oct(os.stat(box.bundle / "ctl").st_mode & 0o777) == "0o640"


def test_what_is_passed_on_reaches_the_program_by_its_number(manager) -> None:
    """``--preserve-fds``, with a terminal too."""
    for terminal in (False, True):
        box = manager.box("sh", "-c", "read line <&3; echo $line", terminal=terminal)
        ours, theirs = os.pipe()
        os.write(theirs, b"hello\n")
        options = ["-t"] if terminal else []
        words = box.words(*options, "--runtime-opt", "--preserve-fds", "--runtime-opt", "1")
        call = manager.call(words, as_three=ours)
        os.close(ours)
        os.close(theirs)
        call.go()
        assert call.line()["data"] > 0
        guest = box.guest()
        box.start()
        assert guest.rest()[2].strip() == b"hello"


def test_a_managers_python_settings_are_not_ours(manager) -> None:
    """What would keep our own programs from starting is left out."""
    box = manager.box("sh", "-c", "echo hello")
    call = manager.call(box.words(), PYTHONSAFEPATH="1", PYTHONMALLOC="nonsense")
    call.go()
    told = call.line()
    if told:  # else our first process could not even begin
        guest = box.guest()
        box.start()
        assert guest.rest()[2] == b"hello\n"
