"""The conversation: who may say what, and when; bytes to messages and back.

Three calls, and no I/O: ``receive_data`` takes what was read (``b""`` when the peer is gone),
``next_message`` gives what it means, ``send`` gives the bytes to write. Every transition is in
CONVERSATION; what is not in the table is an error, and after an error the session stays in ERROR.
"""

from enum import Enum, auto

from attachd.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
from attachd.wire.frames import FrameDecoder, encode_frame
from attachd.wire.messages import (
    Credit,
    Detach,
    Done,
    Eof,
    Error,
    Exit,
    Gap,
    Goodbye,
    Hello,
    Input,
    Lease,
    Message,
    Notice,
    Output,
    Ping,
    Pong,
    Release,
    Reopen,
    Report,
    Resize,
    Resized,
    Rotate,
    Signal,
    Size,
    Start,
    Status,
    Stdin,
    StdinAck,
    StdinEof,
    StdinRefused,
    Welcome,
    Writer,
    decode,
    encode,
)

#: The protocol's version; see protocol.md, "Versions", for what may change without a new one.
VERSION = 1


class Role(Enum):
    """The two sides of a conversation."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def peer(self) -> "Role":
        return Role.SERVER if self is Role.CLIENT else Role.CLIENT


class State(Enum):
    """Where the conversation is; both sides agree on it but for what is under way."""

    OPENING = auto()  #: connected; the client has not said hello
    GREETED = auto()  #: hello was said; the server has not answered
    ATTACHED = auto()  #: everything goes both ways
    LEAVING = auto()  #: the client said detach; the server finishes and says goodbye
    CLOSED = auto()  #: goodbye was said; nothing follows
    ERROR = auto()  #: somebody misspoke; nothing follows


class Pause(Enum):
    """What ``next_message`` gives when there is no message."""

    NEED_DATA = auto()  #: read more from the peer
    PEER_GONE = auto()  #: the peer has closed, between two frames or inside one


def _stay(state: State, *kinds: type[Message]) -> dict[type[Message], State]:
    return dict.fromkeys(kinds, state)


_NEWS = (
    Output, Gap, Resized, Input, Eof, Exit, StdinAck, StdinRefused, Writer, Notice, Ping, Pong,
    Done, Report, Error,
)  # fmt: skip
_WISHES = (
    Stdin, StdinEof, Credit, Size, Resize, Lease, Ping, Pong, Start, Signal, Status, Release,
    Rotate, Reopen,
)  # fmt: skip

#: state -> speaker -> message -> next state. A server may speak to a client that is leaving,
#: since the two cross on the way; a client that has said detach says nothing more.
CONVERSATION: dict[State, dict[Role, dict[type[Message], State]]] = {
    State.OPENING: {
        Role.CLIENT: {Hello: State.GREETED},
        Role.SERVER: {Goodbye: State.CLOSED},
    },
    State.GREETED: {
        Role.CLIENT: {},
        Role.SERVER: {Welcome: State.ATTACHED, Goodbye: State.CLOSED},
    },
    State.ATTACHED: {
        Role.CLIENT: {**_stay(State.ATTACHED, *_WISHES), Detach: State.LEAVING},
        Role.SERVER: {**_stay(State.ATTACHED, *_NEWS), Goodbye: State.CLOSED},
    },
    State.LEAVING: {
        Role.CLIENT: {},
        Role.SERVER: {**_stay(State.LEAVING, *_NEWS), Goodbye: State.CLOSED},
    },
    State.CLOSED: {Role.CLIENT: {}, Role.SERVER: {}},
    State.ERROR: {Role.CLIENT: {}, Role.SERVER: {}},
}


class Session:
    """One side of one conversation."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = State.OPENING
        self._decoder = FrameDecoder()
        self._peer_gone = False

    @property
    def held(self) -> int:
        """How many bytes of what was received are not taken yet."""
        return self._decoder.held

    @property
    def has_more(self) -> bool:
        """True when something of what was received is not taken yet."""
        return not self._decoder.at_boundary

    def receive_data(self, data: bytes) -> None:
        """Take what was read; ``b""`` says that the peer has closed."""
        if data:
            self._decoder.feed(data)
        else:
            self._peer_gone = True

    def next_message(self) -> Message | Pause:
        """Return the peer's next message, or why there is none yet.

        Messages of an unknown type are skipped. Raises RemoteProtocolError when the peer
        misspoke, and again at each later call.
        """
        if self.state is State.ERROR:
            raise RemoteProtocolError("the conversation has ended by an error")
        try:
            return self._next_known()
        except RemoteProtocolError:
            self.state = State.ERROR
            raise

    def send(self, message: Message) -> bytes:
        """Return the bytes of ``message``; raise LocalProtocolError when it is not our turn."""
        before = self.state
        try:
            self._advance(self.role, type(message))
        except ProtocolError as error:
            raise LocalProtocolError(str(error)) from None
        try:
            return encode_frame(encode(message))
        except LocalProtocolError:
            self.state = before  # it was not said
            raise

    def _next_known(self) -> Message | Pause:
        while (payload := self._decoder.next_frame()) is not None:
            message = decode(payload)
            if message is not None:
                self._advance(self.role.peer, type(message))
                return message
        return Pause.PEER_GONE if self._peer_gone else Pause.NEED_DATA

    def _advance(self, speaker: Role, kind: type[Message]) -> None:
        following = CONVERSATION[self.state][speaker].get(kind)
        if following is None:
            raise RemoteProtocolError(
                f"{speaker.value} may not say {kind.__name__} in state {self.state.name}"
            )
        self.state = following
