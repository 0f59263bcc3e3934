"""The Trio client.

    async with attach("web", since="start") as client:
        async for event in client:
            ...

A background task reads all the time, so that acknowledgements and answers arrive while nobody
iterates; what it may have to keep is bounded by the credit that was granted. A server that is
killed is a pause: the task connects again and goes on at the same byte. A shim that is gone is
no error either: what is left is read from the container's files.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NoReturn

import attrs
import trio

from attachd.errors import AttachdError, Refused
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd_clients.conversation import WINDOW, Answer, Conversation, Ended, Event, whole
from attachd_clients.history import recall, recall_exec
from attachd_clients.places import Place

#: A server that was killed is back within a second; a keeper backs off to 5 s at most.
PATIENCE_SECONDS = 30.0

_RETRY_SECONDS = 0.05
_READ_BYTES = 256 * 1024


@contextlib.asynccontextmanager
async def attach(
    container: str,
    *,
    root: str | None = None,
    since: str = "live",
    role: str = "full",
    flow: str = "gap",
    name: str = "",
    window: int = WINDOW,
    size: Size = NO_SIZE,
    stream_id: str = "",
    exec: str = "",
    spec: say.Record | None = None,
    input: bool = False,
    connection: trio.SocketStream | None = None,
) -> AsyncIterator["Client"]:
    """Attach to a container, running or ended; detach when the block is left.

    ``since`` is ``start``, ``live``, ``none``, ``screen``, ``tail:LINES`` or ``offset:BYTES``;
    ``role`` is ``full`` or ``viewer``; ``size`` is that of a terminal of ours; ``stream_id`` that
    of the container which is meant, where the offset is an earlier one's; ``connection`` may be
    one that was made before.

    ``exec`` names what else runs in the container; with ``spec`` (protocol.md, "Exec") it is
    made first, and without a name the server chooses one: ``welcome.exec``. ``input`` asks for
    what is written to stdin, too. Raises NoSuchContainer, Ended when the server refuses
    (``other_stream``: it is another container), UsageError when there is nothing to read.
    """
    made = whole(spec)  # first of all: it is wrong whatever there is
    place = Place.find(container, root)
    conversation = Conversation(
        since=since,
        role=role,
        flow=flow,
        name=name,
        window=window,
        size=size,
        stream_id=stream_id,
        exec=exec,
        spec=made,
        input=input,
    )
    client = Client(place, conversation)
    async with unwrapped(), trio.open_nursery() as nursery:
        await nursery.start(client.run, connection)
        try:
            yield client
        finally:
            await client.leave()
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def unwrapped() -> AsyncIterator[None]:
    """The background task cannot fail by itself: a group of one is the caller's own exception."""
    try:
        yield
    except BaseExceptionGroup as group:
        only: BaseException = group
        while isinstance(only, BaseExceptionGroup) and len(only.exceptions) == 1:
            only = only.exceptions[0]
        raise only from only.__cause__


