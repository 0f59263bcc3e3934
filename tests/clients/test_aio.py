"""The Trio client, in front of a peer that does not read."""

import pytest
import trio
from attachd_clients.aio import Client, attach
from attachd_clients.conversation import Conversation
from attachd_clients.places import Place

from attachd.errors import UsageError
from attachd.wire import messages as say
from attachd.wire.session import VERSION, Pause, Role, Session


def welcomed(conversation: Conversation) -> Session:
    """Have a conversation attached; return the server's side of it."""
    server = Session(Role.SERVER)
    server.receive_data(conversation.hello())
    server.next_message()
    welcome = say.Welcome(
        version=VERSION, features=[], id="x", phase="running", terminal=False, stream_id="s",
        oldest=0, newest=0, offset=0, stdin="open", stdin_offset=0, stdin_window=1 << 30,
        max_frame=1 << 20, max_data=1 << 18,
    )  # fmt: skip
    conversation.receive_data(server.send(welcome))
    return server


async def test_a_send_that_is_given_up_cuts_no_frame() -> None:
    """What was not sent of it goes first the next time; the peer understands all of it."""
    ours, theirs = trio.socket.socketpair()
    conversation = Conversation()
    server = welcomed(conversation)
    client = Client(Place("/", "x"), conversation, trio.SocketStream(ours))
    data = bytes(range(256)) * (1 << 14)

    with trio.move_on_after(0.1) as patience:
        await client.post(data)
    assert patience.cancelled_caught

    heard = bytearray()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.flush)
            while len(heard) < len(data):
                server.receive_data(await theirs.recv(1 << 16))
                while not isinstance(message := server.next_message(), Pause):
                    assert isinstance(message, say.Stdin)
                    heard += message.data
    assert heard == data
    ours.close()
    theirs.close()


async def test_a_spec_that_names_no_program_is_refused() -> None:
    """An empty one would mean the container's own program, and whoever ends that ends all."""
    with pytest.raises(UsageError, match="argv"):
        async with attach("box", root="/nowhere", spec={}):
            pass
