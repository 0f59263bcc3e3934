"""Traps that somebody else has laid, and names that are none: nothing is led astray."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attachd_clients import attach_blocking, places
from attachd_clients.conversation import Ended
from attachd_clients.places import NoSuchContainer, Place
from harness import PATIENCE, Shop, wait_for

from attachd.errors import UsageError

pytestmark = pytest.mark.runc

MALLORY = 54321


@pytest.fixture
def shared(passable: Path) -> Iterator[Shop]:
    """A state root as /tmp is: root's, sticky, and everybody may put things into it."""
    root = passable / "root"
    root.mkdir()
    root.chmod(0o1777)
    made = Shop(root, passable)
    yield made
    made.close()


def give(path: Path) -> None:
    """Make a thing, and what is in it, Mallory's."""
    for each in (path, *(path.iterdir() if path.is_dir() and not path.is_symlink() else ())):
        os.chown(each, MALLORY, MALLORY, follow_symlinks=False)


# State roots


@pytest.mark.parametrize("trap", ["link", "state.json.new", "attach.sock", "exec"])
def test_what_is_laid_out_under_an_id_is_not_used(shared, trap) -> None:
    """A link to another directory, or one of Mallory's with links in it: refused, untouched."""
    box = shared.name()
    precious = shared.scratch / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    if trap == "link":
        shared.path(box).symlink_to(precious)
    else:
        shared.path(box).mkdir(0o777)
    if trap != "link":
        target = precious if trap == "exec" else precious / "file"
        shared.path(box, trap).symlink_to(target)
    give(Path(str(shared.path(box)).rstrip("/")))
    before = sorted(os.listdir(shared.path(box)))
    done = shared.call("attachd", "run", box, "--", "true", check=False)

    assert done.returncode == 125
    assert b"is not a directory of ours" in done.stderr
    assert sorted(os.listdir(shared.path(box))) == before
    assert os.listdir(precious) == ["file"]
    assert (precious / "file").read_text() == "mine"


def test_a_root_that_is_shared_and_ours_works(shared) -> None:
    """Sticky and root's, like /tmp: what we make there nobody else can exchange."""
    box = shared.run("echo", "hello")
    shared.ended(box)

    assert shared.output(box) == b"hello\n"
    assert stat.S_IMODE(shared.path(box).stat().st_mode) == 0o700
    assert stat.S_IMODE(shared.root.stat().st_mode) == 0o1777


@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_root_of_somebody_else_is_refused(shared, mode) -> None:
    """Its owner could exchange our directory below it, sticky or not; nothing is made."""
    give(shared.root)
    shared.root.chmod(mode)
    done = shared.call("attachd", "run", shared.name(), "--", "true", check=False)

    assert done.returncode == 125
    assert f"belongs to user {MALLORY}, who could exchange it" in done.stderr.decode()
    assert os.listdir(shared.root) == []


def test_our_place_in_tmp_is_not_taken_from_others(monkeypatch) -> None:
    """Without XDG_RUNTIME_DIR the root is in /tmp, where somebody may have been before us.

    Clients, too: they would type into Mallory's socket.
    """
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("ATTACHD_ROOT", raising=False)
    monkeypatch.setattr(places.os, "geteuid", lambda: MALLORY - 1)
    trap = Path(f"/tmp/attachd-{MALLORY - 1}")
    (trap / "attachd" / "web").mkdir(parents=True)
    try:
        give(trap)
        for look in (lambda: Place.find("web"), Place.all):
            with pytest.raises(UsageError, match="was made by somebody else"):
                look()
        os.chown(trap, MALLORY - 1, -1)
        assert Place.find("web").root == f"{trap}/attachd"
    finally:
        (trap / "attachd" / "web").rmdir()
        (trap / "attachd").rmdir()
        trap.rmdir()


