"""Files that others read while we write: whole or not at all."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from others import Somebody

from attachd.keeper import files


def test_a_file_is_written_whole_and_nothing_is_left_beside(tmp_path: Path) -> None:
    """The new content is there, under the one name."""
    path = tmp_path / "state"
    files.write_whole(str(path), b"\x00content\xff")

    assert path.read_bytes() == b"\x00content\xff"
    assert os.listdir(tmp_path) == ["state"]


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    """An old file is replaced, never written into."""
    path = tmp_path / "state"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        files.write_whole(str(path), b"new and longer")

        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"


@pytest.mark.parametrize("sync", [False, True])
def test_a_failed_write_leaves_nothing(tmp_path: Path, sync: bool) -> None:
    """A directory in the way stays, and no half-written file lies beside it."""
    (tmp_path / "state").mkdir()

    with pytest.raises(OSError, match="directory"):
        files.write_whole(str(tmp_path / "state"), b"data", sync=sync)
    assert os.listdir(tmp_path) == ["state"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    """Nothing is made that was not asked for."""
    with pytest.raises(FileNotFoundError):
        files.write_whole(str(tmp_path / "no" / "state"), b"data")
    assert os.listdir(tmp_path) == []


def test_a_link_laid_beside_is_never_followed(tmp_path: Path) -> None:
    """Neither a symbolic nor a hard link under our temporary name leads the write elsewhere."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    beside = tmp_path / f"state.{os.getpid()}.new"
    for link in (beside.symlink_to, beside.hardlink_to):
        link(victim)
        files.write_whole(str(tmp_path / "state"), b"data", mode=0o600)

        assert victim.read_bytes() == b"precious"
        assert (tmp_path / "state").read_bytes() == b"data"
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_another_user_has_laid_beside_is_not_written_to(
    passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a directory like /tmp it cannot be removed: whoever owns it would own our pid file."""
    passable.chmod(0o1777)
    monkeypatch.setattr(files.os, "getpid", lambda: 4711)
    beside = passable / "web.pid.4711.new"
    beside.touch()
    beside.chmod(0o666)
    os.chown(beside, 54322, 54322)

    told = Somebody(54321).attempts(lambda: files.write_number(str(passable / "web.pid"), 1))
    assert "FileExistsError" in told
    assert beside.read_bytes() == b""
    assert not (passable / "web.pid").exists()


def test_with_sync_the_file_and_then_its_directory_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file before the rename, the directory after it: a power cut finds one or the other."""
    synced: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda fd: synced.append((os.readlink(f"/proc/self/fd/{fd}"), os.listdir(tmp_path))),
    )
    files.write_whole(str(tmp_path / "exit.json"), b"{}", sync=True)

    beside = f"exit.json.{os.getpid()}.new"
    assert synced == [
        (str(tmp_path / beside), [beside]),
        (str(tmp_path), ["exit.json"]),
    ]


