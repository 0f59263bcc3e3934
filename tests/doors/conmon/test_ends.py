"""What is made in a bundle, whatever somebody has put there before."""

import os
import socket
import stat

import pytest

from attachd.doors.conmon import ends


def put(path, what: str) -> None:
    """Put something where one of ours belongs."""
    match what:
        case "file":
            path.write_text("precious")
        case "link":
            path.symlink_to("victim")
        case "dangling":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as left:
                left.bind(str(path))


THINGS = ["nothing", "file", "link", "dangling", "fifo", "socket"]


@pytest.mark.parametrize("what", THINGS)
@pytest.mark.parametrize(
    ("make", "kind", "mode"),
    [(ends.listen, stat.S_ISSOCK, 0o700), (ends.make_fifo, stat.S_ISFIFO, 0o640)],
)
def test_it_is_made_anew_with_its_own_mode(tmp_path, what, make, kind, mode) -> None:
    """And a link's target is left alone."""
    (tmp_path / "victim").write_text("precious")
    put(tmp_path / "end", what)
    before = os.umask(0o022)
    try:
        fd = make(str(tmp_path / "end"))
    finally:
        os.umask(before)
    found = os.lstat(tmp_path / "end")
    assert kind(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == mode
    assert not os.get_inheritable(fd)
    assert not os.get_blocking(fd)
    assert (tmp_path / "victim").read_text() == "precious"
    os.close(fd)


def test_a_directory_in_the_way_is_told_and_left(tmp_path) -> None:
    """Somebody's files are in it."""
    (tmp_path / "end").mkdir()
    (tmp_path / "end" / "precious").touch()
    for make in (ends.listen, ends.make_fifo):
        with pytest.raises(OSError, match=r"directory|permitted"):
            make(str(tmp_path / "end"))
    assert (tmp_path / "end" / "precious").exists()


def test_a_writer_that_comes_and_goes_is_no_end_of_a_fifo(tmp_path) -> None:
    """There is always somebody who may write: ourselves."""
    fd = ends.make_fifo(str(tmp_path / "end"))
    for word in (b"one", b"two"):
        with open(tmp_path / "end", "wb", buffering=0) as writer:
            writer.write(word)
        assert os.read(fd, 100) == word
        with pytest.raises(BlockingIOError):
            os.read(fd, 100)
    os.close(fd)


def test_a_link_is_made_in_the_place_of_an_old_one(tmp_path) -> None:
    """Also where that leads nowhere."""
    for target in ("one", "two"):
        ends.make_link(str(tmp_path / "link"), target)
    assert os.readlink(tmp_path / "link") == "two"
