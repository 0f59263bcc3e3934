"""A session under fire, on both sides: whatever is said, it knows what it knows, and no more.

Seen to fail: with ``limit`` not looked at in ``FrameDecoder.next_frame``, ``ValueError`` not
caught in ``_unpack``, the state not set to ERROR in ``Session.next_message``, and ``check`` not
called in ``decode``.
"""

import random

import attrs
import msgpack
from hostile import TAGS, WRONG, body, words
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from attachd.errors import LocalProtocolError, RemoteProtocolError
from attachd.wire import messages as say
from attachd.wire.frames import LENGTH_BYTES, MAX_FRAME, encode_frame
from attachd.wire.session import CONVERSATION, Pause, Role, Session, State

chances = st.randoms(use_true_random=False)

WITH_FIELDS = sorted(tag for tag, kind in say.MESSAGES.items() if attrs.fields(kind))


class UnderFire(RuleBasedStateMachine):
    """One session and its peer. ``state`` is what the table says of all that was right so far."""

    @initialize(role=st.sampled_from(list(Role)))
    def begin(self, role: Role) -> None:
        self.session = Session(role)
        self.state = State.OPENING
        self.sure = True  # nothing was said yet of which the table tells nothing

    @rule(chance=chances)
    def the_peer_says_a_right_message(self, chance: random.Random) -> None:
        """It is heard exactly when the table allows it, and then nothing of it is kept."""
        tag = chance.choice(TAGS[self.session.role.peer])
        if chance.random() < 0.8:
            tag = chance.choice(self.allowed() or [tag])
        told = body(tag, chance)
        self.read(encode_frame(msgpack.packb(told)), cut=chance)
        if not self.sure:
            self.hear()
            return
        following = CONVERSATION[self.state][self.session.role.peer].get(say.MESSAGES[tag])
        heard = self.hear()
        if following is None:
            assert heard == []
            self.state = State.ERROR
        else:
            assert [say.tag_of(type(message)) for message in heard] == [tag]
            assert all(
                getattr(heard[0], name) == told[name] for name in told if name != "type"
            )
            assert self.session.held == 0
            self.state = following

    @rule(chance=chances)
    def the_peer_says_anything(self, chance: random.Random) -> None:
        """Each word is heard, skipped, or the peer's fault."""
        self.read(words(chance, self.session.role.peer), cut=chance)
        self.sure = False
        self.hear()

    @rule(data=st.binary(min_size=1, max_size=40))
    def noise_comes(self, data: bytes) -> None:
        self.read(data)
        self.sure = False
        self.hear()

    @precondition(lambda self: self.sure and self.state is not State.ERROR)
    @rule(chance=chances)
    def the_peer_says_a_wrong_value(self, chance: random.Random) -> None:
        """Its fault, whoever may say the message, and when."""
        tag = chance.choice([t for t in self.allowed() if t in WITH_FIELDS] or WITH_FIELDS)
        field = chance.choice(attrs.fields(say.MESSAGES[tag]))
        plain = [value for value in WRONG if value not in ([], {"a": {}})]
        told = body(tag, chance) | {field.name: chance.choice(plain)}
        self.read(encode_frame(msgpack.packb(told)), cut=chance)
        assert self.hear() == []
        self.state = State.ERROR

    @precondition(lambda self: self.sure and self.state is not State.ERROR)
    @rule(length=st.integers(MAX_FRAME + 1, (1 << 32) - 1))
    def the_peer_announces_too_much(self, length: int) -> None:
        """Its fault, before any of it has come."""
        self.read(length.to_bytes(LENGTH_BYTES, "big"))
        assert self.hear() == []
        self.state = State.ERROR

    @rule(chance=chances)
    def we_speak(self, chance: random.Random) -> None:
        """What the table does not allow is our own error, and changes nothing."""
        role, before = self.session.role, self.session.state
        kind = say.MESSAGES[chance.choice(TAGS[role])]
        told = body(say.tag_of(kind), chance)
        del told["type"]
        following = CONVERSATION[before][role].get(kind)
        try:
            self.session.send(kind(**told))
        except LocalProtocolError:
            assert following is None
            assert self.session.state is before
        else:
            assert self.session.state is following
            self.state = following

    @rule()
    def the_peer_goes(self) -> None:
        self.session.receive_data(b"")
        self.sure = False
        self.hear()

    @invariant()
    def the_table_is_obeyed_and_no_more_is_kept_than_a_frame(self) -> None:
        if self.sure:
            assert self.session.state is self.state
        if self.session.state is not State.ERROR:
            assert self.session.held < LENGTH_BYTES + MAX_FRAME

    def allowed(self) -> list[str]:
        """Return what the peer may say now."""
        kinds = CONVERSATION[self.session.state][self.session.role.peer]
        return sorted(map(say.tag_of, kinds))

    def read(self, data: bytes, cut: random.Random | None = None) -> None:
        """Have the session read it, in two pieces when that is asked for."""
        at = cut.randrange(len(data) + 1) if cut else len(data)
        for part in (data[:at], data[at:]):
            if part:
                self.session.receive_data(part)

    def hear(self) -> list[say.Message]:
        """Return all messages that there are; their errors are errors for good."""
        heard: list[say.Message] = []
        try:
            while not isinstance(message := self.session.next_message(), Pause):
                heard.append(message)
        except RemoteProtocolError:
            assert self.session.state is State.ERROR
        return heard


UnderFire.TestCase.settings = settings(stateful_step_count=40)
TestUnderFire = UnderFire.TestCase
