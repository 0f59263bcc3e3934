"""The conversation, back to back with a server in memory that is stricter than a real one."""

import itertools

import attrs
import pytest
from attachd_clients.conversation import Conversation, Ended, Event
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused, RemoteProtocolError
from attachd.wire import messages as say
from attachd.wire.frames import FrameDecoder, encode_frame
from attachd.wire.origin import parse_origin
from attachd.wire.session import VERSION, Pause, Role, Session, State

STREAM_ID = "00112233445566778899aabbccddeeff"
RECORD = {"schema": 1, "reason": "exited", "exit_code": 7, "signal": None}
STREAMS = ("stdout", "stderr")


@attrs.define(eq=False)
class Clerk:
    """A shim that outlives its connections; a client that breaks a rule fails the test.

    stdin goes through three places, as in the real one: the queue (lost when the server dies),
    the file, the container.
    """

    output: bytearray = attrs.field(default=b"", converter=bytearray)
    turn: int = 1 << 62  #: output from this offset on is stderr's
    oldest: int = 0
    chunk: int = 5
    ended: bool = False
    stdin_window: int = 512 * 1024

    accepted: bytearray = attrs.field(factory=bytearray)  #: queue, file and container
    filed: int = 0
    delivered: int = 0
    eof_queued: bool = False
    eof_taken: bool = False
    heard: list[say.Message] = attrs.field(factory=list)
    session: Session = attrs.field(factory=lambda: Session(Role.SERVER))
    cursor: int | None = None
    credit: int = 0
    _words: bytearray = attrs.field(factory=bytearray)
    _told: set[str] = attrs.field(factory=set)

    @property
    def hellos(self) -> list[say.Hello]:
        return [message for message in self.heard if isinstance(message, say.Hello)]

    def connect(self) -> None:
        """Forget the connection before, and what was still to be said in it."""
        self.session = Session(Role.SERVER)
        self.cursor, self.credit = None, 0
        self._words.clear()
        self._told.clear()

    def die(self) -> None:
        """Be another process: what was only in the queue is gone."""
        del self.accepted[self.filed :]
        self.eof_queued = False
        self.connect()

    def hear(self, data: bytes) -> None:
        """Take what the client sent."""
        if data:
            self.session.receive_data(data)
        while not isinstance(message := self.session.next_message(), Pause):
            self.heard.append(message)
            self._obey(message)

    def tell(self, message: say.Message) -> None:
        self._words += self.session.send(message)

    def words(self) -> bytes:
        """Return all that can be said now: answers, output within the credit, the ends."""
        while self.session.state is State.ATTACHED and (news := self._news()) is not None:
            self.tell(news)
        return self.answers()

    def answers(self) -> bytes:
        """Return what was told already, and none of the output."""
        words = bytes(self._words)
        self._words.clear()
        return words

    def file(self, count: int) -> None:
        """Move up to ``count`` bytes from the queue to the file; then the end, if it is next."""
        self.filed = min(self.filed + count, len(self.accepted))
        if self.eof_queued and not self.eof_taken and self.filed == len(self.accepted):
            self.eof_taken = True
            if self.filed == self.delivered:
                self._acknowledge()

    def deliver(self, count: int) -> None:
        """Move up to ``count`` bytes from the file to the container, and acknowledge them."""
        before = self.delivered
        self.delivered = min(self.delivered + count, self.filed)
        if self.delivered > before:
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self.session.state is State.ATTACHED:
            self.tell(say.StdinAck(offset=self.delivered, eof=self.eof_taken))

    def _obey(self, message: say.Message) -> None:
        match message:
            case say.Hello():
                self._welcome(message)
                self._acknowledge()
            case say.Stdin():
                end = message.offset + len(message.data)
                assert message.data, "an empty message says nothing"
                assert message.offset <= len(self.accepted), "a hole in stdin"
                assert end <= self.delivered + self.stdin_window, "stdin beyond the window"
                assert end <= len(self.accepted) or not self.eof_queued, "stdin after its end"
                self.accepted += message.data[len(self.accepted) - message.offset :]
            case say.StdinEof():
                assert message.offset == len(self.accepted), "that is not where stdin ends"
                self.eof_queued = True
            case say.Credit():
                assert message.bytes > 0, "an empty grant says nothing"
                self.credit += message.bytes
            case say.Start() | say.Signal() | say.Release():
                self.tell(say.Done(id=message.id))
            case say.Status():
                self.tell(say.Report(id=message.id, report={"phase": "running"}))
            case say.Ping():
                self.tell(say.Pong(id=message.id, newest=len(self.output)))
            case say.Detach():
                self.tell(say.Goodbye(code="detached", text=""))

    def _welcome(self, hello: say.Hello) -> None:
        self.credit = hello.credit
        origin = parse_origin(hello.since)
        known = {"start": 0, "offset": origin.number}
        offset = known.get(origin.kind, len(self.output))
        self.cursor = None if origin.kind == "none" else offset
        self.tell(
            say.Welcome(
                version=VERSION,
                features=[],
                id="web",
                phase="running",
                terminal=False,
                stream_id=STREAM_ID,
                oldest=self.oldest,
                newest=len(self.output),
                offset=offset,
                stdin="closed" if self.eof_taken else "open",
                stdin_offset=len(self.accepted),
                stdin_window=self.stdin_window,
                max_frame=1 << 20,
                max_data=256 * 1024,
            )
        )

    def _news(self) -> say.Message | None:
        if self.cursor is not None and self.cursor < len(self.output):
            return self._more(self.cursor)
        if not self.ended:
            return None
        for stream in STREAMS if self.cursor is not None else ():
            if stream not in self._told:
                self._told.add(stream)
                return say.Eof(stream=stream)
        if "exit" not in self._told:
            self._told.add("exit")
            return say.Exit(record=RECORD)
        return None

    def _more(self, start: int) -> say.Message | None:
        if not self.credit:
            return None
        if start < self.oldest:
            self.cursor = self.oldest
            return say.Gap(start=start, end=self.oldest)
        end = min(start + min(self.chunk, self.credit), len(self.output))
        if start < self.turn:
            end = min(end, self.turn)
        self.cursor = end
        self.credit -= end - start
        stream = STREAMS[start >= self.turn]
        return say.Output(
            offset=start, stream=stream, time=start, data=bytes(self.output[start:end])
        )


