"""Follow a container: its lines from any point to its end, over lost connections and restarts.

    async for record in follow("web"):  # Line, Gap, and at last Exit
        ...

    cursor = Cursor("web.cursor")
    async with follow("web", from_=cursor) as records:
        async for record in records:
            ...
            cursor.save(records.position)

A server that is killed is a pause, and a shim that is gone is replaced by the container's files;
neither is noticed here. Where keeper and server are dead and left no exit record, the records
end with what the log has, without an `Exit`.
"""

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from types import TracebackType

import attrs
import trio

from attachd.errors import Refused, UsageError
from attachd.wire import messages as say
from attachd.wire.origin import Origin as WireOrigin
from attachd.wire.origin import parse_origin
from attachd_clients.aio import Client, attach
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.conversation import WINDOW, Ended, Event
from attachd_clients.cursor import Cursor
from attachd_clients.history import read_log
from attachd_clients.lines import STREAMS, Position
from attachd_clients.places import Place
from attachd_clients.trail import Heartbeat, Record, Trail

#: Where a follower begins: a ``since`` of the protocol, an offset in bytes, where another one has
#: left off, or what a cursor says (without anything in it: the start).
Origin = str | int | Position | Cursor

#: A batch is at most so many bytes of output and one message: half of what may be under way, so
#: that the shim sends the other half while this one is handled.
BATCH_BYTES = WINDOW // 2

#: A ping is answered at once, or something is wrong with the shim.
ANSWER_SECONDS = 30.0


def follow(
    container: str,
    *,
    root: str | None = None,
    from_: Origin = "start",
    streams: Iterable[str] = STREAMS,
    lines: bool = True,
    live: bool = True,
    heartbeat: float | None = None,
    name: str = "follow",
) -> "Following":
    """Follow a container, running or ended: ``async with``, or ``async for`` at once.

    ``lines``: with False, output comes as it was read. ``live``: with False, the records end
    with what is there now. ``heartbeat``: after so many seconds without anything the shim is
    asked whether it is there, and a `Heartbeat` is told.

    A cursor of a container that is no longer there, while there is another one of its id, begins
    at the start of this one. It is only read here, and told whose it is: saving is up to the
    caller. Raises NoSuchContainer; Ended when the shim refuses (``bad_offset``: it is in the
    future; ``other_stream``: another container has taken the place of this one meanwhile) or
    does not answer a heartbeat in ANSWER_SECONDS; UsageError when there is nothing to read.
    """
    return Following(
        lambda: _Way.begin(container, root, from_, streams, lines, live), heartbeat, name
    )


class Following:
    """What ``follow`` returns.

    Entered by ``async with``, it is a `Follower`, detached when the block is left. Iterated over
    without that, it has no task in the background, which an iterator that is forgotten could not
    end: each step is one of the blocking twin's, in a thread. On cancel: it detaches at once.
    """

    def __init__(
        self, begin: Callable[[], "_Way"], heartbeat: float | None, name: str
    ) -> None:
        self._begin = begin
        self._heartbeat = heartbeat
        self._name = name
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Follower":
        follower = _follower(self._begin(), self._heartbeat, self._name)
        return await self._stack.enter_async_context(follower)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        return bool(await self._stack.__aexit__(kind, error, trace))

    async def __aiter__(self) -> AsyncGenerator[Record, None]:
        twin = BlockingFollower(self._begin(), self._heartbeat, self._name)
        batches = twin.batches()
        try:
            while (records := await _in_a_thread(batches)) is not None:
                for record in records:
                    yield record
        finally:
            twin.stop()


async def _in_a_thread(batches: Iterator[list[Record]]) -> list[Record] | None:
    return await trio.to_thread.run_sync(next, batches, None, abandon_on_cancel=True)