@attrs.define(eq=False)
class Client:
    """An attached client. Made by ``attach``."""

    place: Place
    _conversation: Conversation
    _stream: trio.SocketStream | None = None
    _files: Iterator[Event] | None = None
    _error: AttachdError | None = None
    _over: bool = False
    _unsent: bytearray = attrs.field(factory=bytearray)  #: what is left of the last frames
    _lost: int = 0
    _changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _sending: trio.Lock = attrs.field(factory=trio.Lock)

    @property
    def welcome(self) -> say.Welcome | None:
        """The server's last welcome; None when the container's files answer instead."""
        return self._conversation.welcome

    @property
    def offset(self) -> int:
        """The offset of the next byte: what ``since="offset:N"`` would go on with."""
        return self._conversation.offset or 0

    @property
    def reconnects(self) -> int:
        """How often the connection was lost and made again."""
        return self._lost

    # Output

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        while (event := await self.receive()) is not None:
            yield event

    async def receive(self) -> Event | None:
        """Return the next event in order; None after the exit record or our own detach.

        Raises Ended when the server ended the conversation otherwise. On cancel: no event is
        lost.
        """
        await self.flush()  # grants what was taken before; nothing is taken yet
        while True:
            event = self._conversation.take()
            if event is not None:
                return event
            if self._over or self._conversation.exited:
                return None
            if self._files is not None:
                event = next(self._files, None)
                return None if event is None else self._conversation.given(event)
            if self._error is not None:
                raise self._error
            await self._changed.park()

    def receive_nowait(self) -> Event | None:
        """Return an event that has come already, or None; what is wrong only ``receive`` tells."""
        return self._conversation.take()

    # stdin

    async def send(self, data: bytes) -> None:
        """Send stdin; return when it was written to the container.

        Raises Refused when the container's stdin is closed before that. On cancel: what was
        queued is still sent while the client is attached.
        """
        drops = self._conversation.drops
        await self.wait_written(await self.post(data), drops)

    async def wait_written(self, end: int, drops: int = 0) -> None:
        """Return when our bytes of stdin before ``end`` were written to the container.

        Raises Refused when stdin is closed before that, or was refused more than ``drops`` times.
        """
        while self._conversation.stdin_acked < end:
            self._check_stdin(drops)
            await self._changed.park()

    async def wait_refused(self) -> NoReturn:
        """Raise Refused as soon as no more stdin is taken, or some was refused; never return."""
        while True:
            self._check_stdin(0)
            await self._changed.park()

    async def post(self, data: bytes) -> int:
        """Send stdin without waiting for it; return the count of bytes when it is all there.

        What the server does not take yet is kept and sent later: see ``pending``.
        """
        end = self.queue(data)
        await self.flush()
        return end

    def queue(self, data: bytes) -> int:
        """Take stdin, to be sent by the next ``flush``; return as ``post`` does."""
        self._conversation.write(data)
        return self._conversation.stdin_end

    @property
    def written(self) -> int:
        """How many bytes of our stdin were written to the container; a typed end counts, too."""
        return self._conversation.stdin_acked

    @property
    def pending(self) -> int:
        """How many bytes of stdin are not in the container yet."""
        return self._conversation.stdin_pending

    async def wait_pending(self, limit: int) -> None:
        """Return when no more than ``limit`` bytes of stdin are pending, or we are cut off."""
        while self.pending > limit and self._stream is not None:
            await self._changed.park()

    @property
    def may_write(self) -> bool:
        """False while somebody else is the only one who may write, or after a theft."""
        return self._conversation.may_write

    @property
    def writer(self) -> str:
        """Who alone may write; empty when everybody may."""
        return self._conversation.writer

    async def set_size(self, size: Size) -> None:
        """Tell that our own terminal has this size now; the container's policy decides."""
        self.queue_size(size)
        await self.flush()

    def queue_size(self, size: Size) -> None:
        """Note our own terminal's size, to be told by the next ``flush``."""
        if size != self._conversation.size:
            self._conversation.set_size(size)

    async def send_eof(self) -> None:
        """Close the container's stdin; return when the server has taken the request.

        Raises Refused when this client may not: ``eof_denied``, ``leased`` or ``denied``.
        """
        conversation = self._conversation
        conversation.write_eof()
        await self.flush()
        while (refusal := conversation.eof_refusal) or not conversation.stdin_closed:
            if refusal is not None:
                raise Refused(refusal.code, refusal.text)
            self._check_alive()
            await self._changed.park()

    def _check_stdin(self, drops: int) -> None:
        refusal, dropped = self._conversation.refusal, self._conversation.drops != drops
        if refusal is not None and (dropped or refusal.code == "denied"):
            raise Refused(refusal.code, refusal.text)
        if self._conversation.stdin_closed:
            raise Refused("stdin_closed", "the container's stdin is closed")
        self._check_alive()

    def _check_alive(self) -> None:
        if self._error is not None:
            raise self._error
        if self._over or self._files is not None:
            raise Refused("bad_phase", f"{self.place.id} has ended")

    # Requests

    async def start(self) -> None:
        """Start a created container. Raises Refused with the reason."""
        await self._ask(lambda: self._conversation.request(say.Start))

    async def signal(self, number: int) -> None:
        """Send a signal to the container's init. Raises Refused with the reason."""
        await self._ask(lambda: self._conversation.request_signal(number))

    async def release(self) -> None:
        """Let the shim of an ended container go. Raises Refused when it has not ended."""
        await self._ask(lambda: self._conversation.request(say.Release))

    async def rotate(self) -> None:
        """Begin a new file of each log. Raises Refused with the reason."""
        await self._ask(lambda: self._conversation.request_of("logs", say.Rotate))

    async def reopen(self) -> None:
        """Have the logs go on in the files that have their names now. Raises Refused."""
        await self._ask(lambda: self._conversation.request_of("logs", say.Reopen))

    async def resize(self, size: Size) -> None:
        """Give the container's terminal a size. Raises Refused where it has none."""
        await self._ask(lambda: self._conversation.request_resize(size))

    async def lease(self, mode: str) -> None:
        """Be the only one who may write: ``take``, ``wait`` or ``steal``; or ``free`` it again.

        Raises Refused (``leased``) when ``take`` finds another one. It is kept until we leave.
        """
        await self._ask(lambda: self._conversation.request_lease(mode))

    async def ask_lease(self) -> None:
        """Ask to be the only one who may write when it is our turn, and do not wait for that.

        A Writer event tells when it is.
        """
        self._conversation.request_lease("wait")
        await self.flush()

    async def status(self) -> say.Record:
        """Return the shim's counters and clients."""
        answer = await self._ask(lambda: self._conversation.request(say.Status))
        assert isinstance(answer, say.Report)
        return answer.report

    async def ping(self) -> int:
        """Return the offset of the newest byte, as soon as the server has answered."""
        answer = await self._ask(lambda: self._conversation.request(say.Ping))
        assert isinstance(answer, say.Pong)
        return answer.newest

    async def _ask(self, request: Callable[[], int]) -> Answer:
        while not self._conversation.attached:
            self._check_alive()
            await self._changed.park()
        number, lost = request(), self._lost
        await self.flush()
        while (answer := self._conversation.answer(number)) is None:
            self._check_alive()
            if self._lost != lost:
                raise Refused("lost", "the connection was lost before the answer came")
            await self._changed.park()
        if isinstance(answer, say.Error):
            raise Refused(answer.code, answer.text)
        return answer

    # The background

    async def run(
        self,
        connection: trio.SocketStream | None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Stay connected until the conversation is over; then return. For ``attach`` alone."""
        told = False
        while not self._over and self._error is None and self._files is None:
            try:
                stream = connection or await self._connect()
                connection = None
                if stream is not None:
                    async with stream:
                        self._unsent = bytearray(self._conversation.hello())
                        self._stream = stream
                        await self.flush()
                        async for _ in self._conversing(stream):
                            if not told:
                                told = True
                                task_status.started()
            except trio.BrokenResourceError:
                pass
            except AttachdError as error:
                self._error = error
            self._over |= self._conversation.exited
            self._stream = None
            self._lost += 1
            self._changed.unpark_all()
        if not told:
            if self._error is not None:
                raise self._error
            task_status.started()

    async def _conversing(self, stream: trio.SocketStream) -> AsyncIterator[None]:
        """Read until this connection is over; yield after each read that left us attached."""
        conversation = self._conversation
        while conversation.receive_data(bytes(await stream.receive_some(_READ_BYTES))):
            if conversation.goodbye is not None:
                break
            await self.flush()
            self._changed.unpark_all()
            if conversation.attached:
                yield
        goodbye = conversation.goodbye
        if goodbye is None:
            return
        if self._has_files(goodbye.code) and not conversation.exited:
            self._recall()  # we were too slow for the shim: its files have the rest
        elif goodbye.code in ("ended", "detached"):
            self._over = True
        else:
            raise Ended(goodbye.code, goodbye.text)

    async def _connect(self) -> trio.SocketStream | None:
        """Return a connection, or None when the files answer instead."""
        with trio.move_on_after(PATIENCE_SECONDS):
            while True:
                try:
                    peer = self.place.connect(blocking=False)
                except BlockingIOError:
                    await trio.sleep(_RETRY_SECONDS)  # many wait already
                    continue
                except (FileNotFoundError, ConnectionRefusedError) as error:
                    if self._record() is not None:
                        self._recall()
                        return None
                    if isinstance(error, ConnectionRefusedError):
                        break  # keeper and server are dead: nobody will open it again
                except OSError as error:
                    raise _cannot(self.place, str(error.strerror)) from None
                else:
                    return trio.SocketStream(trio.socket.from_stdlib_socket(peer))
                if self._conversation.welcome is None:
                    break
                await trio.sleep(_RETRY_SECONDS)
        raise _cannot(self.place, self.place.silence)

    def _recall(self) -> None:
        conversation = self._conversation
        resumed = conversation.welcome is not None and conversation.since != "none"
        since = f"offset:{conversation.position}" if resumed else conversation.since
        conversation.check_stream(self._record())
        conversation.begin_at(since)
        if conversation.execution:
            self._files = recall_exec(self.place, conversation.execution, since)
        else:
            self._files = recall(self.place, since)

    def _has_files(self, code: str) -> bool:
        """True when a goodbye means that what is left is in files."""
        return code == "ended" or (code == "no_exec" and self._record() is not None)

    def _record(self) -> say.Record | None:
        """Return the exit record that files have of what we are attached to."""
        return self.place.record(self._conversation.execution)

    async def leave(self) -> None:
        """Say detach, if there is still somebody to say it to. For ``attach`` alone."""
        with trio.move_on_after(1) as patience:
            patience.shield = True
            self._conversation.detach()
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.flush()

    async def flush(self) -> None:
        """Send what is queued; what a broken connection did not take, the next one gets.

        Waits while the server does not read. On cancel: the next flush goes on where it was.
        """
        async with self._sending:
            stream = self._stream
            if stream is None:
                return
            self._unsent += self._conversation.outgoing()
            # Whoever reads will see that it is lost.
            with contextlib.suppress(OSError, trio.ClosedResourceError):
                while self._unsent and self._stream is stream:
                    count = await stream.socket.send(self._unsent)
                    del self._unsent[:count]


def _cannot(place: Place, why: str) -> Ended:
    return Ended("unreachable", f"cannot attach to {place.id}: {why}")