def connect(talk: Conversation, clerk: Clerk) -> None:
    """Lose the connection, if there was one, and make another."""
    clerk.connect()
    clerk.hear(talk.hello())


def settle(talk: Conversation, clerk: Clerk) -> list[Event]:
    """Let both say what they have until neither has more; return the events, in order."""
    events: list[Event] = []
    while True:
        heard = talk.outgoing()
        clerk.hear(heard)
        clerk.file(1 << 30)
        clerk.deliver(1 << 30)
        said = clerk.words()
        if said:
            talk.receive_data(said)
        while (event := talk.take()) is not None:
            events.append(event)
        if not heard and not said:
            return events


def attached(clerk: Clerk, **options: object) -> Conversation:
    """Return a conversation that has been welcomed, with nothing else said yet."""
    talk = Conversation(**options)
    connect(talk, clerk)
    talk.receive_data(clerk.answers())
    return talk


def joined(events: list[Event]) -> bytes:
    """Return the output in ``events``; fail when an offset does not follow the one before."""
    outputs = [event for event in events if isinstance(event, say.Output)]
    for before, after in itertools.pairwise(outputs):
        assert after.offset == before.offset + len(before.data)
    return b"".join(output.data for output in outputs)


def of(kind: type[say.Message], messages: list) -> list:
    """Return the messages of one kind."""
    return [message for message in messages if isinstance(message, kind)]


# The first words


def test_the_first_hello_says_what_was_asked_for() -> None:
    """Where to start, as what, how much; the key has 16 bytes, and no stream is known yet."""
    talk = Conversation(since="tail:3", role="viewer", flow="disconnect", name="me", window=99)
    clerk = Clerk()
    clerk.hear(talk.hello())
    hello = clerk.hellos[0]

    assert (hello.version, hello.since, hello.role) == (VERSION, "tail:3", "viewer")
    assert (hello.flow, hello.name, hello.credit) == ("disconnect", "me", 99)
    assert (len(hello.key), hello.stream_id) == (16, "")


