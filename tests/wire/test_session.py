"""The conversation: two sessions back to back, and every step that the table does not allow."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import attachd.wire.messages as say
from attachd.errors import LocalProtocolError, RemoteProtocolError
from attachd.wire.frames import encode_frame
from attachd.wire.messages import encode
from attachd.wire.session import CONVERSATION, Pause, Role, Session, State

EXAMPLES: dict[type, object] = {
    say.Hello: 1, say.Welcome: 1, say.Output: 1, say.Gap: 1, say.Eof: 1, say.Exit: 1,
    say.Stdin: 1, say.StdinEof: 1, say.StdinAck: 1, say.Credit: 1, say.Ping: 1, say.Pong: 1,
    say.Start: 1, say.Signal: 1, say.Status: 1, say.Release: 1, say.Detach: 1, say.Done: 1,
    say.Report: 1, say.Error: 1, say.Goodbye: 1,
}  # fmt: skip
_VALUES = {int: 1, str: "x", bytes: b"x", bool: True, list[str]: ["x"], say.Record: {"a": 1}}


def example(kind: type):
    """Return some message of a kind."""
    import attrs

    return kind(**{field.name: _VALUES[field.type] for field in attrs.fields(kind)})


TALK = [
    (Role.CLIENT, say.Hello), (Role.SERVER, say.Welcome), (Role.SERVER, say.Output),
    (Role.CLIENT, say.Stdin), (Role.SERVER, say.StdinAck), (Role.CLIENT, say.Status),
    (Role.SERVER, say.Report), (Role.SERVER, say.Exit), (Role.CLIENT, say.Detach),
    (Role.SERVER, say.Output), (Role.SERVER, say.Goodbye),
]  # fmt: skip


@given(st.randoms(use_true_random=False))
def test_two_sessions_agree_however_the_wire_is_cut(chance: random.Random) -> None:
    """What one sends, the other understands, and both end in the same state."""
    sessions = {role: Session(role) for role in Role}
    for speaker, kind in TALK:
        wire = sessions[speaker].send(example(kind))
        listener = sessions[speaker.peer]
        cuts = sorted(chance.sample(range(len(wire)), min(3, len(wire))))
        got = []
        for begin, end in itertools.pairwise([0, *cuts, len(wire)]):
            if end > begin:
                listener.receive_data(wire[begin:end])
            while not isinstance(message := listener.next_message(), Pause):
                got.append(message)
        assert got == [example(kind)]
    assert {session.state for session in sessions.values()} == {State.CLOSED}


STEPS = [
    (state, role, kind)
    for state in State
    for role in Role
    for kind in EXAMPLES
    if kind not in CONVERSATION[state][role]
]


@pytest.mark.parametrize(("state", "role", "kind"), STEPS)
def test_what_is_not_in_the_table_is_an_error_that_sticks(state, role, kind) -> None:
    """Ours is a local error, theirs a remote one, and theirs ends the conversation."""
    ours, theirs = Session(role), Session(role.peer)
    ours.state = theirs.state = state
    with pytest.raises(LocalProtocolError):
        ours.send(example(kind))
    assert ours.state is state
    theirs.receive_data(encode_frame(encode(example(kind))))
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            theirs.next_message()
    assert theirs.state is State.ERROR


def test_a_peer_that_is_gone_is_told_after_its_last_message() -> None:
    """And half a frame is no message."""
    server = Session(Role.SERVER)
    wire = Session(Role.CLIENT).send(example(say.Hello))
    server.receive_data(wire + b"\0")
    server.receive_data(b"")

    assert server.next_message() == example(say.Hello)
    assert server.next_message() is Pause.PEER_GONE


def test_an_unknown_type_is_skipped() -> None:
    """A newer peer may say more."""
    import msgpack

    server = Session(Role.SERVER)
    server.receive_data(encode_frame(msgpack.packb({"type": "from_the_future", "x": [1]})))
    assert server.next_message() is Pause.NEED_DATA
    assert server.state is State.OPENING


class Line:
    """Two sessions, and the bytes that are on their way between them."""

    def __init__(self) -> None:
        self.ends = {role: Session(role) for role in Role}
        self.under_way = {role: bytearray() for role in Role}  # by speaker, as all of these
        self.said = {role: [] for role in Role}
        self.heard = {role: [] for role in Role}

    def say(self, speaker: Role, choice: int) -> None:
        """Have a side say one of the messages that it may say now."""
        kinds = list(CONVERSATION[self.ends[speaker].state][speaker])
        if kinds:
            message = example(kinds[choice % len(kinds)])
            self.under_way[speaker] += self.ends[speaker].send(message)
            self.said[speaker].append(message)

    def deliver(self, speaker: Role, count: int) -> None:
        """Bring some of a side's bytes to the other, which listens until it has closed."""
        listener, data = self.ends[speaker.peer], bytes(self.under_way[speaker][:count])
        del self.under_way[speaker][:count]
        if data:
            listener.receive_data(data)
        while listener.state is not State.CLOSED:
            message = listener.next_message()
            if isinstance(message, Pause):
                assert message is Pause.NEED_DATA
                return
            self.heard[speaker].append(message)


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(list(Role)), st.integers(0, 60)), max_size=60
    )
)
def test_two_sessions_agree_however_their_words_cross(script) -> None:
    """What each may say by its own view, the other accepts, in order, until goodbye."""
    line = Line()
    line.say(Role.CLIENT, 0)
    for says, speaker, number in script:
        (line.say if says else line.deliver)(speaker, number)
    for speaker in Role:
        line.deliver(speaker, 1 << 20)

    states = {session.state for session in line.ends.values()}
    heard = line.heard[Role.CLIENT]
    assert State.ERROR not in states
    assert line.heard[Role.SERVER] == line.said[Role.SERVER]
    assert heard == line.said[Role.CLIENT][: len(heard)]
    if State.CLOSED not in states:
        assert heard == line.said[Role.CLIENT]
        assert len(states) == 1


def test_a_message_that_cannot_be_encoded_was_not_said() -> None:
    """A goodbye that never left does not close the conversation."""
    server = Session(Role.SERVER)
    server.state = State.ATTACHED
    with pytest.raises(LocalProtocolError):
        server.send(say.Goodbye(code="internal", text="x" * 5000))

    assert server.state is State.ATTACHED


@pytest.mark.parametrize("state", [state for state in State if state is not State.ERROR])
@pytest.mark.parametrize("garbage", [b"\0\0\0\1\xc1", b"\0\0\0\0", b"\x7f\0\0\0"])
def test_garbage_ends_the_conversation_in_every_state(state, garbage) -> None:
    """A peer may misbehave at any time; each time it is its own fault, for good."""
    server = Session(Role.SERVER)
    server.state = state
    server.receive_data(garbage)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            server.next_message()
    assert server.state is State.ERROR
