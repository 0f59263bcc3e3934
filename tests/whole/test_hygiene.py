"""Nothing of the launcher's leaks, and nothing of ours is open to others."""

import json
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, wait_for

from attachd.wire import messages as say

pytestmark = pytest.mark.runc

SECRET = "hunter2-do-not-tell"


def links(pid: int) -> dict[int, str]:
    """Return descriptor -> what it is, of a process."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
    return found


def environment(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def children_of_keeper(keeper: int) -> set[int]:
    return set(map(int, Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()))


def loose_launch(shop, program: str, *words: object) -> set[str]:
    """Run a program with a secret in its environment, a pipe and a secret file left open.

    Returns the links of both.
    """
    secret = shop.scratch / "secret-file"
    secret.write_text(SECRET)
    fds = (*os.pipe(), os.open(secret, os.O_RDWR))
    try:
        variables = os.environ | {"ATTACHD_ROOT": str(shop.root), "SECRET": SECRET}
        shop.call(program, *words, pass_fds=fds, env=variables)
        return {os.readlink(f"/proc/self/fd/{fd}") for fd in fds}
    finally:
        for fd in fds:
            os.close(fd)


def test_neither_descriptor_nor_secret_reaches_anybody(shop) -> None:
    """Not runc (any call of it), not the container or an exec of it, and not who serves them.

    Nor the exit command. Of the keeper, /proc shows no environment at all.
    """
    seen = shop.scratch / "seen"
    runtime = shop.scratch / "runtime"
    runtime.write_text(
        f'#!/bin/sh\n{{ echo "call $*"; env; ls -l /proc/self/fd; }} >>{seen}\nexec runc "$@"\n'
    )
    hook = shop.scratch / "hook"
    hook.write_text(
        f"#!/bin/sh\n{{ env; ls -l /proc/self/fd; }} >>{seen}\necho hooked >>{seen}\n"
    )
    for script in (runtime, hook):
        script.chmod(0o755)
    box = shop.name()
    words = ("run", "-i", "--rm", "--runtime", runtime, "--exit-command", hook, box, "--")
    program = ("sh", "-c", "env; ls -l /proc/self/fd; echo up; cat")
    leaks = loose_launch(shop, "attachd", *words, *program)
    log = shop.path(box, "log/container.log")
    # Not "ends with": ls complains on stderr, and two pipes have no common order.
    wait_for(lambda: log.exists() and b" stdout F up\n" in log.read_bytes())
    server, keeper, init = shop.server(box), shop.keeper(box), shop.state(box)["pid"]

    leaks |= loose_launch(shop, "attachctl", "exec", "-d", "--name", "other", box, *program[:-1],
        "env; ls -l /proc/self/fd; echo up; exec sleep 1000")  # fmt: skip
    other = json.loads(shop.ctl("inspect", box))["execs"][0]
    assert other["name"] == "other"
    (executed,) = children_of_keeper(keeper) - {server, init}

    assert environment(keeper).strip(b"\0") == b""
    for pid in (server, init, executed):
        assert environment(pid)
        assert SECRET.encode() not in environment(pid)
    for pid in (server, keeper, init, executed):
        assert not leaks & set(links(pid).values())
    with attach_blocking(box, root=str(shop.root), exec="other", since="start") as client:
        printed = log.read_bytes()
        while not printed.endswith(b"\nup\n"):
            event = client.receive(PATIENCE)
            printed += event.data if isinstance(event, say.Output) else b""
    assert SECRET.encode() not in printed
    assert not [leak for leak in leaks if leak.encode() in printed]
    shop.ctl("kill", box)
    wait_for(lambda: "hooked" in seen.read_text())
    told = seen.read_text()
    assert {"create", "start", "exec", "delete"} <= set(told.split())
    assert SECRET not in told
    assert not [leak for leak in leaks if leak in told]


@pytest.mark.parametrize("never", [False, True])
def test_the_container_has_its_own_pipes_and_nothing_else(shop, never) -> None:
    """0, 1 and 2, the other ends of 1 and 2 (and of a lasting 0), and none of the shim's."""
    box = shop.run("cat", options=("-i", "--stdin-eof", "never") if never else ("-i",))
    init = shop.state(box)["pid"]
    wait_for(lambda: b"cat" in Path(f"/proc/{init}/cmdline").read_bytes().split(b"\0"))
    found = links(init)

    assert len({found[0], found[1], found[2]}) == 3
    assert all(link.startswith("pipe:") for link in found.values())
    others = {3: found[1], 4: found[2]} | ({5: found[0]} if never else {})
    assert found == {0: found[0], 1: found[1], 2: found[2]} | others