def test_two_conversations_are_two_writers() -> None:
    """A key is made up for each; no two are the same."""
    clerk = Clerk()
    for _ in range(2):
        clerk.connect()
        clerk.hear(Conversation().hello())

    assert clerk.hellos[0].key != clerk.hellos[1].key


def test_nothing_is_said_between_hello_and_welcome() -> None:
    """stdin that was written early waits for the welcome."""
    talk, clerk = Conversation(), Clerk()
    talk.write(b"early")
    talk.write_eof()
    clerk.hear(talk.hello())

    assert talk.outgoing() == b""
    assert not talk.attached

    talk.receive_data(clerk.words())

    assert talk.attached
    settle(talk, clerk)
    assert (bytes(clerk.accepted), clerk.eof_taken) == (b"early", True)


# Output


def test_output_ends_and_record_come_in_order() -> None:
    """Every byte, then each stream's end, then the exit record."""
    clerk = Clerk(output=b"out and err", turn=8, ended=True)
    talk = attached(clerk, since="start")
    events = settle(talk, clerk)

    assert joined(events) == b"out and err"
    assert [event.stream for event in of(say.Output, events)] == ["stdout"] * 2 + ["stderr"]
    assert events[-3:] == [say.Eof(stream=s) for s in STREAMS] + [say.Exit(record=RECORD)]
    assert talk.exited


def test_a_gap_moves_the_offset_on() -> None:
    """What was overwritten is told, and not asked for again after a lost connection."""
    clerk = Clerk(output=b"x" * 30, oldest=20)
    talk = attached(clerk, since="start")
    events = settle(talk, clerk)

    assert events[0] == say.Gap(start=0, end=20)
    assert talk.offset == 30


def test_a_gap_alone_is_where_the_next_hello_goes_on() -> None:
    """Also when it was received and not taken yet."""
    clerk = Clerk(output=b"x" * 30)
    talk = attached(clerk, since="start")
    clerk.tell(say.Gap(start=0, end=20))
    clerk.cursor = 30
    talk.receive_data(clerk.words())

    assert (talk.offset, talk.position) == (0, 20)
    connect(talk, clerk)
    assert clerk.hellos[-1].since == "offset:20"
    assert talk.take() == say.Gap(start=0, end=20)
    assert talk.offset == 20


def test_offset_counts_what_was_taken_and_position_what_was_received() -> None:
    """A caller that stops knows where it stopped; the connection knows what it needs not ask."""
    clerk = Clerk(output=b"0123456789")
    talk = attached(clerk, since="start")
    talk.receive_data(clerk.words())

    assert (talk.offset, talk.position) == (0, 10)
    assert talk.take() == say.Output(offset=0, stream="stdout", time=0, data=b"01234")
    assert (talk.offset, talk.position) == (5, 10)


def test_since_live_begins_where_the_welcome_says() -> None:
    """Nothing of the past, and its offset is known before the first byte."""
    clerk = Clerk(output=b"past")
    talk = attached(clerk, since="live")

    assert talk.offset == 4
    clerk.output += b" and now"
    assert joined(settle(talk, clerk)) == b" and now"


def test_since_none_sees_only_the_exit_and_says_so_again_after_a_lost_connection() -> None:
    """A control client is never sent output, resumed or not."""
    clerk = Clerk(output=b"past")
    talk = attached(clerk, since="none")
    connect(talk, clerk)
    clerk.ended = True
    events = settle(talk, clerk)

    assert [hello.since for hello in clerk.hellos] == ["none", "none"]
    assert [hello.stream_id for hello in clerk.hellos] == ["", ""]
    assert events == [say.Exit(record=RECORD)]


# Credit


def test_what_was_taken_is_granted_again() -> None:
    """A window far smaller than the output is no obstacle, as long as somebody takes it."""
    output = bytes(range(256)) * 4
    clerk = Clerk(output=output, chunk=100)
    talk = attached(clerk, since="start", window=64)

    assert joined(settle(talk, clerk)) == output


