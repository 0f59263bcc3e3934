"""Whose hands a path is in: owners, open directories, links, and what they lead to."""

import os
from pathlib import Path

import pytest

from attachd.errors import UsageError
from attachd.keeper.trust import MAX_LINKS, check_log, check_root, steps

MALLORY = 54321

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def sticky(tmp_path: Path) -> Path:
    """A directory as /tmp is."""
    path = tmp_path / "sticky"
    path.mkdir()
    path.chmod(0o1777)
    return path


def give(path: Path) -> Path:
    """Make it Mallory's."""
    os.chown(path, MALLORY, MALLORY, follow_symlinks=False)
    return path


def names(path: Path | str) -> list[str]:
    return [step.path for step in steps(str(path))]


# The way


def test_the_way_leads_through_links_and_ends_where_nothing_is(tmp_path: Path) -> None:
    """Each directory, each link, what that leads to; relative, absolute, and upwards."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "up").symlink_to("../c/./d")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d").symlink_to(tmp_path / "a" / "b")
    here = str(tmp_path)

    found = names(tmp_path / "a" / "up" / "missing" / "x")
    assert found[0] == "/"
    inside = [path.removeprefix(here) for path in found if path.startswith(f"{here}/")]
    assert list(dict.fromkeys(inside)) == ["/a", "/a/up", "/c", "/c/d", "/a/b"]
    assert names("/") == ["/"]


def test_links_in_a_circle_come_to_an_end(tmp_path: Path) -> None:
    """As in the kernel; who opens it will tell (ELOOP)."""
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")

    assert len(names(tmp_path / "one")) < MAX_LINKS + 20


# State roots


def test_our_own_directories_and_a_sticky_one_are_trusted(sticky: Path) -> None:
    """Nobody can exchange what is ours in /tmp, and /tmp is root's."""
    (sticky / "root").mkdir()
    (sticky / "link").symlink_to(sticky / "root")

    check_root(str(sticky / "root"))
    check_root(str(sticky / "link"))
    check_root("/")


def test_members_of_a_group_may_be_trusted(tmp_path: Path) -> None:
    """Whoever has given them the right to write has meant it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root").chmod(0o770)

    check_root(str(tmp_path / "root"))


@needs_root
def test_a_root_that_another_user_owns_is_refused(sticky: Path) -> None:
    """The owner of a sticky directory, too, may exchange what is in it (unlink(2), EPERM)."""
    root = sticky / "root"
    root.mkdir()
    root.chmod(0o1777)
    give(root)

    with pytest.raises(
        UsageError, match=f"root belongs to user {MALLORY}, who could exchange"
    ):
        check_root(str(root))


@needs_root
@pytest.mark.parametrize("kind", ["directory", "link", "link within a link"])
def test_so_is_one_that_another_user_is_on_the_way_to(sticky: Path, kind: str) -> None:
    """An ancestor, or a link that leads to a place which is ours, and tomorrow elsewhere."""
    ours = sticky / "ours"
    ours.mkdir()
    theirs = sticky / "theirs"
    if kind == "directory":
        theirs.mkdir()
    else:
        theirs.symlink_to(ours)
    give(theirs)
    (ours / "root").mkdir()
    (sticky / "link").symlink_to("theirs")
    way = "link" if kind == "link within a link" else "theirs"

    with pytest.raises(UsageError, match=f"theirs belongs to user {MALLORY}"):
        check_root(str(sticky / way / "root"))


@pytest.mark.parametrize("where", ["root", "root/below"])
def test_so_is_one_where_everybody_may_exchange_what_is_there(
    tmp_path: Path, where: str
) -> None:
    """Writable for all without the sticky bit: itself, or a directory above it."""
    (tmp_path / "root" / "below").mkdir(parents=True)
    (tmp_path / "root").chmod(0o777)

    with pytest.raises(UsageError, match=r"everybody may exchange what is in .*/root$"):
        check_root(str(tmp_path / where))


# Logs


@needs_root
@pytest.mark.parametrize("kind", ["link", "dangling", "file", "directory", "pipe"])
def test_what_somebody_has_put_where_everybody_may_is_no_log(sticky: Path, kind: str) -> None:
    """A trap: it would be written to where they want, or read by them."""
    path = trap = sticky / "trap"
    (sticky.parent / "precious").write_text("mine")
    if kind == "link":
        trap.symlink_to(sticky.parent / "precious")
    elif kind == "dangling":
        trap.symlink_to(sticky.parent / "missing")
    elif kind == "file":
        trap.touch()
    elif kind == "pipe":
        os.mkfifo(trap)
    else:
        trap.mkdir()
        path = trap / "log"
    give(trap)

    with pytest.raises(UsageError, match=f"trap was put there by user {MALLORY}"):
        check_log(str(path))


@needs_root
def test_logs_may_lead_through_our_own_links_and_anybodys_directories(
    sticky: Path, tmp_path: Path
) -> None:
    """Where nobody but its owner can put a thing, it is the caller's choice to write there."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "logs").mkdir()
    (home / "link").symlink_to("logs")
    for path in (home / "logs", home / "link", home):
        give(path)
    (sticky / "ours").symlink_to(home)

    check_log(str(home / "link" / "log"))
    check_log(str(sticky / "ours" / "logs" / "log"))
    check_log(str(sticky / "new" / "log"))
