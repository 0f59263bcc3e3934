"""What a client remembers: where it is in the output, and which stdin has not arrived yet.

Pure, like the session below it: bytes in, bytes and events out. It outlives its connection.
After a lost one, ``hello`` opens the next at the same offset, and stdin goes on where the
server says that this client's bytes were accepted: nothing is lost, nothing is doubled.
"""

import secrets
from collections import deque

import attrs

from attachd.errors import AttachdError, Refused, UsageError
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd.wire.origin import parse_origin
from attachd.wire.session import VERSION, Pause, Role, Session, State

#: How much output may be under way: twice the largest message, so that the server can send one
#: while we take the other.
WINDOW = 1 << 20

#: One stdin message; small enough that acknowledgements come often.
STDIN_BYTES = 64 * 1024

#: What this library knows beyond the first version of the protocol.
FEATURES = ["exec", "input", "lease", "logs", "terminal"]

#: What refuses the end of stdin alone: it may be wanted again later.
_EOF_REFUSALS = ("leased", "eof_denied", "stdin_full")

Event = (
    say.Output
    | say.Gap
    | say.Resized
    | say.Input
    | say.Writer
    | say.Notice
    | say.Eof
    | say.Exit
)
Answer = say.Done | say.Report | say.Error | say.Pong


class Ended(AttachdError):
    """The server has said goodbye; ``code`` says why (protocol.md, "Errors")."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text or f"the server said goodbye: {code}")
        self.code = code


@attrs.define(eq=False)
class Conversation:
    """One client's talk with one shim, over as many connections as it takes."""

    since: str = "live"
    role: str = "full"
    flow: str = "gap"
    name: str = ""
    window: int = WINDOW
    size: Size = NO_SIZE  #: our own terminal, 0x0 without one
    stream_id: str = ""  #: the stream that ``since`` belongs to; empty: whichever is there
    exec: str = ""  #: which exec is meant; empty: the container's own program
    spec: say.Record = attrs.field(factory=dict)  #: not empty: have that exec made
    input: bool = False  #: tell what is written to stdin, too

    welcome: say.Welcome | None = None
    goodbye: say.Goodbye | None = None
    offset: int | None = None  #: the offset of the next byte we have not been given
    stdin_acked: int = 0  #: our bytes written to the container
    stdin_closed: bool = False  #: the server says that nothing more will be taken
    position: int = 0  #: like offset, but counts what was received and not yet taken, too
    exited: bool = False  #: the exit record was received
    refusal: say.Error | say.StdinRefused | None = None  #: why stdin was not taken
    drops: int = 0  #: how often stdin was not taken
    writer: str = ""  #: who alone may write
    may_write: bool = True  #: we may, as far as we know

    _key: bytes = attrs.field(factory=lambda: secrets.token_bytes(16))
    _session: Session = attrs.field(factory=lambda: Session(Role.CLIENT))
    _events: deque[Event] = attrs.field(factory=deque)
    _ended: set[str] = attrs.field(factory=set)
    _answers: dict[int, Answer] = attrs.field(factory=dict)
    _outgoing: bytearray = attrs.field(factory=bytearray)
    _unacked: bytearray = attrs.field(factory=bytearray)
    _stdin_sent: int = 0
    _eof_at: int | None = None  #: where our bytes end; at a terminal the end counts beyond it
    _eof_sent: bool = False
    _ungranted: int = 0
    _last_id: int = 0
    _lease: str = ""  #: the lease that we asked for last: take, wait or steal
    _lease_id: int = 0

    # The connection

    def hello(self) -> bytes:
        """Begin on a fresh connection; return the bytes to send first."""
        self._session = Session(Role.CLIENT)
        self._outgoing.clear()
        self._ungranted = 0
        resumed = self.welcome is not None and self.since != "none"
        buffered = sum(len(e.data) for e in self._events if isinstance(e, say.Output))
        return self._session.send(
            say.Hello(
                version=VERSION,
                features=FEATURES,
                role=self.role,
                columns=self.size.columns,
                rows=self.size.rows,
                since=f"offset:{self.position}" if resumed else self.since,
                flow=self.flow,
                credit=max(0, self.window - buffered),
                name=self.name,
                key=self._key,
                stream_id=self._meant_stream,
                exec=self.execution,
                spec={} if self.welcome else self.spec,
                input=self.input,
            )
        )

    def receive_data(self, data: bytes) -> bool:
        """Take what was read; return False when the connection is over.

        Raises RemoteProtocolError when the server misspoke.
        """
        self._session.receive_data(data)
        while True:
            message = self._session.next_message()
            if isinstance(message, Pause):
                return message is Pause.NEED_DATA
            self._hear(message)

    def outgoing(self) -> bytes:
        """Return what is to be sent now; it counts as sent."""
        if self._session.state is not State.ATTACHED:
            rest = bytes(self._outgoing)
            self._outgoing.clear()
            return rest
        self._grant()
        self._send_stdin()
        rest = bytes(self._outgoing)
        self._outgoing.clear()
        return rest

    def check_stream(self, record: say.Record | None) -> None:
        """Raise Ended (``other_stream``) when an exit record is another container's."""
        found = (record or {}).get("stream_id")
        if self._meant_stream and found not in (None, self._meant_stream):
            raise Ended("other_stream", "this container is not the one the offset belongs to")

    @property
    def execution(self) -> str:
        """The exec's name, which the server may have chosen; empty for the container's own."""
        return self.welcome.exec if self.welcome else self.exec

    @property
    def _meant_stream(self) -> str:
        """Whose offsets ours are; empty when we have none yet."""
        resumed = self.welcome is not None and self.since != "none"
        return self.welcome.stream_id if self.welcome and resumed else self.stream_id

    @property
    def attached(self) -> bool:
        """True between welcome and the end of this connection."""
        return self._session.state is State.ATTACHED

    # Output

    def take(self) -> Event | None:
        """Return the next event, or None; what is taken is granted again to the server."""
        if not self._events:
            return None
        event = self._events.popleft()
        if isinstance(event, say.Output):
            self._ungranted += len(event.data)
        return self.given(event)

    def begin_at(self, since: str) -> None:
        """The container's files answer from there on; where that is, only an offset tells."""
        origin = parse_origin(since)
        if self.offset is None and origin.kind == "offset":
            self.offset = origin.number

    def given(self, event: Event) -> Event:
        """Return an event that is about to be given to the caller, from wherever it is."""
        if isinstance(event, say.Output):
            self.offset = event.offset + len(event.data)
        elif isinstance(event, say.Gap):
            self.offset = event.end
        return event

    # stdin

    @property
    def stdin_end(self) -> int:
        """How many bytes were written to this conversation in all."""
        return self.stdin_acked + len(self._unacked)

    @property
    def stdin_pending(self) -> int:
        """How many of them are not in the container yet."""
        return len(self._unacked)

    def write(self, data: bytes) -> None:
        """Queue stdin; it is kept until it is acknowledged."""
        self._unacked += data

    def write_eof(self) -> None:
        """Close the container's stdin after what was written."""
        self._eof_at = self.stdin_end

    @property
    def eof_refusal(self) -> say.Error | say.StdinRefused | None:
        """Why the end that ``write_eof`` wanted was not taken; None while it was or may be."""
        final = self.refusal is not None and self.refusal.code == "denied"
        return self.refusal if final or self._eof_at is None else None

    def set_size(self, size: Size) -> None:
        """Our own terminal has this size now."""
        self.size = size
        if self.attached and size.usable:
            self._say(say.Size(columns=size.columns, rows=size.rows))

    # Requests

    def request_of(self, feature: str, kind: type[say.Rotate | say.Reopen]) -> int:
        """Queue a request that only shims with ``feature`` know; raises Refused for others.

        An older one would skip it, and never answer.
        """
        if self.welcome is not None and feature not in self.welcome.features:
            raise _too_old(feature)
        return self.request(kind)

    def request(
        self,
        kind: type[say.Start | say.Status | say.Release | say.Ping | say.Rotate | say.Reopen],
    ) -> int:
        """Queue a request; return its id, under which ``answer`` will be."""
        self._last_id += 1
        self._say(kind(id=self._last_id))
        return self._last_id

    def request_signal(self, number: int) -> int:
        """Queue a signal; return its id."""
        self._last_id += 1
        self._say(say.Signal(id=self._last_id, number=int(number)))
        return self._last_id

    def request_resize(self, size: Size) -> int:
        """Queue a wish for the size of the container's terminal; return its id."""
        self._last_id += 1
        self._say(say.Resize(id=self._last_id, columns=size.columns, rows=size.rows))
        return self._last_id

    def request_lease(self, mode: str) -> int:
        """Queue a wish to be the only one who writes, or not any more; return its id.

        It is asked for again when the connection was lost and made again.
        """
        self._last_id += 1
        self._lease, self._lease_id = ("" if mode == "free" else mode), self._last_id
        self._say(say.Lease(id=self._last_id, mode=mode))
        return self._last_id

    def answer(self, number: int) -> Answer | None:
        """Return the answer to request ``number`` once, or None while there is none."""
        return self._answers.pop(number, None)

    def detach(self) -> None:
        """Say that we are leaving; nothing can be said after it."""
        if self._session.state is State.ATTACHED:
            self._send_stdin()
            self._say(say.Detach())

    # Inside

    def _say(self, message: say.Message) -> None:
        self._outgoing += self._session.send(message)

    def _hear(self, message: say.Message) -> None:
        match message:
            case say.Welcome():
                self._begin(message)
            case say.Output():
                self.position = message.offset + len(message.data)
                self._events.append(message)
            case say.Gap():
                self.position = message.end
                self._events.append(message)
            case say.Eof():
                if message.stream not in self._ended:
                    self._ended.add(message.stream)
                    self._events.append(message)
            case say.Exit():
                if not self.exited:
                    self.exited = True
                    self._events.append(message)
            case say.Resized() | say.Notice() | say.Input():
                self._events.append(message)
            case say.Writer():
                self._heed_writer(message)
            case say.StdinAck():
                self._acknowledge(message)
            case say.StdinRefused():
                self._drop_stdin(message)
            case say.Error(id=0):
                self.refusal = message
                self.stdin_closed |= message.code in ("stdin_closed", "denied")
                if message.code in _EOF_REFUSALS:
                    self._forget_eof()
            case say.Done() | say.Report() | say.Error() | say.Pong():
                if isinstance(message, say.Error) and message.id == self._lease_id:
                    self._lease = ""
                self._answers[message.id] = message
            case say.Ping():
                if self._session.state is State.ATTACHED:
                    self._say(say.Pong(id=message.id, newest=0))
            case say.Goodbye():
                self.goodbye = message
            case _:
                raise AssertionError(f"the session let {type(message).__name__} through")

    def _begin(self, welcome: say.Welcome) -> None:
        for feature, wanted in (("exec", self.exec or self.spec), ("input", self.input)):
            if wanted and feature not in welcome.features:
                raise _too_old(feature)
        if self.welcome is None:
            self.offset = self.position = welcome.offset
        self.welcome = welcome
        self.stdin_closed = welcome.stdin == "closed"
        self._stdin_sent = max(welcome.stdin_offset, self.stdin_acked)
        self._eof_sent = False
        if (self.writer, self.may_write) != (welcome.writer, welcome.may_write):
            self.writer, self.may_write = welcome.writer, welcome.may_write
            self._events.append(say.Writer(name=self.writer, you=self.may_write))
        if self._lease:
            self._say(say.Lease(id=self._lease_id, mode=self._lease))

    def _heed_writer(self, message: say.Writer) -> None:
        """Note who may write. Whoever was robbed asks for nothing again, and only looks."""
        if self._lease and self.may_write and not message.you:
            self._lease, self.role = "", "viewer"
        self.writer, self.may_write = message.name, message.you
        self._events.append(message)

    def _drop_stdin(self, refused: say.StdinRefused) -> None:
        """Forget what was not taken; what is written from now on begins there."""
        self.refusal = refused
        self.drops += 1
        del self._unacked[max(0, refused.offset - self.stdin_acked) :]
        self._stdin_sent = refused.offset
        self._forget_eof()

    def _forget_eof(self) -> None:
        self._eof_at, self._eof_sent = None, False

    def _acknowledge(self, ack: say.StdinAck) -> None:
        fresh = ack.offset - self.stdin_acked
        if fresh > 0:
            del self._unacked[:fresh]
            self.stdin_acked = ack.offset
            self._stdin_sent = max(
                self._stdin_sent, ack.offset
            )  # a terminal's end counts, too
        self.stdin_closed |= ack.eof

    def _grant(self) -> None:
        if self._ungranted and self._ungranted >= self.window // 4:
            self._say(say.Credit(bytes=self._ungranted))
            self._ungranted = 0

    def _send_stdin(self) -> None:
        """Send what the window allows, then the end when it is wanted."""
        if self.welcome is None or self.stdin_closed:
            return
        limit = self.stdin_acked + self.welcome.stdin_window
        while self._stdin_sent < min(self.stdin_end, limit):
            begin = self._stdin_sent - self.stdin_acked
            size = min(STDIN_BYTES, limit - self._stdin_sent)
            data = bytes(self._unacked[begin : begin + size])
            self._say(say.Stdin(offset=self._stdin_sent, data=data))
            self._stdin_sent += len(data)
        if (
            self._eof_at is not None
            and not self._eof_sent
            and self._stdin_sent >= self._eof_at
        ):
            self._say(say.StdinEof(offset=self._eof_at))
            self._eof_sent = True


def whole(spec: say.Record | None) -> say.Record:
    """Return a spec; raises UsageError for an empty one, which would mean no exec at all."""
    if spec is not None and not spec.get("argv"):
        raise UsageError("an exec's spec says what to execute: {'argv': [...], ...}")
    return spec or {}


def _too_old(feature: str) -> Refused:
    return Refused("unsupported", f"this shim is too old for that: no feature {feature!r}")