def test_what_is_not_taken_is_not_granted() -> None:
    """A caller that does not take gets a window full and no more."""
    clerk = Clerk(output=bytes(500))
    talk = attached(clerk, since="start", window=64)
    for _ in range(20):
        talk.receive_data(clerk.words())
        clerk.hear(talk.outgoing())

    assert talk.position == 64
    assert not of(say.Credit, clerk.heard)


def test_what_waits_to_be_taken_is_not_granted_in_the_next_hello() -> None:
    """Reconnecting is no way around the window."""
    clerk = Clerk(output=bytes(500))
    talk = attached(clerk, since="start", window=64)
    talk.receive_data(clerk.words())
    talk.take()
    connect(talk, clerk)

    assert clerk.hellos[-1].credit == 5
    assert clerk.hellos[-1].since == "offset:64"

    del clerk.output[64:]
    talk.receive_data(clerk.answers())
    while talk.take():
        pass
    clerk.hear(talk.outgoing())
    assert clerk.credit == 64


# stdin


def test_stdin_is_kept_until_it_is_acknowledged() -> None:
    """Sent is not delivered; pending says how much is under way."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write(b"abcdef")
    clerk.hear(talk.outgoing())
    clerk.file(6)

    assert (talk.stdin_end, talk.stdin_pending, talk.stdin_acked) == (6, 6, 0)
    clerk.deliver(4)
    talk.receive_data(clerk.words())
    assert (talk.stdin_end, talk.stdin_pending, talk.stdin_acked) == (6, 2, 4)


def test_stdin_stops_at_the_window_and_goes_on_with_the_acknowledgements() -> None:
    """No byte is sent that is farther ahead than the welcome allows."""
    clerk = Clerk(stdin_window=10)
    talk = attached(clerk)
    talk.write(bytes(range(25)))
    clerk.hear(talk.outgoing())
    assert len(clerk.accepted) == 10

    clerk.file(10)
    clerk.deliver(3)
    talk.receive_data(clerk.words())
    clerk.hear(talk.outgoing())
    assert len(clerk.accepted) == 13

    settle(talk, clerk)
    assert bytes(clerk.accepted) == bytes(range(25))


def test_the_end_of_stdin_waits_for_its_last_byte() -> None:
    """stdin_eof is not said while the window holds bytes back."""
    clerk = Clerk(stdin_window=10)
    talk = attached(clerk)
    talk.write(bytes(11))
    talk.write_eof()
    clerk.hear(talk.outgoing())

    assert not of(say.StdinEof, clerk.heard)
    settle(talk, clerk)
    assert of(say.StdinEof, clerk.heard) == [say.StdinEof(offset=11)]
    assert talk.stdin_closed


def test_after_a_lost_connection_stdin_goes_on_where_the_server_says() -> None:
    """What was accepted is not sent again; what was not, is, once."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write(b"abcdef")
    clerk.hear(talk.outgoing())
    clerk.file(4)
    clerk.deliver(2)
    clerk.die()
    clerk.hear(talk.hello())
    talk.receive_data(clerk.words())
    clerk.heard.clear()
    settle(talk, clerk)

    assert of(say.Stdin, clerk.heard) == [say.Stdin(offset=4, data=b"ef")]
    assert bytes(clerk.accepted) == b"abcdef"


def test_an_end_that_was_lost_is_said_again() -> None:
    """stdin_eof has no acknowledgement of its own until it is taken."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write(b"abc")
    talk.write_eof()
    clerk.hear(talk.outgoing())
    clerk.die()
    clerk.hear(talk.hello())
    settle(talk, clerk)

    assert (bytes(clerk.accepted), clerk.eof_taken) == (b"abc", True)


@pytest.mark.parametrize("code", ["stdin_closed", "denied"])
def test_a_refusal_of_stdin_is_final(code: str) -> None:
    """Nothing more is sent after it, and it is there to be shown."""
    clerk = Clerk()
    talk = attached(clerk)
    clerk.tell(say.Error(id=0, code=code, text="no"))
    talk.receive_data(clerk.words())
    talk.write(b"more")

    assert talk.outgoing() == b""
    assert talk.stdin_closed
    assert talk.refusal == say.Error(id=0, code=code, text="no")


@pytest.mark.parametrize("code", ["eof_denied", "leased", "stdin_full"])
def test_an_end_that_is_refused_is_forgotten_until_it_is_wanted_again(code: str) -> None:
    """It is not said to the next server either; bytes go on being sent."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write_eof()
    clerk.hear(talk.outgoing())
    assert talk.eof_refusal is None
    clerk.tell(say.Error(id=0, code=code, text="no"))
    talk.receive_data(clerk.words())

    assert talk.eof_refusal == say.Error(id=0, code=code, text="no")
    assert not talk.stdin_closed
    talk.write(b"more")
    assert messages_of(talk.outgoing()) == [say.Stdin(offset=0, data=b"more")]
    talk.write_eof()
    assert talk.eof_refusal is None
    assert messages_of(talk.outgoing()) == [say.StdinEof(offset=4)]