def test_a_container_that_is_not_to_be_recovered_has_three_descriptors(shop) -> None:
    """--no-recover: its own stdio, and no end of a pipe besides."""
    box = shop.run("sh", "-c", "ls /proc/1/fd; :", options=("--no-recover",))
    shop.ended(box)

    assert [int(fd) for fd in shop.output(box).split() if int(fd) < 10] == [0, 1, 2]


def test_a_container_with_a_terminal_and_an_exec_have_three_descriptors(shop) -> None:
    """Nobody can take these up again."""
    box = shop.run("cat", options=("-itd",))
    init = shop.state(box)["pid"]
    wait_for(lambda: b"cat" in Path(f"/proc/{init}/cmdline").read_bytes().split(b"\0"))
    assert set(links(init)) == {0, 1, 2}

    rows = shop.ctl("exec", box, "ls", "-l", "/proc/self/fd").splitlines()
    pipes = [row.split()[-3] for row in rows if b"pipe:" in row]
    assert set(pipes) <= {b"0", b"1", b"2"}


def test_the_keeper_holds_its_own_descriptors_and_no_other(shop) -> None:
    """Pipes, memfds, sockets, log, two eventfds, the bell: each accounted for."""
    box = shop.name()
    loose_launch(shop, "attachd", "run", "-i", box, "--", "sleep", "1000")
    server = wait_for(lambda: shop.server(box))
    found = links(shop.keeper(box))
    inside = f"{shop.path(box)}"
    kinds = sorted(
        os.path.relpath(link, inside) if link.startswith(inside) else link.split(":")[0]
        for link in found.values()
    )

    assert kinds == sorted(
        [
            "/dev/null", "/dev/null", "shim.log",
            ".", "log/container.log",
            "/memfd", "/memfd", "/memfd", "/memfd",  # the header's twice: mmap keeps its own
            "anon_inode", "anon_inode",
            "anon_inode", "anon_inode",  # pidfds: of itself for its servers, of the init
            "socket",
            "socket", "socket",  # the parcels' two ends
            "pipe", "pipe", "pipe",  # the container's
            "pipe", "pipe",  # the bell
        ]
    ), found  # fmt: skip
    known = {link for link in found.values() if link.startswith("pipe:")}

    def shared() -> int:
        """Of the server, which is there before it is given its descriptors."""
        return len(known.intersection(links(server).values()))

    wait_for(lambda: shared() >= 3)
    assert shared() == 3


def test_the_containers_own_ends_are_in_nobody_elses_hands(shop) -> None:
    """A write end left open in the shim would keep the end of output from ever coming."""
    box = shop.run("sleep", "1000", options=("-i",))
    init = shop.state(box)["pid"]
    server = wait_for(lambda: shop.server(box))
    inodes = {os.stat(f"/proc/{init}/fd/{fd}").st_ino: fd for fd in (0, 1, 2)}

    for pid in (server, shop.keeper(box)):
        for fd in links(pid):
            try:
                number = inodes.get(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)
                flags = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().split()
            except OSError:
                continue
            if number is not None:
                mode = int(flags[flags.index("flags:") + 1], 8) & os.O_ACCMODE
                assert mode == (os.O_WRONLY if number == 0 else os.O_RDONLY)


@pytest.mark.parametrize("closed", ["0", "1", "2", "01", "012"])
def test_a_launcher_may_have_closed_its_standard_descriptors(shop, closed) -> None:
    """Whichever of 0, 1 and 2: the container's output is its own, and whole."""
    box = shop.name()
    shell = " ".join(f"{fd}>&-" for fd in closed)
    words = shop.argv(
        "attachd", "run", "--root", shop.root, box, "--", "sh", "-c",
        "echo out; echo err >&2; readlink /proc/self/fd/0",
    )  # fmt: skip
    subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *words], check=True, timeout=PATIENCE
    )
    record = shop.ended(box)

    assert record["exit_code"] == 0
    assert shop.output(box) == b"out\n/dev/null\n"
    assert record["bytes"]["stderr"] == 4


@pytest.mark.parametrize("closed", ["0", "1", "2"])
def test_an_attached_launcher_may_have_closed_them_too(shop, closed) -> None:
    """attachd run -a: what can be shown is shown, and the code is the container's."""
    box = shop.name()
    words = shop.argv(
        "attachd", "run", "-a", "--root", shop.root, box, "--", "sh", "-c",
        "echo out; echo err >&2; exit 3",
    )  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}>&-', "sh", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )

    assert done.returncode == 3
    assert done.stdout == (b"" if closed == "1" else b"out\n")
    assert done.stderr == (b"" if closed == "2" else b"err\n")


