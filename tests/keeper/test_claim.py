"""An id is one shim's: who gets it, who is told no, and what is cleared away."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.keeper import claim as claiming
from attachd.keeper.claim import check_id, claim


@pytest.fixture
def held() -> Iterator[list[int]]:
    """Descriptors that a test has claimed; given back afterwards."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


# Names


@pytest.mark.parametrize("name", ["a", "box-1", "A_b+c.d", "0", "_", "+x", "x" * 128])
def test_an_ordinary_name_is_an_id(name: str) -> None:
    """What runc takes as an id, we take, up to 128 characters."""
    check_id(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "-option", "a/b", "../a", "a b", "a\n", "a\0", "é", "x" * 129,
     "\udcff"],
)  # fmt: skip
def test_a_name_that_could_be_a_path_or_an_option_is_no_id(name: str) -> None:
    """The refusal says which characters may be used."""
    with pytest.raises(UsageError, match="use up to 128 of"):
        check_id(name)


@given(name=st.text(max_size=140))
def test_an_id_is_one_plain_file_name(name: str) -> None:
    """Whatever passes stays below the root, is not hidden, and is no option."""
    try:
        check_id(name)
    except UsageError:
        return
    assert os.path.basename(name) == name
    assert name.isascii()
    assert name[0] not in "-."


# Claims


def test_a_claimed_directory_is_private_empty_and_locked(
    tmp_path: Path, held: list[int]
) -> None:
    """Mode 0700 for root and directory; the descriptor is the directory's own."""
    root = tmp_path / "some" / "root"
    held.append(claim(str(root), "box"))

    assert os.path.samestat(os.fstat(held[0]), os.stat(root / "box"))
    assert (root / "box").stat().st_mode & 0o777 == 0o700
    assert root.stat().st_mode & 0o777 == 0o700
    assert os.listdir(root / "box") == []
    assert not os.get_inheritable(held[0])


def test_an_id_cannot_be_claimed_twice(tmp_path: Path, held: list[int]) -> None:
    """While a shim holds the descriptor, the next one is told so, and changes nothing."""
    held.append(claim(str(tmp_path), "box"))
    (tmp_path / "box" / "attach.sock").touch()

    with pytest.raises(UsageError, match="box is in use: its shim runs"):
        claim(str(tmp_path), "box")
    assert (tmp_path / "box" / "attach.sock").exists()


def test_other_ids_are_free_meanwhile(tmp_path: Path, held: list[int]) -> None:
    """One root serves many containers."""
    held.append(claim(str(tmp_path), "one"))
    held.append(claim(str(tmp_path), "two"))

    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


def test_an_ended_container_keeps_its_id_until_it_is_removed(tmp_path: Path) -> None:
    """Its exit record is there for whoever comes; the refusal says how to remove it."""
    directory = tmp_path / "box"
    directory.mkdir()
    (directory / "state.json").write_text(json.dumps({"id": "box", "deleted": False}))
    (directory / "exit.json").write_text("{}")

    for _ in range(2):
        with pytest.raises(UsageError, match="attachctl rm box"):
            claim(str(tmp_path), "box")
    assert sorted(os.listdir(directory)) == ["exit.json", "state.json"]


def test_a_refused_claim_gives_the_lock_back(tmp_path: Path) -> None:
    """Whoever wants to remove the container is not kept from it."""
    directory = tmp_path / "box"
    directory.mkdir()
    (directory / "state.json").write_text("{}")
    with pytest.raises(UsageError):
        claim(str(tmp_path), "box")

    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "state",
    [None, "", "{", "[]", '"deleted"', '{"deleted": true}', b"\xff\xfe".decode("latin1")],
)
def test_what_nobody_owns_is_cleared_away(
    tmp_path: Path, held: list[int], state: str | None
) -> None:
    """A deleted container, or a launcher that was killed before it wrote its state."""
    directory = tmp_path / "box"
    (directory / "bundle" / "rootfs").mkdir(parents=True)
    (directory / "attach.sock").touch()
    if state is not None:
        (directory / "state.json").write_text(state, encoding="latin1")
    held.append(claim(str(tmp_path), "box"))

    assert os.listdir(directory) == []