@pytest.mark.parametrize("link", [False, True], ids=["directory", "link"])
def test_rm_runs_and_removes_nothing_for_somebody_else(shared, link) -> None:
    """Their state.json could name any program as the runtime, and any file as its log."""
    box = shared.name()
    touched, precious = shared.scratch / "touched", shared.scratch / "precious"
    precious.write_text("mine")
    lair = shared.scratch / "lair" if link else Path(str(shared.path(box)).rstrip("/"))
    lair.mkdir()
    (lair / "exit.json").write_text("{}")
    state = f'{{"runtime": ["/usr/bin/touch", "{touched}"], "made": ["{precious}"]}}'
    (lair / "state.json").write_text(state)
    give(lair)
    if link:
        shared.path(box).symlink_to(lair)
        os.chown(Path(str(shared.path(box)).rstrip("/")), MALLORY, -1, follow_symlinks=False)
    done = shared.call("attachctl", "rm", "--force", box, check=False)

    assert done.returncode == 125
    assert f"{box} belongs to user {MALLORY}" in done.stderr.decode()
    assert not touched.exists()
    assert precious.read_text() == "mine"
    assert sorted(os.listdir(lair)) == ["exit.json", "state.json"]
    shared.made.remove(box)


# Logs


def test_a_log_goes_through_our_links_and_not_through_others(shop, passable) -> None:
    """In a directory as /tmp is; with fs.protected_symlinks, and without."""
    passable.chmod(0o1777)
    (passable / "real").mkdir()
    (passable / "link").symlink_to("real")
    box = shop.run("echo", "hello", options=("--log", passable / "link" / "log"))
    shop.ended(box)
    assert (passable / "real" / "log").read_bytes().endswith(b" F hello\n")

    give(passable / "link")
    options = ("--log", passable / "link" / "other")
    refused = shop.name()
    done = shop.call("attachd", "run", *options, refused, "--", "true", check=False)
    assert done.returncode == 125
    assert f"was put there by user {MALLORY}" in done.stderr.decode()
    assert not (passable / "real" / "other").exists()
    assert not shop.path(refused).exists()


# Names

NAMES = ["..", ".", "../box", "a/b", "/etc", "box/", "box/../box", "a\nb", "x" * 300, "", "é"]


@pytest.fixture
def elsewhere(shop: Shop) -> Path:
    """What a name could lead to: beside the root, and looking like a container."""
    shop.root.mkdir()
    path = shop.scratch / "box"
    path.mkdir()
    (path / "state.json").write_text('{"deleted": true}')
    return path


def test_no_program_takes_a_name_that_is_none(shop, elsewhere) -> None:
    """One line that says so, exit code 125, and nothing was made, read or removed."""
    shop.path("box").mkdir()
    for name in ("..", "../box", "a\nb", "x" * 300):
        calls = [
            shop.popen(program, *words)
            for program, *words in (
                ("attachd", "create", name, "--", "true"),
                ("attachd", "start", name),
                ("attach", "--no-stdin", name),
                ("attachctl", "rm", "--force", name),
            )
        ]
        for call in calls:
            _, told = call.communicate(timeout=PATIENCE)

            assert call.returncode == 125, call.args
            assert told.count(b"\n") == 1
            assert b"Traceback" not in told
    assert os.listdir(shop.root) == ["box"]
    assert os.listdir(elsewhere) == ["state.json"]


@pytest.mark.parametrize("name", [*NAMES, "a\0b", "\ud800"])
def test_the_library_finds_no_container_of_such_a_name(shop, elsewhere, name) -> None:
    """Nor an exec: NoSuchContainer, which is a UsageError, and nothing else."""
    shop.path("box").mkdir()
    with pytest.raises(NoSuchContainer):
        with attach_blocking(name, root=str(shop.root)):
            pass
    with pytest.raises(NoSuchContainer):
        Place.find("box", str(shop.root)).execution(name)