@contextlib.asynccontextmanager
async def _follower(
    way: "_Way", heartbeat: float | None, name: str
) -> AsyncIterator["Follower"]:
    async with contextlib.AsyncExitStack() as stack:
        client = None
        try:
            attached = attach(
                way.place.id,
                root=way.place.root,
                since=way.trail.since,
                stream_id=way.stream_id,
                role="viewer",
                name=name,
            )
            client = await stack.enter_async_context(attached)
            way.welcomed(client.welcome)
        except Ended as error:
            way.lose(error, None)
        yield Follower(way, client, heartbeat)


def follow_blocking(
    container: str,
    *,
    root: str | None = None,
    from_: Origin = "start",
    streams: Iterable[str] = STREAMS,
    lines: bool = True,
    live: bool = True,
    heartbeat: float | None = None,
    name: str = "follow",
) -> "BlockingFollower":
    """The same without Trio: ``for record in follow_blocking("web"): ...``.

    Connects when the first record is wanted, and detaches when the iterator is at its end, or
    is closed, or forgotten.
    """
    way = _Way.begin(container, root, from_, streams, lines, live)
    return BlockingFollower(way, heartbeat, name)


@attrs.define(eq=False)
class _Way:
    """What both colours share: where they are, where they stop, and files instead of a shim."""

    place: Place
    trail: Trail
    stream_id: str  #: the stream that the origin belongs to; empty: whichever is there
    _live: bool
    _goal: int | None = None  #: the offset where it ends; None: at the container's end
    files: Iterator[Event] | None = None  #: what a lost container has left
    over: bool = False

    @classmethod
    def begin(
        cls,
        container: str,
        root: str | None,
        origin: Origin,
        streams: Iterable[str],
        lines: bool,
        live: bool,
    ) -> "_Way":
        """Return the way from ``origin`` on. Raises NoSuchContainer, UsageError."""
        place, stream_id = Place.find(container, root), ""
        if isinstance(origin, Cursor):
            stream_id = str(place.state()["stream_id"])
            origin.adopt(stream_id, place.former_streams())
            origin = origin.position or "start"
        return cls(place, Trail(origin, streams, lines=lines), stream_id, live)

    def welcomed(self, welcome: say.Welcome | None) -> None:
        """Note where it ends when only what is there now is wanted."""
        if not self._live and welcome is not None and self.place.exit_record() is None:
            self._goal = welcome.newest

    def lose(self, error: Ended, offset: int | None) -> None:
        """Go on in the files of a lost container, from ``offset`` on; raise any other error."""
        if error.code != "unreachable":
            raise error
        since = self.trail.since if offset is None else f"offset:{offset}"
        self.files = self._left(parse_origin(since), resumed=offset is not None)

    def _left(self, origin: WireOrigin, *, resumed: bool) -> Iterator[Event]:
        if origin.kind in ("live", "none"):
            return
        try:
            yield from read_log(self.place, origin)
        except UsageError:
            if not resumed or not self.place.state().get("logs"):
                raise
            # We were told more than the log has got: nothing is left to tell.

    def take(self, event: Event | Heartbeat | None, offset: int) -> list[Record]:
        """Return the records of an event, which has led to ``offset``; None is the end."""
        if isinstance(event, Heartbeat):
            return [event]
        records = self.trail.take(event) if event is not None else []
        if event is None or (self._goal is not None and offset >= self._goal):
            self.over = True
            records += self.trail.flush()
        self.trail.told(None)
        return records

    def is_there(self, offset: int) -> bool:
        """True when nothing is wanted beyond ``offset``."""
        return self.over or (self._goal is not None and offset >= self._goal)


