"""The blocking client: the same conversation without Trio, for scripts, tests and ``attachctl``.

    with attach_blocking("web", since="start") as client:
        for event in client:
            ...

Nothing happens in the background: what arrives meanwhile waits in the socket, and the server
waits for nobody. A lost connection is made again by whatever call notices it.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator

import attrs

from attachd.errors import AttachdError, Refused
from attachd.state.sizes import NO_SIZE, Size
from attachd.wire import messages as say
from attachd_clients.conversation import WINDOW, Answer, Conversation, Ended, Event, whole
from attachd_clients.history import recall, recall_exec
from attachd_clients.places import Place

#: As in `attachd_clients.aio`.
PATIENCE_SECONDS = 30.0

_RETRY_SECONDS = 0.05
_READ_BYTES = 256 * 1024


@contextlib.contextmanager
def attach_blocking(
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
) -> Iterator["BlockingClient"]:
    """Attach to a container, running or ended; detach when the block is left.

    The arguments and errors are those of `attachd_clients.aio.attach`.
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
    client = BlockingClient(place, conversation)
    try:
        client.connect()
        yield client
    finally:
        client.leave()


@attrs.define(eq=False)
class BlockingClient:
    """An attached client. Made by ``attach_blocking``. A timeout raises TimeoutError."""

    place: Place
    _conversation: Conversation
    _peer: socket.socket | None = None
    _files: Iterator[Event] | None = None
    _over: bool = False
    _rest: bytearray = attrs.field(factory=bytearray)  #: of a frame that is half sent

    @property
    def welcome(self) -> say.Welcome | None:
        """The server's last welcome; None when the container's files answer instead."""
        return self._conversation.welcome

    @property
    def offset(self) -> int:
        """The offset of the next byte: what ``since="offset:N"`` would go on with."""
        return self._conversation.offset or 0

    def __iter__(self) -> Iterator[Event]:
        while (event := self.receive()) is not None:
            yield event

    def receive(self, timeout: float | None = None) -> Event | None:
        """Return the next event in order; None after the exit record or our own detach."""
        deadline = _deadline(timeout)
        while True:
            event = self._conversation.take()
            if event is not None:
                return event
            if self._over or self._conversation.exited:
                return None
            if self._files is not None:
                event = next(self._files, None)
                return None if event is None else self._conversation.given(event)
            self._turn(deadline)

    def abort(self) -> None:
        """Have a call that waits in another thread return as if we had detached."""
        self._over = True
        if (peer := self._peer) is not None:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def send(self, data: bytes, timeout: float | None = None) -> None:
        """Send stdin; return when it was written to the container. Raises Refused."""
        conversation, deadline = self._conversation, _deadline(timeout)
        drops = conversation.drops
        conversation.write(data)
        end = conversation.stdin_end
        while conversation.stdin_acked < end:
            refusal = conversation.refusal
            dropped = conversation.drops != drops
            if refusal is not None and (dropped or refusal.code == "denied"):
                raise Refused(refusal.code, refusal.text)
            if conversation.stdin_closed:
                raise Refused("stdin_closed", "the container's stdin is closed")
            self._turn(deadline)

    def send_eof(self, timeout: float | None = None) -> None:
        """Close the container's stdin; return when the server has taken the request.

        Raises Refused when this client may not: ``eof_denied``, ``leased`` or ``denied``.
        """
        conversation, deadline = self._conversation, _deadline(timeout)
        conversation.write_eof()
        while (refusal := conversation.eof_refusal) or not conversation.stdin_closed:
            if refusal is not None:
                raise Refused(refusal.code, refusal.text)
            self._turn(deadline)

    def start(self, timeout: float | None = None) -> None:
        """Start a created container. Raises Refused with the reason."""
        self._ask(lambda: self._conversation.request(say.Start), timeout)

    def signal(self, number: int, timeout: float | None = None) -> None:
        """Send a signal to the container's init. Raises Refused with the reason."""
        self._ask(lambda: self._conversation.request_signal(number), timeout)

    def release(self, timeout: float | None = None) -> None:
        """Let the shim of an ended container go. Raises Refused when it has not ended."""
        self._ask(lambda: self._conversation.request(say.Release), timeout)

    def rotate(self, timeout: float | None = None) -> None:
        """Begin a new file of each log. Raises Refused with the reason."""
        self._ask(lambda: self._conversation.request_of("logs", say.Rotate), timeout)

    def reopen(self, timeout: float | None = None) -> None:
        """Have the logs go on in the files that have their names now. Raises Refused."""
        self._ask(lambda: self._conversation.request_of("logs", say.Reopen), timeout)

    def resize(self, size: Size, timeout: float | None = None) -> None:
        """Give the container's terminal a size. Raises Refused where it has none."""
        self._ask(lambda: self._conversation.request_resize(size), timeout)

    def lease(self, mode: str, timeout: float | None = None) -> None:
        """Be the only one who may write; as `attachd_clients.aio.Client.lease`."""
        self._ask(lambda: self._conversation.request_lease(mode), timeout)

    def status(self, timeout: float | None = None) -> say.Record:
        """Return the shim's counters and clients."""
        answer = self._ask(lambda: self._conversation.request(say.Status), timeout)
        assert isinstance(answer, say.Report)
        return answer.report

    def ping(self, timeout: float | None = None) -> int:
        """Return the offset of the newest byte, as soon as the server has answered."""
        answer = self._ask(lambda: self._conversation.request(say.Ping), timeout)
        assert isinstance(answer, say.Pong)
        return answer.newest

    def wait_gone(self, timeout: float | None = None) -> None:
        """Return when the shim has closed the connection and is about to be gone."""
        deadline = _deadline(timeout)
        while self._peer is not None and not self._over:
            self._turn(deadline)

    def connect(self) -> None:
        """Connect and be welcomed. For ``attach_blocking`` alone."""
        # Until an exec runs may take as long as its container's --create-timeout.
        deadline = _deadline(None if self._conversation.spec else PATIENCE_SECONDS)
        while not (self._conversation.attached or self._over or self._files is not None):
            self._turn(deadline)  # over: it was all there was to say, welcome to goodbye

    def leave(self) -> None:
        """Say detach and close. For ``attach_blocking`` alone."""
        if self._peer is not None:
            self._conversation.detach()
            with contextlib.suppress(OSError):
                self._peer.settimeout(1)
                self._peer.sendall(self._conversation.outgoing())
            self._drop()

    # Inside

    def _ask(self, request: Callable[[], int], timeout: float | None) -> Answer:
        deadline = _deadline(timeout)
        while not self._conversation.attached:
            self._check_alive()
            self._turn(deadline)
        number, peer = request(), self._peer
        while (answer := self._conversation.answer(number)) is None:
            if self._peer is not peer:
                raise Refused("lost", "the connection was lost before the answer came")
            self._turn(deadline)
        if isinstance(answer, say.Error):
            raise Refused(answer.code, answer.text)
        return answer

    def _check_alive(self) -> None:
        if self._over or self._files is not None:
            raise Refused("bad_phase", f"{self.place.id} has ended")

    def _late(self) -> TimeoutError:
        words = self.place.trouble_words
        rest = f", and {words}" if words else ""
        return TimeoutError(f"{self.place.id} did not answer in time{rest}")

    def _turn(self, deadline: float | None) -> None:
        """Connect if need be, send what is queued, and read once. Raises TimeoutError."""
        self._check_alive()
        peer = self._peer or self._connect()
        if peer is None:
            return
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise self._late()
        try:
            peer.settimeout(left)
            self._send(peer)
            ready, _, _ = select.select([peer], [], [], left)
            if not ready:
                raise self._late()
            if not self._conversation.receive_data(peer.recv(_READ_BYTES)):
                self._lose()
        except TimeoutError:
            raise
        except OSError:
            self._lose()
        self._heed_goodbye()

    def _send(self, peer: socket.socket) -> None:
        """Send what is queued. Raises TimeoutError; then the rest is sent first next time."""
        self._rest += self._conversation.outgoing()
        while self._rest:
            del self._rest[: peer.send(self._rest)]

    def _heed_goodbye(self) -> None:
        goodbye = self._conversation.goodbye
        if goodbye is None:
            return
        self._drop()
        if self._has_files(goodbye.code) and not self._conversation.exited:
            self._recall()  # we were too slow for the shim: its files have the rest
            return
        self._over = True
        if goodbye.code not in ("ended", "detached"):
            raise Ended(goodbye.code, goodbye.text)

    def _lose(self) -> None:
        self._drop()
        self._over |= self._conversation.exited

    def _drop(self) -> None:
        self._rest.clear()
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _connect(self) -> socket.socket | None:
        """Connect and say hello; return None when the container's files answer instead."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            try:
                self._peer = self.place.connect()
            except (FileNotFoundError, ConnectionRefusedError) as error:
                if self._record() is not None:
                    self._recall()
                    return None
                if isinstance(error, ConnectionRefusedError):
                    break  # keeper and server are dead: nobody will open it again
            except OSError as error:
                raise _cannot(self.place, str(error.strerror)) from None
            else:
                with contextlib.suppress(
                    OSError
                ):  # it may have said goodbye, which we read next
                    self._peer.sendall(self._conversation.hello())
                return self._peer
            if self._conversation.welcome is None:
                break
            time.sleep(_RETRY_SECONDS)
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


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _cannot(place: Place, why: str) -> AttachdError:
    return Ended("unreachable", f"cannot attach to {place.id}: {why}")