def test_no_exec_has_such_a_name(shop) -> None:
    """The server refuses it, and makes no directory for it."""
    box = shop.run("sleep", "1000")
    for name in (*NAMES, "-x", ".x", "a\0b"):
        if not name:
            continue  # then the server chooses one
        with pytest.raises(Ended, match="cannot be an exec's name"):
            with attach_blocking(box, root=str(shop.root), exec=name, spec={"argv": ["true"]}):
                pass

    assert not shop.path(box, "exec").exists()


# What the launcher's umask is


@pytest.mark.parametrize("mask", [0, 0o777])
def test_whatever_the_launchers_umask_modes_are_the_same(shop, mask) -> None:
    """All that is made, the files that others read, what the container sees, and its own umask."""
    box, bundle = shop.name(), shop.scratch / "bundle"
    root = shop.scratch / "new" / "root"
    files = {name: shop.scratch / name for name in ("pid", "keeper", "exit")}
    words = shop.argv(
        "attachd", "run", "--root", root, "--log-max-size", "1m", "--pid-file", files["pid"],
        "--keeper-pid-file", files["keeper"], "--exit-file", files["exit"], box, "--",
        "sh", "-c", "umask; stat -c %a / /etc /etc/passwd /tmp",
    )  # fmt: skip
    spec = shop.argv("attachd", "spec", bundle, "--", "true")
    for command in (words, spec):
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, umask=mask, timeout=60)
    opened = Shop(root, shop.scratch)
    opened.made.append(box)
    try:
        opened.ended(box)
        wait_for(files["exit"].exists)

        def mode(path: Path) -> int:
            return stat.S_IMODE(path.stat().st_mode)

        assert opened.output(box).split() == [b"0022", b"755", b"755", b"644", b"1777"]
        assert [mode(root.parent), mode(root), mode(root / box)] == [0o755, 0o700, 0o700]
        assert {mode(path) for path in files.values()} == {0o644}
        inside = {e.name: e for e in os.scandir(root / box) if e.name != "attach.sock"}
        assert {name for name, e in inside.items() if e.stat().st_mode & 0o077} == set()
        assert mode(root / box / "log" / "container.log") == 0o600
        assert mode(bundle / "rootfs" / "etc" / "passwd") == 0o644
        assert mode(bundle / "config.json") == 0o644
    finally:
        opened.close()


def test_directories_that_are_made_for_a_log_are_the_makers_alone(shop) -> None:
    """The default place, and one that --log names; also with no umask at all."""
    box, log = shop.name(), shop.scratch / "one" / "two" / "log"
    words = shop.argv("attachd", "run", "--root", shop.root, "--log", log, box, "--", "true")
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL, umask=0, timeout=60)
    shop.ended(box)
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (log.parent.parent, log.parent, log)
    ]

    assert modes == [0o700, 0o700, 0o600]


def test_the_files_of_an_exec_are_the_makers_alone(shop) -> None:
    """While it runs and when it has ended; its variables, which may be secrets, are gone."""
    box = shop.run("sleep", "1000")
    shop.ctl("exec", "-d", "-t", "--name", "one", "-e", "SECRET=hunter2", box, "sleep", "1000")

    def loose() -> set[str]:
        path = shop.path(box, "exec")
        found = [path, path / "one", *(path / "one").iterdir()]
        assert (path / "one" / "exec.json").exists()
        top = {str(p.name) for p in found[:2] if p.stat().st_mode & 0o077}
        # What the runtime writes has its own mode, behind a door that is closed.
        own = {p.name for p in found[2:] if p.stat().st_mode & 0o077}
        return top | (own - {"container.pid", "runtime.log"})

    assert loose() == set()
    told = b"".join(
        p.read_bytes() for p in shop.path(box, "exec/one").iterdir() if p.is_file()
    )
    assert b"hunter2" not in told
    shop.ctl("kill", "--exec", "one", box)
    shop.ctl("wait", "--exec", "one", box)
    assert loose() == set()
