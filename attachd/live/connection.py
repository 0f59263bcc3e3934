"""A connection: one client's session, its socket, and two tasks: one listens, one speaks.

The speaker owns the cursor. It takes what the client's credit allows from the ring, and waits
for nobody but its own client: a client that does not read is overtaken, and told so.
"""

import contextlib
import os
import secrets
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

import trio

from attachd.errors import AttachdError, Denied, ProtocolError, Refused, RemoteProtocolError
from attachd.live.stdin import WINDOW
from attachd.state.intake import KEY_BYTES
from attachd.state.ring import STREAM_NAMES, STREAMS, Cursor, Missed
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

#: The speaker fills at most this much before it writes, so that a system call carries many
#: small records.
BATCH_BYTES = 256 * 1024

#: Answers that a client has asked for and does not read; then it is a flood.
MAX_UNREAD = 1024

#: Features that a client may rely on beyond version 1; none so far.
FEATURES: list[str] = []

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
        self._bell = self._feed.subscribe()
        self._outbox: deque[say.Message] = deque()
        self._cursor: Cursor | None = None
        self._credit = 0
        self._told: set[int] = set()
        self._exit_told = False
        self._hello: say.Hello | None = None
        self._key = b""
        self._wrote = False  #: this client has sent stdin
        self._writing = False  #: a batch is on its way
        self._sent = self._gaps = self._missed = 0
        self._pid, self._uid, _ = _peer(stream.socket)

    @property
    def behind(self) -> bool:
        """True while this client wants output that it has not been given."""
        return self._hello is not None and not self._exit_told

    @property
    def counters(self) -> dict[str, object]:
        """What ``status`` tells of this client; offsets and credit are bytes."""
        hello, cursor = self._hello, self._cursor
        return {
            "name": hello.name if hello else "",
            "role": hello.role if hello else "",
            "pid": self._pid,
            "uid": self._uid,
            "offset": cursor.offset if cursor else None,
            "lag": self._feed.index.newest - cursor.offset if cursor else 0,
            "gaps": self._gaps,
            "missed": self._missed,
            "credit": self._credit,
            "sent": self._sent,
        }

    def say_goodbye(self, code: str, text: str) -> None:
        """Queue the last message; the speaker ends after it."""
        if self._session.state not in (State.CLOSED, State.ERROR):
            self._outbox.append(say.Goodbye(code=code, text=text))
            self._bell.ring()

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
            with trio.move_on_after(HELLO_SECONDS) as patience:
                await self._greet()
            if patience.cancelled_caught:
                raise RemoteProtocolError("no hello came in time")
            nursery.start_soon(self._listen, nursery)
            nursery.start_soon(self._speak)

    async def _greet(self) -> None:
        message = await self._next_message()
        assert isinstance(message, say.Hello), "the session lets nothing else through"
        try:
            welcome = self._welcome(message)
        except AttachdError as error:
            goodbye = say.Goodbye(code=error.code, text=say.plain(str(error)))
            await self._stream.send_all(self._session.send(goodbye))
            raise _Over from None
        await self._stream.send_all(self._session.send(welcome))
        self._shim.stdin.subscribe(self._key, self._acknowledge)

    def _welcome(self, hello: say.Hello) -> say.Welcome:
        """Decide what this client may do and where it starts. Raises Denied or Refused."""
        _check_hello(hello, self._uid)
        shim, index = self._shim, self._feed.index
        if hello.stream_id and hello.stream_id != shim.settings.stream_id:
            raise Refused(
                "other_stream", "this container is not the one the offset belongs to"
            )
        origin = parse_origin(hello.since)
        offset = self._offset_of(origin)
        if origin.kind != "none":
            self._cursor = Cursor(offset)
        self._hello = hello
        self._credit = hello.credit
        self._key = hello.key or secrets.token_bytes(KEY_BYTES)
        return say.Welcome(
            version=VERSION,
            features=[feature for feature in FEATURES if feature in hello.features],
            id=shim.settings.id,
            phase=shim.container.phase.value,
            terminal=False,
            stream_id=shim.settings.stream_id,
            oldest=index.oldest,
            newest=index.newest,
            offset=offset,
            stdin=shim.stdin.state,
            stdin_offset=shim.stdin.accepted(self._key),
            stdin_window=WINDOW,
            max_frame=MAX_FRAME,
            max_data=MAX_DATA,
        )

    def _offset_of(self, origin: Origin) -> int:
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
            return self._feed.find_tail(origin.number)
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
            if len(self._outbox) > MAX_UNREAD:
                raise RemoteProtocolError("too many answers are waiting to be read")
            try:
                self._obey(message, nursery)
            except (Denied, Refused) as error:
                number = getattr(message, "id", 0)
                self._tell(say.Error(id=number, code=error.code, text=say.plain(str(error))))

    def _obey(self, message: say.Message, nursery: trio.Nursery) -> None:
        match message:
            case say.Stdin():
                self._need_full()
                self._wrote = True
                self._shim.stdin.offer(self._key, message.offset, message.data)
            case say.StdinEof():
                self._need_full()
                self._shim.stdin.offer_eof(self._key, message.offset)
            case say.Credit():
                self._credit = min(self._credit + message.bytes, say.MAX_INT)
                self._bell.ring()
            case say.Ping():
                self._tell(say.Pong(id=message.id, newest=self._feed.index.newest))
            case say.Pong():
                pass
            case say.Start():
                self._need_full()
                nursery.start_soon(self._start, message.id)
            case say.Signal():
                self._need_full()
                self._shim.container.signal(message.number)
                self._tell(say.Done(id=message.id))
            case say.Status():
                self._tell(say.Report(id=message.id, report=self._shim.report()))
            case say.Release():
                self._need_full()
                self._shim.release()
                self._tell(say.Done(id=message.id))
            case say.Detach():
                self.say_goodbye("detached", "")
            case _:
                raise AssertionError(f"the session let {type(message).__name__} through")

    def _need_full(self) -> None:
        if self._hello is None or self._hello.role != "full":
            raise Denied("a viewer may only look")

    async def _start(self, number: int) -> None:
        """Carry out a start to its end, whether or not the client waits for it."""
        try:
            with trio.CancelScope(shield=True):
                await self._shim.container.start()
        except AttachdError as error:
            self._tell(say.Error(id=number, code=error.code, text=say.plain(str(error))))
        else:
            self._tell(say.Done(id=number))

    def _acknowledge(self, offset: int, eof: bool) -> None:
        self._tell(say.StdinAck(offset=offset, eof=eof))

    def _tell(self, message: say.Message) -> None:
        self._outbox.append(message)
        self._bell.ring()

    # The speaker

    async def _speak(self) -> None:
        """Send answers, then output, then the end. Ends by _Over after a goodbye."""
        while True:
            batch = self._next_batch()
            if batch:
                self._writing = True
                await self._stream.send_all(batch)
                self._writing = False
            elif self._session.state is State.CLOSED:
                raise _Over
            else:
                await self._bell.wait()

    def _next_batch(self) -> bytes:
        """Return what can be said now; b"" when there is nothing."""
        parts: list[bytes] = []
        while self._outbox and self._session.state is not State.CLOSED:
            parts.append(self._session.send(self._outbox.popleft()))
        size = 0
        while size < BATCH_BYTES and self._session.state is State.ATTACHED:
            message = self._next_news()
            if message is None:
                break
            parts.append(self._session.send(message))
            size += len(parts[-1])
        return b"".join(parts)

    def _next_news(self) -> say.Message | None:
        """Move the cursor on; after the last byte come the ends, then the exit record."""
        cursor, feed = self._cursor, self._feed
        if cursor is not None and cursor.offset < feed.index.newest:
            return self._next_output(cursor)
        for stream in STREAMS:
            if cursor is not None and stream in feed.ends and stream not in self._told:
                self._told.add(stream)
                return say.Eof(stream=STREAM_NAMES[stream])
        if feed.record is not None and not self._exit_told:
            self._exit_told = True
            return say.Exit(record=feed.record)
        return None

    def _next_output(self, cursor: Cursor) -> say.Message | None:
        if self._credit == 0:
            return None
        step = cursor.step(self._feed.index, min(MAX_DATA, self._credit))
        if step is None:
            return None
        if isinstance(step, Missed):
            return self._gap(step)
        data = self._feed.read(step.start, step.end)
        self._credit -= len(data)
        self._sent += len(data)
        return say.Output(
            offset=step.start, stream=STREAM_NAMES[step.stream], time=step.time, data=data
        )

    def _gap(self, missed: Missed) -> say.Message:
        self._gaps += 1
        self._missed += missed.end - missed.start
        if self._hello is not None and self._hello.flow == "disconnect":
            text = f"too slow: {missed.end - missed.start} bytes from {missed.start} are gone"
            return say.Goodbye(code="slow", text=text)
        return say.Gap(start=missed.start, end=missed.end)

    # The end

    async def _say_last(self, error: ProtocolError) -> None:
        """Tell a peer that misspoke why it is let go, if it still listens."""
        if self._writing:
            return  # a frame was cut: nothing can follow it
        with trio.move_on_after(LAST_WORD_SECONDS):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                goodbye = say.Goodbye(code=error.code, text=say.plain(str(error)))
                await self._stream.send_all(encode_frame(encode(goodbye)))

    def _leave(self) -> None:
        self._feed.unsubscribe(self._bell)
        if self._key:
            self._shim.stdin.unsubscribe(self._key, self._acknowledge)
        if self._wrote and self._shim.stdin.once:
            self._shim.stdin.offer_eof(self._key)


def _check_hello(hello: say.Hello, uid: int) -> None:
    if uid not in (0, os.getuid()):
        raise Denied(f"user {uid} may not attach to a container of user {os.getuid()}")
    if hello.version < VERSION:
        raise Refused("version", f"version {hello.version} is too old, this is {VERSION}")
    if hello.role not in ("full", "viewer"):
        raise Refused("bad_request", f"role {hello.role!r:.80} is neither full nor viewer")
    if hello.flow not in ("gap", "disconnect"):
        raise Refused("bad_request", f"flow {hello.flow!r:.80} is neither gap nor disconnect")
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
