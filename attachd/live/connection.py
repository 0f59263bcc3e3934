"""A connection: one client's session, its socket, and two tasks: one listens, one speaks."""

import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from attachd.errors import AttachdError, Denied, ProtocolError, Refused, RemoteProtocolError
from attachd.live.speaker import Speaker
from attachd.live.stdin import WINDOW
from attachd.state.eofpolicy import why_not
from attachd.state.intake import KEY_BYTES
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

#: Answers that a client has asked for and does not read; then it is a flood.
MAX_UNREAD = 1024

#: Features that a client may rely on beyond the first server of version 1.
FEATURES = ["lease", "logs", "terminal"]

_UCRED = struct.Struct("=iII")  #: struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


class _Over(Exception):
    """The conversation has come to its end; not an error."""


class Connection:
    """One client. Construct with its stream, then ``run``."""

    def __init__(self, stream: trio.SocketStream, shim: "Shim") -> None:
        self._stream = stream
        self._shim = shim
        self._feed = shim.feed
        self._session = Session(Role.SERVER)
        self._speaker = Speaker(
            stream, self._session, shim.feed, shim.past, shim.memory.open()
        )
        self._hello: say.Hello | None = None
        self.key = b""
        self.robbed = False
        self._size = NO_SIZE
        self._number = 0  #: among all clients that this container ever had
        self._scope = trio.CancelScope()
        self._refusing = False  #: stdin was refused, and the client may not have heard it
        self._pid, self._uid, _ = _peer(stream.socket)

    @property
    def behind(self) -> bool:
        """True while this client wants output that it has not been given."""
        return self._hello is not None and not self._speaker.exit_told

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
            "may_write": self._shim.writers.allows(self),
            "size": str(self._size) if self._size.usable else None,
            "pid": self._pid,
            "uid": self._uid,
            **self._speaker.counters,
        }

    def say_goodbye(self, code: str, text: str) -> None:
        """Queue the last message; the speaker ends after it."""
        if self._session.state not in (State.CLOSED, State.ERROR):
            self._speaker.tell(say.Goodbye(code=code, text=text))

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
            await self._greet(await self._hear_hello())
            nursery.start_soon(self._listen, nursery)
            nursery.start_soon(self._speaker.watch)
            await self._speaker.run()
            raise _Over

    async def _hear_hello(self) -> say.Hello:
        with trio.move_on_after(HELLO_SECONDS):
            message = await self._next_message()
            assert isinstance(message, say.Hello), "the session lets nothing else through"
            return message
        raise RemoteProtocolError("no hello came in time")

    async def _greet(self, message: say.Hello) -> None:
        """Find where this client starts, which may take a search in old logs; welcome it."""
        try:
            _check_hello(message, self._uid)
            self._check_block(message)
            start, modes = await self._find_start(message)
            welcome = self._welcome(message, start, modes)
        except AttachdError as error:
            goodbye = say.Goodbye(code=error.code, text=say.plain(str(error)))
            await self._stream.send_all(self._session.send(goodbye))
            raise _Over from None
        with trio.move_on_after(HELLO_SECONDS) as patience:
            await self._stream.send_all(self._session.send(welcome))
        if patience.cancelled_caught:
            raise _Over  # it does not listen
        self._shim.stdin.subscribe(self.key, self._acknowledge)
        self._size = Size(message.columns, message.rows)
        resumed = bool(message.stream_id) and message.since.startswith("offset:")
        self._shim.writers.enter(self, self._size, resumed=resumed)

    def _check_block(self, hello: say.Hello) -> None:
        """Refuse a client that wants to hold up a container that waits for nobody."""
        if hello.flow == "block" and not self._shim.settings.allow_block:
            raise Denied("this container waits for no client (--allow-block)")
        if hello.flow == "block" and hello.role != "full":
            raise Denied("a viewer may only look, not have the container wait")

    async def _find_start(self, hello: say.Hello) -> tuple[int, bytes]:
        """Return the offset where this client starts, and for a screen its modes there."""
        if hello.stream_id and hello.stream_id != self._shim.settings.stream_id:
            raise Refused(
                "other_stream", "this container is not the one the offset belongs to"
            )
        origin = parse_origin(hello.since)
        if origin.kind != "screen":
            return await self._offset_of(origin), b""
        if self._shim.past is None:
            raise Refused("no_terminal", "this container has no terminal, and so no screen")
        return await self._shim.past.find_screen()

    def _welcome(self, hello: say.Hello, offset: int, modes: bytes) -> say.Welcome:
        """Note what this client may do and where it starts, and tell it."""
        shim, index = self._shim, self._feed.index
        self._hello = hello
        self._number = shim.count_client()
        self.key = hello.key or secrets.token_bytes(KEY_BYTES)
        size = shim.past.timeline.at(offset).size if shim.past else NO_SIZE
        self._speaker.begin(hello, offset, shim.settings.allow_block)
        return say.Welcome(
            version=VERSION,
            features=[feature for feature in FEATURES if feature in hello.features],
            id=shim.settings.id,
            phase=shim.container.phase.value,
            terminal=shim.settings.terminal,
            stream_id=shim.settings.stream_id,
            oldest=index.oldest,
            newest=index.newest,
            offset=offset,
            stdin=shim.stdin.state,
            stdin_offset=shim.stdin.accepted(self.key),
            stdin_window=WINDOW,
            max_frame=MAX_FRAME,
            max_data=MAX_DATA,
            columns=size.columns,
            rows=size.rows,
            modes=modes,
            writer=shim.writers.holder,
            may_write=shim.writers.allows(self),
        )

    async def _offset_of(self, origin: Origin) -> int:
        index = self._feed.index
        if origin.kind == "start":
            return 0
        if origin.kind == "offset":
            if origin.number > index.newest:
                raise Refused(
                    "bad_offset", f"offset {origin.number} is in the future of {index.newest}"
                )
            return origin.number
        if origin.kind == "tail":
            return await self._shim.memory.find_tail(origin.number)
        if origin.kind == "time":
            return await self._shim.memory.find_time(origin.number)
        return index.newest

    async def _next_message(self) -> say.Message:
        """Return the client's next message. Raises _Over when it has gone."""
        while True:
            message = self._session.next_message()
            if message is Pause.PEER_GONE:
                raise _Over
            if message is not Pause.NEED_DATA:
                return message
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
        match message:
            case say.Stdin():
                self._write(message)
            case say.StdinEof():
                self._end_stdin(message)
            case say.Size():
                self._need_full()
                self._size = Size(message.columns, message.rows)
                self._shim.writers.resized(self, self._size)
            case say.Resize():
                self._need_full()
                self._shim.writers.resize(Size(message.columns, message.rows))
                self.tell(say.Done(id=message.id))
            case say.Lease():
                self._shim.writers.request(self, message.id, message.mode)
            case say.Credit():
                self._speaker.grant(message.bytes)
            case say.Ping():
                self.tell(say.Pong(id=message.id, newest=self._feed.index.newest))
            case say.Pong():
                pass
            case say.Start():
                self._need_full()
                nursery.start_soon(self._do, message.id, self._shim.container.start)
            case say.Signal():
                self._need_full()
                self._shim.container.signal(message.number)
                self.tell(say.Done(id=message.id))
            case say.Status():
                self.tell(say.Report(id=message.id, report=self._shim.report()))
            case say.Release():
                self._need_full()
                self._shim.release()
                self.tell(say.Done(id=message.id))
            case say.Rotate():
                self._need_full()
                nursery.start_soon(self._do, message.id, self._shim.rotate_logs)
            case say.Reopen():
                self._need_full()
                nursery.start_soon(self._do, message.id, self._shim.reopen_logs)
            case say.Detach():
                self.say_goodbye("detached", "")
            case _:
                raise AssertionError(f"the session let {type(message).__name__} through")

    def _write(self, message: say.Stdin) -> None:
        """Take stdin, or refuse it: then what follows is skipped until the client has heard."""
        self._need_full()
        accepted = self._shim.stdin.accepted(self.key)
        if self._refusing and message.offset > accepted:
            return
        self._refusing = not self._shim.writers.allows(self)
        if not self._refusing:
            try:
                self._shim.stdin.offer(self.key, message.offset, message.data)
            except Refused as error:
                if error.code != "stdin_full":
                    raise
                self._refuse(accepted, error)
            self._shim.writers.typed(self)
        else:
            self._refuse(accepted, Refused("leased", self._leased()))

    def _end_stdin(self, message: say.StdinEof) -> None:
        """Close stdin, or refuse it; behind stdin that was refused it is skipped as well."""
        self._need_full()
        stdin, writers = self._shim.stdin, self._shim.writers
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
        holder = self._shim.writers.holder
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
        self._speaker.tell(message)
        if self._speaker.unread > MAX_UNREAD:
            self._scope.cancel()

    # The end

    async def _say_last(self, error: ProtocolError) -> None:
        """Tell a peer that misspoke why it is let go, if it still listens."""
        if self._speaker.cut:
            return  # a frame was cut: nothing can follow it
        with trio.move_on_after(LAST_WORD_SECONDS):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                goodbye = say.Goodbye(code=error.code, text=say.plain(str(error)))
                await self._stream.send_all(encode_frame(encode(goodbye)))

    def _leave(self) -> None:
        self._speaker.end()
        if self.key:
            self._shim.stdin.unsubscribe(self.key, self._acknowledge)
            self._shim.writers.leave(self)
            self._shim.stdin.leave(self.key)


def _check_hello(hello: say.Hello, uid: int) -> None:
    if uid not in (0, os.getuid()):
        raise Denied(f"user {uid} may not attach to a container of user {os.getuid()}")
    if hello.version < VERSION:
        raise Refused("version", f"version {hello.version} is too old, this is {VERSION}")
    if hello.role not in ("full", "viewer"):
        raise Refused("bad_request", f"role {hello.role!r:.80} is neither full nor viewer")
    if hello.flow not in ("gap", "disconnect", "block"):
        raise Refused(
            "bad_request", f"flow {hello.flow!r:.80} is none of gap, disconnect, block"
        )
    if hello.key and len(hello.key) != KEY_BYTES:
        raise Refused("bad_request", f"a key has {KEY_BYTES} bytes, this one {len(hello.key)}")


def _peer(peer: trio.socket.SocketType) -> tuple[int, int, int]:
    packed = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(packed)
    return pid, uid, gid


def _first(errors: BaseExceptionGroup[ProtocolError]) -> ProtocolError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