def test_only_true_means_deleted(tmp_path: Path) -> None:
    """A state file of another make is not taken for a deleted container."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "state.json").write_text('{"deleted": "yes"}')

    with pytest.raises(UsageError, match="in use"):
        claim(str(tmp_path), "box")


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_a_symbolic_link_is_never_followed(tmp_path: Path, target: str) -> None:
    """A link in the root, dangling or not, is not a directory of ours and stays as it is."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "box").symlink_to(tmp_path / target)

    with pytest.raises(UsageError, match="not a directory of ours"):
        claim(str(root), "box")
    assert (elsewhere / "precious").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_neither_used_nor_emptied(tmp_path: Path) -> None:
    """In a root that many may write into, somebody could lay one out for our files."""
    tmp_path.chmod(0o1777)
    trap = tmp_path / "box"
    trap.mkdir(0o777)
    (trap / "state.json.new").symlink_to(tmp_path / "precious")
    os.chown(trap, 54321, 54321)

    with pytest.raises(UsageError, match="not a directory of ours: it belongs to user 54321"):
        claim(str(tmp_path), "box")
    assert os.listdir(trap) == ["state.json.new"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_root_of_another_user_is_not_used(tmp_path: Path) -> None:
    """Its owner could put another directory into the place of ours at any time."""
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1777)
    os.chown(root, 54321, 54321)

    with pytest.raises(UsageError, match="root belongs to user 54321"):
        claim(str(root), "box")
    assert os.listdir(root) == []


def test_what_was_left_open_is_closed(tmp_path: Path, held: list[int]) -> None:
    """A directory that is claimed again is ours alone, whatever it was before."""
    (tmp_path / "box").mkdir()
    (tmp_path / "box").chmod(0o755)
    held.append(claim(str(tmp_path), "box"))

    assert (tmp_path / "box").stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    """A file under the id's name is somebody else's."""
    (tmp_path / "box").write_text("mine")

    with pytest.raises(UsageError, match="not a directory of ours"):
        claim(str(tmp_path), "box")
    assert (tmp_path / "box").read_text() == "mine"


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error names the root and the reason."""
    (tmp_path / "file").touch()

    with pytest.raises(UsageError, match=r"cannot make the state root .*file/root: Not a dir"):
        claim(str(tmp_path / "file" / "root"), "box")
    with pytest.raises(UsageError, match="cannot make the state root"):
        claim(str(tmp_path / "file"), "box")


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error names the directory and the reason."""
    with pytest.raises(UsageError, match=r"cannot make .*: File name too long"):
        claim(str(tmp_path), "x" * 300)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_directory_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, held: list[int], monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """Between open and lock a remover may win: the lock of a dead directory is no claim."""
    path = tmp_path / "box"
    locked: list[int] = []

    def lock_after_removal(fd: int, how: int) -> None:
        if not locked:
            path.rmdir()
            if replaced:
                (tmp_path / "new").mkdir()
                (tmp_path / "new").rename(path)
        locked.append(fd)
        fcntl.flock(fd, how)

    fake = type("fcntl", (), {**vars(fcntl), "flock": staticmethod(lock_after_removal)})
    monkeypatch.setattr(claiming, "fcntl", fake)
    held.append(claim(str(tmp_path), "box"))

    assert len(locked) == 2
    assert os.path.samestat(os.fstat(held[0]), path.stat())


def test_a_directory_that_is_gone_before_it_is_opened_is_made_again(
    tmp_path: Path, held: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between mkdir and open a remover may win, too."""
    real_open, opened = os.open, []

    def open_after_removal(path: str, flags: int) -> int:
        opened.append(path)
        if len(opened) == 1:
            os.rmdir(path)
        return real_open(path, flags)

    monkeypatch.setattr(claiming.os, "open", open_after_removal)
    held.append(claim(str(tmp_path), "box"))

    assert len(opened) == 2
    assert (tmp_path / "box").is_dir()


@pytest.mark.parametrize(
    ("config", "replace", "free"),
    [
        ({"door": {"kind": "conmon"}}, True, True),
        ({"door": {"kind": "conmon"}}, False, False),
        ({"door": {"kind": ""}}, True, False),
        ({}, True, False),
    ],
)
def test_a_manager_takes_the_place_of_what_came_by_a_door_and_of_nothing_else(
    tmp_path: Path, held: list[int], config: dict, replace: bool, free: bool
) -> None:
    """Its shim was killed, and the manager makes it anew; our own containers are recovered."""
    left = tmp_path / "box"
    left.mkdir(0o700)
    (left / "state.json").write_text(json.dumps({"deleted": False, "config": config}))
    if free:
        held.append(claim(str(tmp_path), "box", replace=replace))
        assert list(left.iterdir()) == []
    else:
        with pytest.raises(UsageError, match="in use"):
            claim(str(tmp_path), "box", replace=replace)
        assert (left / "state.json").exists()