def test_the_end_that_a_viewer_wants_is_refused_for_good() -> None:
    """It is no success that nothing more may be written."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write_eof()
    clerk.tell(say.Error(id=0, code="denied", text="no"))
    talk.receive_data(clerk.words())

    assert talk.eof_refusal == say.Error(id=0, code="denied", text="no")


def test_a_closed_stdin_is_not_written_to() -> None:
    """The welcome says that nobody reads."""
    clerk = Clerk(eof_taken=True)
    talk = attached(clerk)
    talk.write(b"more")
    talk.write_eof()
    settle(talk, clerk)

    assert not of(say.Stdin, clerk.heard) + of(say.StdinEof, clerk.heard)


# Lost connections


def test_resuming_asks_for_the_next_byte_of_the_same_stream() -> None:
    """By offset, with the stream's id and the same key, so that stdin is recognised."""
    clerk = Clerk(output=b"0123456789")
    talk = attached(clerk, since="tail:1")
    clerk.cursor = 0
    talk.receive_data(clerk.words())
    connect(talk, clerk)
    first, second = clerk.hellos

    assert (second.since, second.stream_id) == ("offset:10", STREAM_ID)
    assert second.key == first.key


def test_a_connection_lost_before_the_welcome_is_made_again_as_it_was() -> None:
    """Nothing is known yet, so the same is asked again."""
    talk, clerk = Conversation(since="tail:5"), Clerk()
    connect(talk, clerk)
    assert talk.receive_data(b"") is False
    connect(talk, clerk)

    assert [hello.since for hello in clerk.hellos] == ["tail:5", "tail:5"]


def test_ends_and_exit_are_told_once_however_often_they_arrive() -> None:
    """A successor tells them again; the caller has heard."""
    clerk = Clerk(output=b"bye", ended=True)
    talk = attached(clerk, since="start")
    events = settle(talk, clerk)
    for _ in range(3):
        connect(talk, clerk)
        events += settle(talk, clerk)

    assert [type(event) for event in events] == [say.Output, say.Eof, say.Eof, say.Exit]


def test_a_frame_that_was_cut_off_is_forgotten() -> None:
    """Half a message of the lost connection does not spoil the next one."""
    clerk = Clerk(output=b"0123456789")
    talk = attached(clerk, since="start")
    talk.receive_data(clerk.words()[:-3])
    assert talk.receive_data(b"") is False
    connect(talk, clerk)

    assert joined([e for e in (talk.take(),) if e] + settle(talk, clerk)) == clerk.output


def test_what_was_not_sent_is_not_said_to_the_next_server() -> None:
    """A request belongs to its connection; nothing of it precedes the next hello."""
    talk, clerk = attached(Clerk()), Clerk()
    talk.request(say.Start)
    connect(talk, clerk)

    assert talk.outgoing() == b""
    settle(talk, clerk)
    assert not of(say.Start, clerk.heard)


WRITES = st.binary(min_size=1, max_size=12)
STEPS = st.one_of(
    st.tuples(st.just("write"), WRITES),
    st.tuples(st.sampled_from(["up", "down"]), st.integers(1, 600)),  # a hello has 120 bytes
    st.tuples(st.sampled_from(["file", "deliver"]), st.integers(1, 20)),
    st.tuples(st.sampled_from(["take", "cut", "die", "eof", "grow"]), st.none()),
)


