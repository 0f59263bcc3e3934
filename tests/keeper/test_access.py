"""The opening for others: who gets to the socket, and who to nothing else."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from others import Somebody

from attachd.errors import UsageError
from attachd.keeper import access, descriptors, files
from attachd.keeper.access import open_to
from attachd.keeper.claim import claim
from attachd.state.rights import Policy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")

ALICE, BOB, TEAM, GUESTS = 54321, 54322, 54400, 54401


class Box:
    """A state directory with a socket that listens."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / "box"
        self.directory = claim(str(root), "box")
        self.listener = descriptors.make_listener(self.directory, files.SOCKET)
        (self.path / "state.json").write_text("{}")

    def connect(self) -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(self.path / files.SOCKET))

    def close(self) -> None:
        os.close(self.listener)
        os.close(self.directory)


@pytest.fixture
def box(passable: Path) -> Iterator[Box]:
    """In a root that others could get to."""
    made = Box(passable / "root")
    yield made
    made.close()


def modes(box: Box) -> list[int]:
    paths = (box.root, box.path, box.path / files.SOCKET)
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


def may(somebody: Somebody, act: Callable[[], object]) -> bool:
    return somebody.attempts(act) == ""


def test_without_a_policy_nothing_is_opened(box: Box) -> None:
    """0700 and 0600 as ever, and no list."""
    open_to(Policy(), str(box.root), box.directory)

    assert modes(box) == [0o700, 0o700, 0o600]
    assert os.listxattr(box.path) == []
    assert not may(Somebody(ALICE), box.connect)


@pytest.mark.parametrize(
    ("policy", "somebody", "let_in"),
    [
        (Policy(uids=(ALICE,)), Somebody(ALICE), True),
        (Policy(uids=(ALICE,)), Somebody(BOB), False),
        (Policy(uids=(ALICE,)), Somebody(BOB, ALICE), False),
        (Policy(uids=(BOB, ALICE, BOB)), Somebody(ALICE), True),
        (Policy(gids=(TEAM,)), Somebody(BOB, TEAM), True),
        (Policy(gids=(TEAM,)), Somebody(BOB, BOB, (7, TEAM)), True),
        (Policy(gids=(TEAM,)), Somebody(TEAM, BOB), False),
        (Policy(viewer_gids=(GUESTS,)), Somebody(BOB, BOB, (GUESTS,)), True),
        (Policy(gids=(TEAM,), viewer_gids=(GUESTS, TEAM)), Somebody(BOB, BOB, (TEAM,)), True),
        (Policy(gids=(0,)), Somebody(BOB, BOB, (TEAM,)), False),
    ],
)  # fmt: skip
def test_exactly_those_who_are_named_get_to_the_socket(box, policy, somebody, let_in) -> None:
    """By user or by any of their groups; a number of one kind is none of the other."""
    open_to(policy, str(box.root), box.directory)

    assert may(somebody, box.connect) == let_in


def test_whoever_is_let_in_gets_to_nothing_else(box: Box) -> None:
    """They can list neither directory nor root, read no file, and make or remove nothing."""
    open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)
    files.write_json(str(box.path / "exit.json"), {})
    alice = Somebody(ALICE)

    assert may(alice, box.connect)
    for act in (
        lambda: os.listdir(box.path),
        lambda: os.listdir(box.root),
        lambda: (box.path / "exit.json").read_bytes(),
        lambda: (box.path / "new").touch(),
        lambda: (box.path / files.SOCKET).unlink(),
        lambda: (box.root / "new").mkdir(),
        lambda: (box.path / files.SOCKET).chmod(0o777),
    ):
        assert not may(alice, act)


def test_the_root_lets_everybody_pass_and_nobody_list(box: Box) -> None:
    """What else it allowed stays."""
    box.root.chmod(0o750)
    open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)

    assert stat.S_IMODE(box.root.stat().st_mode) == 0o751


def test_a_root_of_somebody_else_is_theirs_to_open(box: Box) -> None:
    """It is left as it is."""
    os.chown(box.root, BOB, BOB)
    open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)

    assert stat.S_IMODE(box.root.stat().st_mode) == 0o700


def test_a_directory_that_is_claimed_again_is_closed_again(box: Box) -> None:
    """The next container of this id is not open to whom the last one was."""
    open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)
    box.close()
    (box.path / "state.json").unlink()
    again = Box(box.root)
    box.directory, box.listener = again.directory, again.listener

    assert stat.S_IMODE(box.path.stat().st_mode) == 0o700
    assert not may(Somebody(ALICE), again.connect)


def test_a_file_system_without_lists_is_told(box, monkeypatch) -> None:
    """The refusal names the options that need them; other errors are the kernel's words."""

    def refuse(number: int) -> Callable[..., None]:
        def setxattr(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return setxattr

    monkeypatch.setattr(access.os, "setxattr", refuse(95))
    with pytest.raises(UsageError, match="without access control lists, by which --allow-uid"):
        open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)
    monkeypatch.setattr(access.os, "setxattr", refuse(22))
    with pytest.raises(OSError, match="Invalid argument"):
        open_to(Policy(uids=(ALICE,)), str(box.root), box.directory)
