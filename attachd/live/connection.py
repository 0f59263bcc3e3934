"""A connection: one client's session, its socket, and two tasks: one listens, one speaks."""

import contextlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from attachd.errors import (
    AttachdError,
    Denied,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    RuntimeFailed,
)
from attachd.live.peer import groups_of, peer_of
from attachd.live.report import report_that_fits
from attachd.live.speaker import Speaker
from attachd.live.stdin import WINDOW
from attachd.state.eofpolicy import why_not
from attachd.state.faults import fault_of
from attachd.state.intake import KEY_BYTES
from attachd.state.rights import Policy, right_of, why_not_role
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd.wire.frames import MAX_DATA, MAX_FRAME, encode_frame
from attachd.wire.messages import encode
from attachd.wire.origin import Origin, parse_origin
from attachd.wire.session import VERSION, Pause, Role, Session, State

if TYPE_CHECKING:
    from attachd.live.shim import Shim

#: A peer that connects and says nothing, or does not listen to its welcome, is let go.
HELLO_SECONDS = 10.0

#: How long a peer that misspoke may take to hear why it is let go.
LAST_WORD_SECONDS = 1.0

READ_BYTES = 256 * 1024

#: Enough for a user, a host and a terminal.
MAX_NAME = 128

#: Bytes of answers that a client has asked for and does not read, a thousand small ones; then it
#: is a flood. What all together may leave unread is the door's.
MAX_UNREAD = 512 * 1024

#: So much of what was typed may wait for one that wants to be told: four times stdin's pipe.
MAX_UNREAD_INPUT = 4 << 20

#: Features that a client may rely on beyond the first server of version 1.
FEATURES = ["exec", "input", "lease", "logs", "terminal"]


class _Over(Exception):
    """The conversation has come to its end; not an error."""