@pytest.mark.parametrize("ignored", ["PIPE", "INT", "HUP TERM", "USR1 TTOU QUIT", "CHLD"])
def test_signals_that_the_launcher_ignores_are_not_ignored_inside(shop, ignored) -> None:
    """`nohup attachd run`, a manager that ignores SIGCHLD: the container begins afresh."""
    box = shop.name()
    done = shop.call(
        "attachd", "run", box, "--", "grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status",
        preexec_fn=lambda: [
            signal.signal(signal.Signals[f"SIG{name}"], signal.SIG_IGN)
            for name in ignored.split()
        ],
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, b"")
    assert shop.ended(box)["exit_code"] == 0
    fields = shop.output(box).split()
    masks = [
        int(field, 16) & 0x7FFFFFFF for field in fields[1::2]
    ]  # 32 is the C library's own
    assert fields[::2] == [b"SigBlk:", b"SigIgn:"]
    assert masks == [0, 0]


def test_the_exit_command_begins_with_no_signal_ignored(shop) -> None:
    """What the shim ignores for itself is not handed on."""
    seen = shop.scratch / "seen"
    hook = shop.scratch / "hook"
    hook.write_text(
        f"#!/bin/sh\ngrep SigIgn /proc/self/status >{seen}.new; mv {seen}.new {seen}\n"
    )
    hook.chmod(0o755)
    shop.run("true", options=("--exit-command", hook))
    wait_for(seen.exists)

    assert int(seen.read_text().split()[1], 16) & 0x7FFFFFFF == 0


@pytest.mark.parametrize("closed", ["0", "1", "2", "012"])
@pytest.mark.parametrize("program", ["attach", "attachctl"])
def test_the_clients_may_have_their_standard_descriptors_closed(shop, program, closed) -> None:
    """Nothing is shown there, no socket is taken for it, and the code is as always."""
    box = shop.run("sh", "-c", "echo out; echo err >&2; exit 3", options=("--linger", "30"))
    shop.ended(box)
    words = {"attach": ("--from", "start", box), "attachctl": ("wait", box)}[program]
    shell = " ".join(f"{fd}>&-" for fd in closed)
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'exec "$@" {shell}',
            "sh",
            *shop.argv(program, "--root", shop.root, *words),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=15,
    )
    out, err = {"attach": (b"out\n", b"err\n"), "attachctl": (b"3\n", b"")}[program]

    assert done.returncode == (3 if program == "attach" else 0)
    assert done.stdout == (b"" if "1" in closed else out)
    assert done.stderr == (b"" if "2" in closed else err)


def test_what_we_make_is_ours_alone_whatever_the_umask(shop) -> None:
    """Directory 0700, socket, state and log without a bit for others."""
    box = shop.name()
    words = shop.argv("attachd", "run", "--root", shop.root, box, "--", "sleep", "1000")
    command = ["sh", "-c", 'umask 0; exec "$@"', "sh", *words]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)

    def mode(name: str) -> int:
        return stat.S_IMODE(shop.path(box, name).stat().st_mode)

    assert [mode(""), mode("attach.sock"), mode("state.json")] == [0o700, 0o600, 0o600]
    assert mode("log/container.log") & 0o077 == 0
    assert stat.S_IMODE(shop.root.stat().st_mode) == 0o700
    for name in ("container.pid", "keeper.pid", "shim.log"):
        assert mode(name) & 0o022 == 0


def test_the_shim_keeps_nothing_of_the_launchers_place(shop) -> None:
    """A session and a directory of its own: no terminal to hang up, no mount kept busy."""
    box = shop.name()
    shop.call("attachd", "run", box, "--", "sleep", "1000", cwd=shop.scratch)
    server = wait_for(lambda: shop.server(box))

    for pid in (shop.keeper(box), server):
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.getsid(pid) != os.getsid(0)
    assert os.getsid(server) == os.getsid(shop.keeper(box))


def test_a_sigterm_to_the_keeper_reaches_the_container(shop) -> None:
    """As when a system goes down; the end is exact, and in the record."""
    script = "trap 'echo asked; exit 5' TERM; echo up; while :; do sleep 0.05; done"
    box = shop.run("sh", "-c", script)
    log = shop.path(box, "log/container.log")
    wait_for(lambda: log.exists() and b"up" in log.read_bytes())
    os.kill(shop.keeper(box), 15)

    assert shop.ended(box)["exit_code"] == 5
    assert shop.output(box) == b"up\nasked\n"


def test_the_keeper_maps_nothing_but_the_standard_library(shop) -> None:
    """msgpack's extension module, which all of the server needs, is not in its memory."""
    box = shop.run("sleep", "1000")
    maps = Path(f"/proc/{shop.keeper(box)}/maps").read_text()

    assert "msgpack" not in maps
    assert "python" in maps