@given(
    steps=st.lists(STEPS, min_size=40, max_size=120),
    output=st.binary(max_size=120),
    turn=st.integers(0, 120),
    window=st.integers(4, 50),
    stdin_window=st.integers(1, 20),
)
def test_no_byte_is_lost_or_doubled_wherever_connections_are_cut(
    steps: list, output: bytes, turn: int, window: int, stdin_window: int
) -> None:
    """Both ways, any connection cut inside any frame, any server dying with a queue of stdin."""
    clerk = Clerk(turn=turn, stdin_window=stdin_window)
    talk = Conversation(since="start", window=window)
    events: list[Event] = []
    written, closed = b"", False
    up, down = bytearray(talk.hello()), bytearray()
    for step, value in steps:
        up += talk.outgoing()
        if step == "write" and not closed:
            talk.write(value)
            written += value
        elif step == "eof":
            talk.write_eof()
            closed = True
        elif step == "up":
            clerk.hear(bytes(up[:value]))
            del up[:value]
        elif step == "down":
            down += clerk.words()
            if down:
                talk.receive_data(bytes(down[:value]))
            del down[:value]
        elif step in ("file", "deliver"):
            getattr(clerk, step)(value)
        elif step == "take":
            events += [event for event in [talk.take()] if event]
        elif step == "grow":
            clerk.output += output[len(clerk.output) :][:17]
        elif step in ("cut", "die"):
            talk.receive_data(b"")
            clerk.connect() if step == "cut" else clerk.die()
            up, down = bytearray(talk.hello()), bytearray()
        if clerk.session.state is State.ATTACHED:
            assert clerk.credit + (clerk.cursor or 0) - (talk.offset or 0) <= window
    talk.receive_data(b"")
    clerk.output, clerk.ended = bytearray(output), True
    connect(talk, clerk)
    while (event := talk.take()) is not None:
        events.append(event)
    events += settle(talk, clerk)

    assert joined(events) == output
    assert [type(e) for e in events if not isinstance(e, say.Output)] == [
        say.Eof,
        say.Eof,
        say.Exit,
    ]
    assert isinstance(events[-1], say.Exit)
    assert bytes(clerk.accepted) == written
    assert (talk.stdin_acked, talk.stdin_pending) == (len(written), 0)
    assert clerk.eof_taken == talk.stdin_closed == closed


# Requests


def test_each_request_finds_its_own_answer() -> None:
    """By id, in whatever order they come, and once."""
    clerk = Clerk(output=b"12345")
    talk = attached(clerk, since="none")
    ping, status = talk.request(say.Ping), talk.request(say.Status)
    kill, start = talk.request_signal(9), talk.request(say.Start)
    assert talk.answer(ping) is None
    settle(talk, clerk)

    assert talk.answer(start) == say.Done(id=start)
    assert talk.answer(kill) == say.Done(id=kill)
    assert talk.answer(status) == say.Report(id=status, report={"phase": "running"})
    assert talk.answer(ping) == say.Pong(id=ping, newest=5)
    assert talk.answer(ping) is None
    assert of(say.Signal, clerk.heard) == [say.Signal(id=kill, number=9)]


def test_a_refused_request_is_not_a_refusal_of_stdin() -> None:
    """An error with an id belongs to that request alone."""
    clerk = Clerk()
    talk = attached(clerk)
    clerk.tell(say.Error(id=1, code="denied", text="no"))
    talk.receive_data(clerk.words())

    assert talk.answer(1) == say.Error(id=1, code="denied", text="no")
    assert talk.refusal is None
    assert not talk.stdin_closed


def test_a_ping_of_the_server_is_answered() -> None:
    """With its id, and 0 for the offset that only a server knows."""
    clerk = Clerk()
    talk = attached(clerk)
    clerk.tell(say.Ping(id=5))
    talk.receive_data(clerk.words())
    clerk.hear(talk.outgoing())

    assert clerk.heard[-1] == say.Pong(id=5, newest=0)