class Follower:
    """A follower that is attached. Made by ``follow``; iterate over it, or take ``batch``es."""

    def __init__(self, way: _Way, client: Client | None, heartbeat: float | None) -> None:
        self._way = way
        self._client = client
        self._heartbeat = float("inf") if heartbeat is None else heartbeat
        self._batch: deque[Record] = deque()

    @property
    def position(self) -> Position:
        """Where another one goes on when this one's last record, or batch, was handled."""
        return self._way.trail.position

    def __aiter__(self) -> "Follower":
        return self

    async def __anext__(self) -> Record:
        if not self._batch:
            self._batch.extend(await self._records())
        if not self._batch:
            raise StopAsyncIteration
        self._way.trail.told(self._batch[0])
        return self._batch.popleft()

    async def batch(self) -> list[Record]:
        """Return the next records, as many as are there, within BATCH_BYTES; none at the end.

        On cancel: no record is lost.
        """
        records = await self._records()
        return records + self._take_more() if records else []

    async def _records(self) -> list[Record]:
        """Return those of one event: then ``position`` is right also behind one that is no line."""
        while not self._way.is_there(self._offset):
            event = await self._receive()
            if records := self._way.take(event, self._offset):
                return records
        return []

    def _take_more(self) -> list[Record]:
        """Return the records of what has come meanwhile: each batch costs a commit."""
        records: list[Record] = []
        client, end = self._client, self._offset + BATCH_BYTES
        while (
            client is not None and self._offset < end and not self._way.is_there(self._offset)
        ):
            event = client.receive_nowait()
            if event is None:
                break
            records += self._way.take(event, self._offset)
        return records

    @property
    def _offset(self) -> int:
        return self._client.offset if self._client else 0

    async def _receive(self) -> Event | Heartbeat | None:
        if self._client is not None and self._way.files is None:
            try:
                return await self._hear(self._client)
            except Ended as error:
                self._way.lose(error, self._client.offset)
        await trio.lowlevel.checkpoint()
        return next(self._way.files or iter(()), None)

    async def _hear(self, client: Client) -> Event | Heartbeat | None:
        while True:
            with trio.move_on_after(self._heartbeat):
                return await client.receive()
            with contextlib.suppress(Refused):  # the connection is lost: it is made again
                return await _beat(client)


class BlockingFollower:
    """Made by ``follow_blocking``; iterate over it, or over its ``batches``, once."""

    def __init__(self, way: _Way, heartbeat: float | None, name: str) -> None:
        self._way = way
        self._heartbeat = heartbeat
        self._name = name
        self._client: BlockingClient | None = None

    @property
    def position(self) -> Position:
        """Where another one goes on when this one's last record, or batch, was handled."""
        return self._way.trail.position

    def stop(self) -> None:
        """End the iteration, which may be at work in another thread."""
        self._way.over = True
        if self._client is not None:
            self._client.abort()

    def __iter__(self) -> Iterator[Record]:
        for records in self.batches():
            for record in records:
                self._way.trail.told(record)
                yield record

    def batches(self) -> Iterator[list[Record]]:
        """Yield the records, as many at once as came together."""
        way, offset = self._way, None
        try:
            attached = attach_blocking(
                way.place.id,
                root=way.place.root,
                since=way.trail.since,
                stream_id=way.stream_id,
                role="viewer",
                name=self._name,
            )
            with attached as client:
                self._client = client
                way.welcomed(client.welcome)
                while not way.is_there(client.offset):
                    event, offset = self._hear(client), client.offset
                    if records := way.take(event, offset):
                        yield records
        except Ended as error:
            way.lose(error, offset)
            for event in way.files or ():
                yield way.take(event, 0)
            yield way.take(None, 0)

    def _hear(self, client: BlockingClient) -> Event | Heartbeat | None:
        while True:
            try:
                return client.receive(self._heartbeat)
            except TimeoutError:
                with contextlib.suppress(Refused):
                    return _beat_blocking(client)


async def _beat(client: Client) -> Heartbeat:
    try:
        with trio.fail_after(ANSWER_SECONDS):
            return Heartbeat(await client.ping())
    except trio.TooSlowError:
        raise _silent(client.place) from None


def _beat_blocking(client: BlockingClient) -> Heartbeat:
    try:
        return Heartbeat(client.ping(ANSWER_SECONDS))
    except TimeoutError:
        raise _silent(client.place) from None


def _silent(place: Place) -> Ended:
    return Ended("silent", f"the shim of {place.id} has not answered for {ANSWER_SECONDS:g} s")
