"""Who is at the other end, as it was when it connected."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from others import Somebody

from attachd.live.peer import Peer, groups_of, peer_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become others")

ALICE, BOB = 54321, 54322


@pytest.fixture
def meet(passable: Path) -> Iterator[Callable[[Somebody], socket.socket]]:
    """Have somebody connect; return our end."""
    listener = socket.socket(socket.AF_UNIX)
    path = str(passable / "socket")
    listener.bind(path)
    os.chmod(path, 0o666)
    listener.listen()
    accepted: list[socket.socket] = []

    def connect() -> None:
        socket.socket(socket.AF_UNIX).connect(path)

    def meet(somebody: Somebody) -> socket.socket:
        assert somebody.attempts(connect) == ""
        accepted.append(listener.accept()[0])
        return accepted[-1]

    yield meet
    for each in (*accepted, listener):
        each.close()


@pytest.mark.parametrize("groups", [(), (7,), (7, 9, BOB), tuple(range(1000, 2500))])
def test_a_peer_has_its_user_its_group_and_all_its_groups(meet, groups) -> None:
    """Also more than getsockopt of Python can tell; the peer may be gone meanwhile."""
    ours = meet(Somebody(ALICE, BOB, groups))
    peer = peer_of(ours.fileno())

    assert (peer.uid, peer.gid) == (ALICE, BOB)
    assert groups_of(ours.fileno(), peer) == {BOB, *groups}


def test_what_is_no_socket_is_an_error() -> None:
    """Nothing is made up."""
    with open(os.devnull) as file:
        with pytest.raises(OSError, match="socket"):
            groups_of(file.fileno(), Peer(0, 0, 0))