def test_a_ping_that_crosses_a_detach_does_no_harm() -> None:
    """A client that has said detach says nothing more, and does not stumble over it."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.detach()
    talk.outgoing()
    clerk.tell(say.Ping(id=5))

    assert talk.receive_data(clerk.words()) is True


# Leaving


def test_a_detach_comes_after_the_stdin_that_was_written() -> None:
    """Leaving loses nothing that the window lets through; the goodbye is heard."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write(b"last words")
    talk.detach()
    clerk.hear(talk.outgoing())
    talk.receive_data(clerk.words())

    assert bytes(clerk.accepted) == b"last words"
    assert talk.goodbye == say.Goodbye(code="detached", text="")
    assert not talk.attached


def test_output_that_crosses_a_detach_is_still_told() -> None:
    """What was under way arrives; the offset is right to the end."""
    clerk = Clerk(output=b"0123456789")
    talk = attached(clerk, since="start")
    under_way = clerk.words()
    talk.detach()
    talk.outgoing()
    talk.receive_data(under_way)

    assert talk.position == 10


def test_a_detach_without_a_connection_says_nothing() -> None:
    """Before the welcome, and after the goodbye."""
    talk, clerk = Conversation(), Clerk()
    talk.detach()
    assert talk.outgoing() == b""

    connect(talk, clerk)
    clerk.tell(say.Goodbye(code="ended", text="it goes"))
    talk.receive_data(clerk.words())
    talk.detach()
    assert talk.outgoing() == b""


def test_a_goodbye_instead_of_a_welcome_is_kept() -> None:
    """A refusal reaches the caller with its code and text."""
    talk, server = Conversation(), Session(Role.SERVER)
    server.receive_data(talk.hello())
    server.next_message()
    talk.receive_data(server.send(say.Goodbye(code="denied", text="not you")))

    assert talk.goodbye == say.Goodbye(code="denied", text="not you")
    assert talk.welcome is None


def test_ended_has_words_even_when_the_server_had_none() -> None:
    """An error without a text is shown to nobody."""
    assert str(Ended("slow", "too slow")) == "too slow"
    assert str(Ended("slow", "")) == "the server said goodbye: slow"
    assert Ended("slow", "").code == "slow"


# A server that misspeaks


@pytest.mark.parametrize(
    "words",
    [
        encode_frame(say.encode(say.Exit(record=RECORD))),
        encode_frame(b"\xc1"),
        b"\xff\xff\xff\xff",
    ],
    ids=["too-early", "garbage", "too-long"],
)
def test_a_server_that_misspeaks_is_told_apart(words: bytes) -> None:
    """RemoteProtocolError, and again at the next read."""
    talk = Conversation()
    talk.hello()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            talk.receive_data(words)


def test_messages_of_a_newer_server_are_skipped() -> None:
    """A type that we do not know is no reason to end."""
    clerk = Clerk(output=b"hello")
    talk = attached(clerk, since="start")
    talk.receive_data(encode_frame(b"\x81\xa4type\xa6parade"))

    assert joined(settle(talk, clerk)) == b"hello"


# Terminals


def test_an_end_that_counts_as_a_byte_is_acknowledged_and_not_sent_again() -> None:
    """At a terminal the end is a key: the account goes one beyond what we have written."""
    clerk = Clerk()
    talk = attached(clerk)
    talk.write(b"line\n")
    talk.write_eof()
    clerk.hear(talk.outgoing())
    clerk.tell(say.StdinAck(offset=6, eof=True))
    talk.receive_data(clerk.words())

    assert (talk.stdin_acked, talk.stdin_pending, talk.stdin_closed) == (6, 0, True)

    talk.stdin_closed = False  # as after a lost connection: the terminal itself is open
    assert of(say.Stdin, messages_of(talk.outgoing())) == []


def messages_of(data: bytes) -> list[say.Message]:
    """Return what a client says."""
    decoder, found = FrameDecoder(), []
    decoder.feed(data)
    while (payload := decoder.next_frame()) is not None:
        found.append(say.decode(payload))
    return found


def test_what_an_older_shim_does_not_know_is_refused_at_once() -> None:
    """It would skip the message, and nobody would ever answer."""
    client, clerk = Conversation(since="none"), Clerk()
    clerk.connect()
    clerk.hear(client.hello())
    client.receive_data(clerk.answers())

    with pytest.raises(Refused, match="too old for that: no feature 'logs'"):
        client.request_of("logs", say.Rotate)
    assert client.outgoing() == b""