def test_a_bare_name_can_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a directory lies in the current one."""
    monkeypatch.chdir(tmp_path)
    files.write_whole("exit.json", b"{}", sync=True)

    assert (tmp_path / "exit.json").read_bytes() == b"{}"


@given(data=st.binary(max_size=50), most=st.integers(1, 7))
def test_a_short_write_goes_on_where_it_ended(data: bytes, most: int) -> None:
    """However little the kernel takes at once, every byte comes, once and in order."""
    taken = bytearray()

    def write(_fd: int, rest: memoryview) -> int:
        taken.extend(rest[:most])
        return min(most, len(rest))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "write", write)
        files.write_all(-1, data)

    assert bytes(taken) == data


def test_json_is_for_its_owner_and_for_people(tmp_path: Path) -> None:
    """Mode 0600, indented, with a newline at the end; it reads back as it was."""
    path = tmp_path / "state.json"
    value = {"id": "box", "logs": [{"path": "/tmp/\udcff"}], "pid": None}
    files.write_json(str(path), value)

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes().endswith(b"}\n")
    assert path.read_bytes().count(b"\n") > 3
    assert files.read_json(str(path)) == value


def test_a_pid_file_is_digits_alone_and_public(tmp_path: Path) -> None:
    """No newline, as runc and conmon write it."""
    path = tmp_path / "pid"
    files.write_number(str(path), 4711)

    assert path.read_bytes() == b"4711"
    assert path.stat().st_mode & 0o444 == 0o444 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe{}"])
def test_what_is_no_json_object_is_a_value_error(tmp_path: Path, text: bytes) -> None:
    """A half-written or foreign file has one kind of error."""
    path = tmp_path / "state.json"
    path.write_bytes(text)

    with pytest.raises(ValueError, match=r".*"):
        files.read_json(str(path))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """Absence is told from damage."""
    with pytest.raises(FileNotFoundError):
        files.read_json(str(tmp_path / "state.json"))


def test_removing_is_no_question(tmp_path: Path) -> None:
    """A file that is there goes; what is not, or is a directory, is left in peace."""
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    for name in ("file", "directory", "missing"):
        files.remove_file(str(tmp_path / name))

    assert os.listdir(tmp_path) == ["directory"]


def test_a_directory_is_emptied_and_kept(tmp_path: Path) -> None:
    """Files, sockets' leftovers and whole trees go."""
    home = tmp_path / "box"
    (home / "bundle" / "rootfs" / "deep").mkdir(parents=True)
    (home / "bundle" / "config.json").write_text("{}")
    (home / "state.json").write_text("{}")
    os.mkfifo(home / "fifo")
    files.empty_directory(str(home))

    assert os.listdir(home) == []


def test_emptying_never_leaves_the_directory(tmp_path: Path) -> None:
    """Links go; what they lead to stays."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    home = tmp_path / "box"
    (home / "rootfs").mkdir(parents=True)
    (home / "link").symlink_to(outside)
    (home / "rootfs" / "link").symlink_to(outside)
    files.empty_directory(str(home))

    assert os.listdir(home) == []
    assert os.listdir(outside) == ["precious"]


def test_state_is_json_that_other_languages_read(tmp_path: Path) -> None:
    """Pure ASCII: no reader has to guess an encoding."""
    path = tmp_path / "state.json"
    files.write_json(str(path), {"name": "é"})

    assert path.read_bytes().isascii()
    assert json.loads(path.read_bytes()) == {"name": "é"}


def test_a_record_uses_the_room_that_was_reserved(tmp_path: Path) -> None:
    """The very file, whose blocks are there: nothing is made anew, and nothing is left beside."""
    path, room = tmp_path / files.EXIT, tmp_path / files.EXIT_ROOM
    files.reserve(str(room), files.RECORD_BYTES)
    before = room.stat()
    files.write_record(str(path), b"{}\n")

    assert before.st_blocks * 512 >= files.RECORD_BYTES
    assert (path.read_bytes(), path.stat().st_ino) == (b"{}\n", before.st_ino)
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == [files.EXIT]


def test_a_record_that_was_begun_is_written_again(tmp_path: Path) -> None:
    """Whoever died at it had written more, or less, of another one."""
    for begun in (b"", b"x" * 9, b"x" * 5000):
        (tmp_path / files.EXIT_ROOM).write_bytes(begun)
        files.write_record(str(tmp_path / files.EXIT), b"{1}\n")

        assert (tmp_path / files.EXIT).read_bytes() == b"{1}\n"


def test_a_record_without_a_room_is_written_like_any_file(tmp_path: Path) -> None:
    """Somebody has removed it, or an older attachd has made none."""
    files.write_record(str(tmp_path / files.EXIT), b"{}\n")

    assert os.listdir(tmp_path) == [files.EXIT]
    assert (tmp_path / files.EXIT).read_bytes() == b"{}\n"


def test_a_room_that_there_is_no_room_for_is_not_there(tmp_path: Path) -> None:
    """Its caller is told; half a room is none."""
    with pytest.raises(OSError, match=r"too large|No space|Invalid"):
        files.reserve(str(tmp_path / "room"), 1 << 62)

    assert os.listdir(tmp_path) == []
