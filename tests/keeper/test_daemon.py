"""Becoming a daemon: who is told of it, and when it lives."""

import os

import pytest

from attachd.keeper import daemon


@pytest.fixture
def directory(tmp_path):
    """A state directory's descriptor."""
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def lived(directory: int, tell) -> tuple[bool, bytes]:
    """Return what ``fork`` returns, and what the daemon has written in its life."""
    read, write = os.pipe()
    told = daemon.fork(
        directory, {write}, lambda: os.write(write, str(os.getpid()).encode()), tell
    )
    os.close(write)
    with open(read, "rb") as pipe:
        return told, pipe.read()


def test_its_pid_is_told_before_it_lives(directory, tmp_path) -> None:
    """So whoever has called finds it where it was asked for."""
    place = tmp_path / "pid"
    told, said = lived(directory, lambda pid: place.write_text(str(pid)) and None)

    assert told
    assert place.read_bytes() == said != b""


def test_one_that_cannot_be_told_of_does_not_live(directory) -> None:
    """Its caller is told that there is none."""

    def tell(pid: int) -> None:
        raise OSError(28, "No space left on device")

    assert lived(directory, tell) == (False, b"")
