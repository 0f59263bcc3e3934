"""Files of a container, read from outside: whatever lies there, nothing but its text comes out."""

import os
from pathlib import Path

import pytest

from attachd.live import rootfs
from attachd.live.rootfs import read_text


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """A directory that is taken for /proc/1/root."""
    path, opened = tmp_path / "root", os.open
    (path / "etc").mkdir(parents=True)
    (tmp_path / "secret").write_text("outside")

    def open_root(name, *rest, **named):
        return opened(path if name == "/proc/1/root" else name, *rest, **named)

    monkeypatch.setattr(rootfs.os, "open", open_root)
    return path


@pytest.fixture(autouse=True)
def _no_descriptor_is_left():
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_is_read_by_its_path(root) -> None:
    """Bytes that are not UTF-8 are replaced."""
    (root / "etc/passwd").write_bytes(b"joe:\xff\n")

    assert read_text(1, "/etc/passwd") == "joe:�\n"
    assert read_text(1, "/etc/group") == ""


def test_links_are_followed_as_from_inside(root) -> None:
    """Absolute ones begin at the container's root; so do those that climb too high."""
    (root / "users").write_text("inside")
    for target in ("/users", "../users", "../../../../users"):
        (root / "etc/passwd").symlink_to(target)
        assert read_text(1, "/etc/passwd") == "inside"
        (root / "etc/passwd").unlink()


def test_no_link_leads_out(root) -> None:
    """By name, by climbing, by a link on the way, or by /proc's magic."""
    outside = root.parent / "secret"
    passwd = root / "etc/passwd"
    for target in (outside, "../../secret", f"/proc/self/root{outside}", "/proc/self/cwd/x"):
        passwd.symlink_to(target)
        assert read_text(1, "/etc/passwd") == ""
        passwd.unlink()
    (root / "etc").rmdir()
    (root / "etc").symlink_to(root.parent)
    (root.parent / "passwd").write_text("outside")
    assert read_text(1, "/etc/passwd") == ""


def test_only_regular_files_are_even_opened(root) -> None:
    """A directory, a pipe that nobody writes to, a socket, a device, a loop, a broken link."""
    passwd = root / "etc/passwd"
    passwd.mkdir()
    assert read_text(1, "/etc/passwd") == ""
    passwd.rmdir()
    os.mkfifo(passwd)
    assert read_text(1, "/etc/passwd") == ""
    passwd.unlink()
    passwd.symlink_to("passwd")
    assert read_text(1, "/etc/passwd") == ""
    passwd.unlink()
    passwd.symlink_to("/nowhere")
    assert read_text(1, "/etc/passwd") == ""
    passwd.unlink()
    if os.geteuid() == 0:
        os.mknod(passwd, 0o020600, os.makedev(1, 5))  # /dev/zero
        assert read_text(1, "/etc/passwd") == ""


def test_no_more_is_read_than_there_is(monkeypatch, root) -> None:
    """What says that it has no size (/proc/kmsg, /proc/1/mem) is not read at all."""
    (root / "etc/passwd").write_text("x" * 100)
    monkeypatch.setattr(rootfs, "MAX_BYTES", 10)

    assert read_text(1, "/etc/passwd") == "x" * 10


def test_what_proc_makes_up_is_empty() -> None:
    """Here through our own root, where there is a /proc."""
    for path in ("/proc/self/mem", "/proc/kmsg", "/proc/uptime", "/proc/self/environ"):
        assert read_text(os.getpid(), path) == ""


def test_who_is_gone_has_no_files() -> None:
    """Over the kernel's limit of pids."""
    assert read_text(1 << 23, "/etc/passwd") == ""
