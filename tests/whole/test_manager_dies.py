"""Requirement 1: the manager dies, the container does not notice."""

import json
import os
import signal
import subprocess
import sys

import pytest
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc

MANAGER = "import subprocess, time; subprocess.run({!r}); time.sleep(1000)"

#: Tells in a file when SIGPIPE comes: its stdout is gone then.
SCRIPT = "trap 'echo hit >/tmp/seen/sigpipe' PIPE; while :; do echo $(date); sleep 0.05; done"


def seen_bundle(shop):
    """Return a bundle that runs SCRIPT with our directory at /tmp/seen, and the directory."""
    bundle = shop.bundle("sh", "-c", SCRIPT)
    seen = shop.scratch / "seen"
    seen.mkdir()
    mount = {
        "destination": "/tmp/seen",
        "type": "bind",
        "source": str(seen),
        "options": ["bind"],
    }
    shop.patch(bundle, lambda spec: spec["mounts"].append(mount))
    return bundle, seen


def test_a_container_outlives_the_sigkill_of_its_launcher(shop) -> None:
    """Whoever launched it dies with SIGKILL; output goes on, SIGPIPE never comes."""
    bundle, seen = seen_bundle(shop)
    box = shop.name()
    words = shop.argv("attachd", "run", "--root", shop.root, "--bundle", bundle, box)
    manager = subprocess.Popen(
        [
            sys.executable,
            "-c",
            MANAGER.format(words),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    wait_for(
        lambda: shop.path(box, "log/container.log").exists() and shop.log(box).count(b"\n") > 1
    )
    os.killpg(manager.pid, signal.SIGKILL)
    manager.communicate(timeout=PATIENCE)
    before = shop.log(box).count(b"\n")
    wait_for(lambda: shop.log(box).count(b"\n") > before + 5)

    assert not (seen / "sigpipe").exists()
    assert not shop.path(box, "exit.json").exists()


def test_the_same_container_dies_under_plain_runc(shop) -> None:
    """The contrast: with a pipe whose reader is gone, the same script gets SIGPIPE."""
    bundle, seen = seen_bundle(shop)
    box = shop.name()
    read, write = os.pipe()
    subprocess.run(
        ["runc", "run", "--detach", "--bundle", bundle, box],
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )
    os.close(write)
    try:
        assert os.read(read, 10)
        os.close(read)
        wait_for((seen / "sigpipe").exists)
    finally:
        subprocess.run(["runc", "delete", "--force", box], timeout=PATIENCE, check=False)


def shared_pids(shop, *command: str):
    """Return a bundle in the host's pid namespace: there SIGPIPE's default is death."""
    bundle = shop.bundle(*command)
    shop.patch(bundle, lambda spec: spec["linux"]["namespaces"].remove({"type": "pid"}))
    return bundle


#: A builtin writes: it is the shell itself that SIGPIPE meets.
CLOCK = "while :; do echo $(date); sleep 0.05; done"


def test_under_plain_runc_a_clock_without_a_trap_is_dead(shop) -> None:
    """The contrast, again: its reader goes, and the container with it."""
    bundle = shared_pids(shop, "sh", "-c", CLOCK)
    box = shop.name()
    read, write = os.pipe()
    words = ["runc", "run", "--detach", "--bundle", bundle, box]
    subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=True,
    )
    os.close(write)

    def status() -> str:
        told = subprocess.run(["runc", "state", box], capture_output=True, timeout=PATIENCE)
        return json.loads(told.stdout)["status"]

    try:
        assert os.read(read, 10)
        assert status() == "running"
        os.close(read)
        wait_for(lambda: status() == "stopped")
    finally:
        subprocess.run(["runc", "delete", "--force", box], timeout=PATIENCE, check=False)


def test_the_death_of_an_attached_launcher_is_not_noticed(shop) -> None:
    """`attachd run -a` is killed with SIGKILL while it shows output: the clock goes on."""
    box = shop.name()
    bundle = shared_pids(shop, "sh", "-c", CLOCK)
    launcher = shop.popen("attachd", "run", "-a", "--bundle", bundle, box)
    assert launcher.stdout.readline()
    launcher.kill()
    launcher.communicate(timeout=PATIENCE)
    before = shop.log(box).count(b"\n")
    wait_for(lambda: shop.log(box).count(b"\n") > before + 5)

    assert not shop.path(box, "exit.json").exists()


def test_a_launcher_that_dies_during_creation_leaves_a_whole_container(shop) -> None:
    """Killed while the runtime works: the keeper finishes what was begun."""
    box = shop.name()
    begun, go = shop.scratch / "begun", shop.scratch / "go"
    slow = shop.scratch / "slow-runc"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *" create "*) touch {begun};'
        f' until [ -e {go} ]; do sleep 0.02; done;; esac\nexec runc "$@"\n'
    )
    slow.chmod(0o755)
    launcher = shop.popen("attachd", "run", "--runtime", slow, box, "--", "sh", "-c", CLOCK)
    wait_for(begun.exists)
    launcher.kill()
    launcher.communicate(timeout=PATIENCE)
    go.touch()
    log = shop.path(box, "log/container.log")
    wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") > 2)

    assert shop.state(box)["phase"] == "running"
