"""The client without Trio, in front of a server that says everything at once."""

import os
import socket
import threading

import pytest
from attachd_clients import attach_blocking

from attachd.wire import messages as say
from attachd.wire.session import VERSION, Pause, Role, Session


@pytest.fixture
def hurried(tmp_path):
    """A state root with a container ``x``, whose server tells all in one piece and goes."""
    (tmp_path / "x").mkdir(mode=0o700)
    (tmp_path / "x/state.json").write_text("{}")
    directory = os.open(tmp_path / "x", os.O_PATH)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/proc/self/fd/{directory}/attach.sock")
        listener.listen()
        thread = threading.Thread(target=_tell_all, args=(listener,))
        thread.start()
        yield tmp_path
        thread.join()
    os.close(directory)


def _tell_all(listener: socket.socket) -> None:
    peer, _ = listener.accept()
    server = Session(Role.SERVER)
    server.receive_data(peer.recv(1 << 16))
    assert not isinstance(server.next_message(), Pause)
    welcome = say.Welcome(
        version=VERSION, features=[], id="x", phase="stopped", terminal=False, stream_id="s",
        oldest=0, newest=4, offset=0, stdin="closed", stdin_offset=0, stdin_window=1 << 20,
        max_frame=1 << 20, max_data=1 << 18,
    )  # fmt: skip
    all_of_it = (
        welcome,
        say.Output(offset=0, stream="stdout", time=1, data=b"last"),
        say.Eof(stream="stdout"),
        say.Eof(stream="stderr"),
        say.Exit(record={"exit_code": 3}),
        say.Goodbye(code="ended", text="the container has ended and its shim goes"),
    )
    peer.sendall(b"".join(map(server.send, all_of_it)))
    while peer.recv(1 << 16):
        pass
    peer.close()


def test_a_shim_that_says_goodbye_with_its_welcome_has_told_everything(hurried) -> None:
    """Whoever comes in the last moment gets output and end, and no error."""
    with attach_blocking("x", root=str(hurried), since="start") as client:
        told = list(client)

    assert [event.data for event in told if isinstance(event, say.Output)] == [b"last"]
    assert isinstance(told[-1], say.Exit)
