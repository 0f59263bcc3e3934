"""What a program says to systemd, and what of it is passed on."""

import os
import socket

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon import ends
from attachd.doors.conmon.notify import MOST_BYTES, pass_on, permitted


@pytest.mark.parametrize(
    ("said", "passed"),
    [
        (b"READY=1", b"READY=1"),
        (b"READY=1\n", b"READY=1"),
        (b"READY=1\nSTATUS=all is well\nMAINPID=7", b"READY=1\nSTATUS=all is well"),
        (b"STOPPING=1\rWATCHDOG=1", b"STOPPING=1\nWATCHDOG=1"),
        (b"ERRNO=5\nBUSERROR=x\nMONOTONIC_USEC=9", b"ERRNO=5\nBUSERROR=x\nMONOTONIC_USEC=9"),
        (b"READY=1\0STOPPING=1", b"READY=1"),
        (b"READY=2", b""), (b"ready=1", b""), (b" READY=1", b""), (b"READY=1 ", b""),
        (b"FDSTORE=1\nFDNAME=x", b""), (b"EXTEND_TIMEOUT_USEC=1", b""), (b"", b""), (b"\0", b""),
    ],
)  # fmt: skip
def test_only_what_a_container_may_say_is_passed_on(said, passed) -> None:
    """By whole lines."""
    assert permitted(said) == passed


@given(st.binary(max_size=300))
def test_no_bytes_bring_anything_else_through(said) -> None:
    """Whatever is passed on would be passed on again as it is."""
    passed = permitted(said)
    assert permitted(passed) == passed
    assert b"MAINPID" not in passed or b"=" in passed.partition(b"MAINPID")[0]


async def test_it_reaches_the_host_one_datagram_each(tmp_path) -> None:
    """Empty, forbidden and too long ones are left out, and end nothing."""
    (tmp_path / "notify").mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(str(tmp_path / "host"))
        host.setblocking(False)
        heard = trio.socket.from_stdlib_socket(host)
        fd = ends.make_notify(str(tmp_path / "notify"))
        path = str(tmp_path / "notify" / ends.NOTIFY)
        assert os.stat(path).st_mode & 0o777 == 0o777
        with trio.fail_after(30), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, fd, str(tmp_path / "host"))
                long = b"STATUS=" + b"x" * MOST_BYTES
                for said in (b"", b"MAINPID=1", long, b"READY=1\nMAINPID=1", b"STOPPING=1"):
                    program.sendto(said, path)
                    await trio.lowlevel.checkpoint()
                assert await heard.recv(100) == b"READY=1"
                assert await heard.recv(100) == b"STOPPING=1"
                nursery.cancel_scope.cancel()


async def test_a_host_that_does_not_listen_is_no_end_of_it(tmp_path) -> None:
    """It may listen again."""
    fd = ends.make_notify(str(tmp_path))
    path = str(tmp_path / ends.NOTIFY)
    with trio.fail_after(30), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, fd, str(tmp_path / "host"))
            program.sendto(b"READY=1", path)
            await trio.testing.wait_all_tasks_blocked()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
                host.bind(str(tmp_path / "host"))
                host.setblocking(False)
                program.sendto(b"STOPPING=1", path)
                heard = trio.socket.from_stdlib_socket(host)
                assert await heard.recv(100) == b"STOPPING=1"
            nursery.cancel_scope.cancel()


def test_a_link_where_the_directory_belongs_is_not_followed(tmp_path) -> None:
    """Nobody leads us elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "notify").symlink_to("elsewhere")
    with pytest.raises(OSError, match="directory"):
        ends.make_notify(str(tmp_path / "notify"))
    assert list((tmp_path / "elsewhere").iterdir()) == []