class Connection:
    """One client. Construct with its stream, then ``run``."""

    def __init__(self, stream: trio.SocketStream, shim: "Shim") -> None:
        self._stream = stream
        self._shim = shim
        self._program = shim.program  #: until it has said which one it means
        self._session = Session(Role.SERVER)
        self._speaker: Speaker | None = None  #: as soon as it was found
        self._hello: say.Hello | None = None  #: as soon as it was welcomed
        self.key = b""
        self.robbed = False
        self._size = NO_SIZE
        self._number = 0  #: among all clients that this container ever had
        self._scope = trio.CancelScope()
        self._fresh = True  #: since we last waited for more, a frame has become whole
        self._refusing = False  #: stdin was refused, and the client may not have heard it
        self._peer = peer_of(stream.socket.fileno())

    @property
    def number(self) -> int:
        """Among all clients that this program ever had; 0 before it was welcomed."""
        return self._number

    @property
    def behind(self) -> bool:
        """True while this client wants output that it has not been given."""
        return self._speaker is not None and not self._speaker.exit_told

    @property
    def saw_all(self) -> bool:
        """True when this client was given the output up to its end, and the exit record."""
        return self._speaker is not None and self._speaker.told_all

    @property
    def name(self) -> str:
        """For people, on whose terminals it is printed: no control character is in it."""
        told = self._hello.name[:MAX_NAME] if self._hello else ""
        return "".join(c if c.isprintable() else "?" for c in told)

    @property
    def role(self) -> str:
        """``full`` or ``viewer``, as it asked for."""
        return self._hello.role if self._hello else ""

    @property
    def counters(self) -> dict[str, object]:
        """What ``status`` tells of this client."""
        return {
            "number": self._number,
            "name": self.name,
            "role": self.role,
            "may_write": self._program.writers.allows(self),
            "size": str(self._size) if self._size.usable else None,
            "pid": self._peer.pid,
            "uid": self._peer.uid,
            **(self._speaker.counters if self._speaker else {}),
        }

    def let_go(self) -> None:
        """Have the program wait for this client no longer."""
        if self._speaker is not None:
            self._speaker.let_go()

    def say_goodbye(self, code: str, text: str) -> None:
        """Queue the last message; the speaker ends after it. Who was not welcomed is let go."""
        if self._speaker is None:
            self._scope.cancel()
        elif self._session.state not in (State.CLOSED, State.ERROR):
            self._speaker.tell(say.Goodbye(code=code, text=text))

    def turn_away(self) -> None:
        """Say that there are too many, and let go of it. Called before its hello was heard."""
        goodbye = say.Goodbye(code="too_many", text="too many are connected: try again later")
        with contextlib.suppress(OSError):  # it is the first that we say, so that it fits
            os.write(self._stream.socket.fileno(), self._session.send(goodbye))
        self._scope.cancel()

    def cut_off(self) -> None:
        """Let go of it without a word: an honest client comes back to where it was."""
        self._scope.cancel()

    async def run(self) -> None:
        """Serve this client until one of the two leaves. Never raises for what the client does.

        On cancel: the socket is closed; stdin that was taken is still delivered.
        """
        async with self._stream:
            try:
                await self._converse()
            except* _Over:
                pass
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # they are gone, which is no error
            except* ProtocolError as errors:
                await self._say_last(_first(errors))
            finally:
                self._leave()

    # The conversation

    async def _converse(self) -> None:
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            speaker = await self._greet(await self._hear_hello())
            nursery.start_soon(self._listen, nursery)
            nursery.start_soon(speaker.watch)
            await speaker.run()
            raise _Over

    async def _hear_hello(self) -> say.Hello:
        with trio.move_on_after(HELLO_SECONDS):
            message = await self._next_message()
            assert isinstance(message, say.Hello), "the session lets nothing else through"
            self._shim.door.heard(self)
            return message
        raise RemoteProtocolError("no hello came in time")

    async def _greet(self, message: say.Hello) -> Speaker:
        """Find what it means, and where it starts, which may take a while; welcome it."""
        try:
            self._check_right(message.role)
            _check_hello(message)
            self.key = message.key or secrets.token_bytes(KEY_BYTES)
            self._program = await self._shim.find(message, self.key)
            self._program.expected.add(self)  # no checkpoint before: it is kept for us
            self._check_block(message)
            start, modes = await self._find_start(message)
        except AttachdError as error:
            goodbye = say.Goodbye(code=_code_of(error), text=say.plain(str(error)))
            await self._stream.send_all(self._session.send(goodbye))
            raise _Over from None
        welcome, speaker = self._welcome(message, start, modes)
        with trio.move_on_after(HELLO_SECONDS) as patience:
            await self._stream.send_all(self._session.send(welcome))
        if patience.cancelled_caught:
            raise _Over  # it does not listen
        self._enter(message)
        return speaker

    def _enter(self, message: say.Hello) -> None:
        """Be one of the program's clients: it writes, and its terminal's size may count."""
        program = self._program
        program.stdin.subscribe(self.key, self._acknowledge)
        if message.input:
            program.stdin.watchers.add(self._tell_input)
        self._size = Size(message.columns, message.rows)
        resumed = bool(message.stream_id) and message.since.startswith("offset:")
        program.writers.enter(self, self._size, resumed=resumed)

    def _check_right(self, role: str) -> None:
        """Refuse whom the container is not open to, or not for this role. Raises Denied."""
        own, uid, policy = os.getuid(), self._peer.uid, self._shim.settings.rights
        right = right_of(uid, self._groups(policy), own, policy)
        denied = why_not_role(uid, role, right, own)
        if denied:
            raise Denied(denied)

    def _groups(self, policy: Policy) -> frozenset[int]:
        """Return the peer's groups, if any of them matters."""
        if not policy.groups:
            return frozenset()
        return groups_of(self._stream.socket.fileno(), self._peer)

    def _check_block(self, hello: say.Hello) -> None:
        """Refuse a client that wants to hold up a container that waits for nobody."""
        if hello.flow == "block" and not self._program.manners.allow_block:
            raise Denied("this container waits for no client (--allow-block)")
        if hello.flow == "block" and hello.role != "full":
            raise Denied("a viewer may only look, not have the container wait")
        if hello.input and hello.role != "full":
            raise Denied("a viewer may not see what is typed")

    async def _find_start(self, hello: say.Hello) -> tuple[int, bytes]:
        """Return the offset where this client starts, and for a screen its modes there."""
        past = self._program.past
        origin = parse_origin(hello.since)
        if not self._is_ours(hello.stream_id, origin):
            raise Refused(
                "other_stream", "this container is not the one the offset belongs to"
            )
        if origin.kind != "screen":
            return await self._offset_of(origin), b""
        if past is None:
            raise Refused("no_terminal", "this container has no terminal, and so no screen")
        return await past.find_screen()

    def _is_ours(self, stream_id: str, origin: Origin) -> bool:
        """Return whether an offset of that stream means the same place in this one.

        A shim that was recovered goes on with the offsets of the one before, as far as its log
        went; what somebody has seen beyond that is another output than ours.
        """
        manners = self._program.manners
        if stream_id in ("", manners.stream_id):
            return True
        same = manners.former.get(stream_id, -1)
        return origin.kind == "offset" and origin.number <= same

    def _welcome(
        self, hello: say.Hello, offset: int, modes: bytes
    ) -> tuple[say.Welcome, Speaker]:
        """Note what this client may do, give it its place in the output, and tell it."""
        program, manners, index = (
            self._program,
            self._program.manners,
            self._program.feed.index,
        )
        self._hello = hello
        self._number = program.count_client()
        program.clients.add(self)
        size = program.past.timeline.at(offset).size if program.past else NO_SIZE
        speaker = self._speaker = Speaker(
            self._stream,
            self._session,
            program.feed,
            program.past,
            program.memory.open(),
            lambda size: self._shim.door.owe(self, size),
        )
        speaker.begin(hello, offset, manners.allow_block)
        program.when_attached()
        welcome = say.Welcome(
            version=VERSION,
            features=[feature for feature in FEATURES if feature in hello.features],
            id=self._shim.settings.id,
            exec=manners.name,
            phase=program.process.phase.value,
            terminal=manners.terminal,
            stream_id=manners.stream_id,
            oldest=index.oldest,
            newest=index.newest,
            offset=offset,
            stdin=program.stdin.state,
            stdin_offset=program.stdin.accepted(self.key),
            stdin_window=WINDOW,
            max_frame=MAX_FRAME,
            max_data=MAX_DATA,
            columns=size.columns,
            rows=size.rows,
            modes=modes,
            writer=program.writers.holder,
            may_write=program.writers.allows(self),
        )
        return welcome, speaker

    async def _offset_of(self, origin: Origin) -> int:
        index, memory = self._program.feed.index, self._program.memory
        if origin.kind == "start":
            return 0
        if origin.kind == "offset":
            if origin.number > index.newest:
                raise Refused(
                    "bad_offset", f"offset {origin.number} is in the future of {index.newest}"
                )
            return origin.number
        if origin.kind == "tail":
            return await memory.find_tail(origin.number)
        if origin.kind == "time":
            return await memory.find_time(origin.number)
        return index.newest

    async def _next_message(self) -> say.Message:
        """Return the client's next message. Raises _Over when it has gone."""
        while True:
            before = self._session.held
            message = self._session.next_message()
            held = self._session.held
            self._fresh |= held < before
            if message is Pause.PEER_GONE:
                raise _Over
            if message is not Pause.NEED_DATA:
                return message
            self._shim.door.hold(self, held, fresh=self._fresh)
            self._fresh = False
            self._session.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))

    async def _listen(self, nursery: trio.Nursery) -> None:
        """Take what the client says. Ends by _Over when it leaves."""
        while True:
            message = await self._next_message()
            try:
                self._obey(message, nursery)
            except (Denied, Refused) as error:
                number = getattr(message, "id", 0)
                self.tell(say.Error(id=number, code=error.code, text=say.plain(str(error))))
            if self._session.has_more:
                await trio.lowlevel.checkpoint()  # others are to be heard, too

    def _obey(self, message: say.Message, nursery: trio.Nursery) -> None:
        program = self._program
        match message:
            case say.Stdin():
                self._write(message)
            case say.StdinEof():
                self._end_stdin(message)
            case say.Size():
                self._need_full()
                self._size = Size(message.columns, message.rows)
                program.writers.resized(self, self._size)
            case say.Resize():
                self._need_full()
                program.writers.resize(Size(message.columns, message.rows))
                self.tell(say.Done(id=message.id))
            case say.Lease():
                program.writers.request(self, message.id, message.mode)
            case say.Credit():
                self._grant(message.bytes)
            case say.Ping():
                self.tell(say.Pong(id=message.id, newest=program.feed.index.newest))
            case say.Pong():
                pass
            case say.Start():
                self._need_full()
                nursery.start_soon(self._do, message.id, program.process.start)
            case say.Signal():
                self._need_full()
                program.process.signal(message.number)
                self.tell(say.Done(id=message.id))
            case say.Status():
                self._tell_when_read(lambda: self._report(message.id))
            case say.Release():
                self._need_full()
                program.release()
                self.tell(say.Done(id=message.id))
            case say.Rotate():
                self._need_full()
                nursery.start_soon(self._do, message.id, program.rotate_logs)
            case say.Reopen():
                self._need_full()
                nursery.start_soon(self._do, message.id, program.reopen_logs)
            case say.Detach():
                self.say_goodbye("detached", "")
            case _:
                raise AssertionError(f"the session let {type(message).__name__} through")

    def _write(self, message: say.Stdin) -> None:
        """Take stdin, or refuse it: then what follows is skipped until the client has heard."""
        self._need_full()
        stdin, writers = self._program.stdin, self._program.writers
        accepted = stdin.accepted(self.key)
        if self._refusing and message.offset > accepted:
            return
        self._refusing = not writers.allows(self)
        if not self._refusing:
            try:
                stdin.offer(self.key, message.offset, message.data)
            except Refused as error:
                if error.code != "stdin_full":
                    raise
                self._refuse(accepted, error)
            writers.typed(self)
        else:
            self._refuse(accepted, Refused("leased", self._leased()))

    def _end_stdin(self, message: say.StdinEof) -> None:
        """Close stdin, or refuse it; behind stdin that was refused it is skipped as well."""
        self._need_full()
        stdin, writers = self._program.stdin, self._program.writers
        denied = why_not(stdin.policy, holds=writers.holds(self))
        if denied:
            raise Refused("eof_denied", denied)
        if not writers.allows(self):
            raise Refused("leased", self._leased())
        if not self._refusing or message.offset <= stdin.accepted(self.key):
            stdin.offer_eof(self.key, message.offset)

    def _refuse(self, accepted: int, why: Refused) -> None:
        """Say that stdin was not taken from ``accepted`` on; an old client just gets an error."""
        self._refusing = True
        if self._hello is None or "lease" not in self._hello.features:
            raise Denied(str(why))
        self.tell(say.StdinRefused(offset=accepted, code=why.code, text=say.plain(str(why))))

    def _need_full(self) -> None:
        if self.role != "full":
            raise Denied("a viewer may only look")

    def _leased(self) -> str:
        holder = self._program.writers.holder
        return f"{holder} is the only one who may write" if holder else "your lease was stolen"

    async def _do(self, number: int, act: Callable[[], Awaitable[None]]) -> None:
        """Carry out a request to its end, whether or not the client waits for it."""
        try:
            with trio.CancelScope(shield=True):
                await act()
        except AttachdError as error:
            self.tell(say.Error(id=number, code=error.code, text=say.plain(str(error))))
        else:
            self.tell(say.Done(id=number))

    def _acknowledge(self, offset: int, eof: bool) -> None:
        self.tell(say.StdinAck(offset=offset, eof=eof))

    def tell(self, message: say.Message) -> None:
        """Queue a message for this client; one that never reads is let go."""
        if self._speaker is not None:
            self._speaker.tell(message)
            self._miss_reading(self._speaker)

    def _tell_when_read(self, make: Callable[[], say.Message]) -> None:
        """Queue what is large: it is made when the client can be told."""
        if self._speaker is not None:
            self._speaker.tell_later(make)
            self._miss_reading(self._speaker)

    def _miss_reading(self, speaker: Speaker) -> None:
        if speaker.unread - speaker.unread_input > MAX_UNREAD:
            self._scope.cancel()

    def _grant(self, count: int) -> None:
        if self._speaker is not None:
            self._speaker.grant(count)

    def _tell_input(self, data: bytes) -> None:
        """Tell what was written to stdin, in pieces that fit; whoever does not read is told."""
        speaker = self._speaker
        if speaker is None:
            return
        answers = speaker.unread - speaker.unread_input
        much = speaker.unread_input + len(data) > MAX_UNREAD_INPUT
        if much or answers > MAX_UNREAD // 2:
            text = f"{len(data)} bytes of input are not told"
            self.tell(say.Notice(code="input_missed", text=text))
            return
        newest, now = self._program.feed.index.newest, time.time_ns()
        for at in range(0, len(data), MAX_DATA):
            self.tell(say.Input(offset=newest, time=now, data=data[at : at + MAX_DATA]))

    def _report(self, number: int) -> say.Report:
        """Return the shim's counters, or those of the exec that this client is attached to."""
        own = self._program is self._shim.program
        return report_that_fits(number, (self._shim if own else self._program).report)

    # The end

    async def _say_last(self, error: ProtocolError) -> None:
        """Tell a peer that misspoke why it is let go, if it still listens."""
        if self._speaker is not None and self._speaker.cut:
            return  # a frame was cut: nothing can follow it
        with trio.move_on_after(LAST_WORD_SECONDS):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                goodbye = say.Goodbye(code=error.code, text=say.plain(str(error)))
                await self._stream.send_all(encode_frame(encode(goodbye)))

    def _leave(self) -> None:
        program = self._program
        if self._speaker is not None:
            self._speaker.end()
            program.stdin.watchers.discard(self._tell_input)
            program.stdin.unsubscribe(self.key, self._acknowledge)
            program.writers.leave(self)
            program.stdin.leave(self.key)
        program.leave(self)
        self._program, self._speaker = self._shim.program, None


def _check_hello(hello: say.Hello) -> None:
    if hello.version < VERSION:
        raise Refused("version", f"version {hello.version} is too old, this is {VERSION}")
    if hello.role not in ("full", "viewer"):
        raise Refused("bad_request", f"role {hello.role!r:.80} is neither full nor viewer")
    if hello.flow not in ("gap", "disconnect", "block"):
        raise Refused(
            "bad_request", f"flow {hello.flow!r:.80} is none of gap, disconnect, block"
        )
    parse_origin(hello.since)  # before anything is made for it
    if hello.key and len(hello.key) != KEY_BYTES:
        raise Refused("bad_request", f"a key has {KEY_BYTES} bytes, this one {len(hello.key)}")


def _code_of(error: AttachdError) -> str:
    """Return the error's code; whether a program is missing is told apart for exit codes."""
    return fault_of(str(error)) if isinstance(error, RuntimeFailed) else error.code


def _first(errors: BaseExceptionGroup[ProtocolError]) -> ProtocolError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
