"""The speaker: what one client is told. Answers first, then output from its cursor, then the end.

It takes what the client's credit allows from the ring, and waits for nobody but its own client:
what the ring has overwritten comes from the log files, and what those do not have is a gap.
Small news, like the echo of a key, are written at once by whoever brings them; everything else
by a task.
"""

import os
from collections import deque
from collections.abc import Callable

import trio

from attachd.history.reading import Chunk
from attachd.live.brake import Brake
from attachd.live.feed import Bell, Feed
from attachd.live.memory import Recall
from attachd.live.past import Past
from attachd.state.ring import STREAM_NAMES, STREAMS, Cursor, Missed
from attachd.state.timeline import Change
from attachd.wire import messages as say
from attachd.wire.frames import MAX_DATA
from attachd.wire.session import Session, State

#: The task fills at most this much before it writes, so that a system call carries many small
#: records.
BATCH_BYTES = 256 * 1024

#: All clients that do not read together hold so much of batches; when there are very many of
#: them, each gets small ones.
ALL_BATCHES_BYTES = 64 << 20
MIN_BATCH_BYTES = 16 * 1024

#: What an answer takes here while it waits, whatever is in it.
ANSWER_BYTES = 512

#: No more output than this is written on the pump's time: the echo of a key, a line, a screen.
AT_ONCE_BYTES = 4096


class Speaker:
    """One client's side of the feed. Silent until ``begin``."""

    def __init__(
        self,
        stream: trio.SocketStream,
        session: Session,
        feed: Feed,
        past: Past | None,
        recall: Recall | None = None,
        owe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """``owe`` is told how many bytes of answers, not of output, the client has not read."""
        self._stream = stream
        self._session = session
        self._feed = feed
        self._past = past
        self._recall = recall
        self._recalled: deque[Chunk | Missed] = deque()  #: from the log, not yet told
        self._bell = Bell()
        self._owe = owe
        self._outbox: deque[tuple[int, Callable[[], say.Message]]] = deque()
        self._rest = b""  #: encoded, and not yet written
        self._idle = False  #: the task waits: others may write
        self._cursor: Cursor | None = None
        self._reads = False  #: it is one of the feed's readers
        self._credit = 0
        self._disconnects = False
        self._brake: Brake | None = None
        self._told: set[int] = set()
        self._change_told = (
            0  #: the number of the terminal's last change of size that was told
        )
        self._waiting = 0  #: bytes of answers in the outbox
        self._batched = 0  #: of those that are encoded, and not yet written
        self._owed = 0  #: of both, as it was told
        self._unread_input = 0
        self._sent = self._gaps = self._missed = 0
        self._sending = False
        self.exit_told = False

    @property
    def cut(self) -> bool:
        """True when a frame may have been cut: nothing can follow it."""
        return self._sending or bool(self._rest)

    @property
    def told_all(self) -> bool:
        """True when output was wanted, and all of it and its end were told."""
        return self.exit_told and self._cursor is not None

    @property
    def unread(self) -> int:
        """How many bytes of answers wait until the client has read those before them."""
        return self._waiting

    @property
    def unread_input(self) -> int:
        """How many bytes of input wait among those."""
        return self._unread_input

    @property
    def counters(self) -> dict[str, object]:
        """What ``status`` tells; offsets and credit are bytes."""
        cursor = self._cursor
        return {
            "offset": cursor.offset if cursor else None,
            "lag": self._feed.index.newest - cursor.offset if cursor else 0,
            "gaps": self._gaps,
            "missed": self._missed,
            "credit": self._credit,
            "sent": self._sent,
        }

    def begin(self, hello: say.Hello, offset: int, allow_block: float = 0.0) -> None:
        """Give the client what it asked for, from ``offset`` on.

        With flow ``block`` the container waits for it, ``allow_block`` seconds at most.
        """
        if hello.since != "none":
            self._cursor = Cursor(offset)
            if hello.flow == "block":
                self._brake = Brake(self._feed, allow_block)
                self._brake.move(offset)
        self._credit = hello.credit
        self._disconnects = hello.flow == "disconnect"
        if self._past is not None:
            self._change_told = self._past.timeline.at(offset).number
        feed = self._feed
        # Thousands who want no output must not be asked at each of its bytes.
        (feed.listeners if self._cursor else feed.end_listeners).add(self._speak_at_once)
        self._reads = self._cursor is not None
        feed.readers += self._reads

    def end(self) -> None:
        """Say nothing more."""
        self._feed.readers -= self._reads
        self._reads = False
        self._feed.listeners.discard(self._speak_at_once)
        self._feed.end_listeners.discard(self._speak_at_once)
        if self._recall is not None:
            self._recall.close()
        if self._brake is not None:
            self._brake.release()

    def let_go(self) -> None:
        """Have nothing wait for this client any more."""
        if self._brake is not None:
            self._brake.release()

    def tell(self, message: say.Message) -> None:
        """Queue a message."""
        size = len(message.data) if isinstance(message, say.Input) else 0
        self._unread_input += size
        self._queue(ANSWER_BYTES + size, lambda: message)

    def tell_later(self, make: Callable[[], say.Message]) -> None:
        """Queue a message that is made when the client can be told."""
        self._queue(ANSWER_BYTES, make)

    def _queue(self, size: int, make: Callable[[], say.Message]) -> None:
        self._outbox.append((size, make))
        self._waiting += size
        self._speak_at_once()
        self._tell_owed()

    def grant(self, count: int) -> None:
        """The client takes ``count`` bytes more."""
        self._credit = min(self._credit + count, say.MAX_INT)
        self._bell.ring()

    async def run(self) -> None:
        """Say what there is to say; return after a goodbye. Raises BrokenResourceError.

        On cancel: a frame may have been cut.
        """
        while True:
            batch = self._rest + self._next_batch()
            if batch:
                self._rest, self._sending = b"", True
                self._tell_owed()
                await self._send(batch)
                self._sending, self._batched = False, 0
                self._tell_owed()
                if self._brake is not None:
                    self._brake.move(self._offset)
            elif self._session.state is State.CLOSED:
                return
            elif self._recall is not None and not self._recalled and self._is_overtaken():
                self._recalled += await self._recall.take(self._offset, 2 * self._batch_bytes)
            else:
                self._idle = True
                try:
                    await self._bell.wait()
                finally:
                    self._idle = False

    async def _send(self, batch: bytes) -> None:
        """Write all; meanwhile nothing that comes is told to us, since we look again anyway.

        Thousands who do not read must not be asked at each byte, either.
        """
        listeners = self._feed.listeners
        listens = self._speak_at_once in listeners
        listeners.discard(self._speak_at_once)
        await self._stream.send_all(batch)
        if listens and self._reads:
            listeners.add(self._speak_at_once)

    async def watch(self) -> None:
        """Take the brake from a client that has held the container up for too long."""
        if self._brake is not None:
            await self._brake.watch()
            self.tell(
                say.Notice(code="released", text="the container waits for you no longer")
            )

    def _speak_at_once(self) -> None:
        """Write small news without a detour through the task, if it has nothing to do.

        See `scripts/bench --only echo`.
        """
        if self._session.state is State.ERROR:
            return  # it misspoke, and is about to be let go
        if self._idle and self._is_news_to_others():
            return
        if self._idle and not self._rest and self._is_small():
            self._rest = self._write(self._next_batch())
            self._batched = self._batched if self._rest else 0
            self._tell_owed()
            if self._brake is not None and not self._rest:
                self._brake.move(self._offset)
            done = not self._rest and not self._outbox
            if done and self._session.state is not State.CLOSED:
                return
        self._bell.ring()

    def _is_news_to_others(self) -> bool:
        """True when this client wants nothing of it; of thousands nearly all may be such."""
        feed, cursor = self._feed, self._cursor
        if self._outbox or self._rest or cursor is None or feed.record is not None:
            return False
        return self._credit == 0 and self._past is None and cursor.offset < feed.index.newest

    def _is_small(self) -> bool:
        """True when there is little to say, and all of it may be said."""
        cursor, newest = self._cursor, self._feed.index.newest
        if self._recalled or self._is_overtaken():
            return False
        return cursor is None or newest - cursor.offset <= min(AT_ONCE_BYTES, self._credit)

    @property
    def _offset(self) -> int:
        return self._cursor.offset if self._cursor else self._feed.index.newest

    def _is_overtaken(self) -> bool:
        """True when the ring does not have what is to be told next, and it may be told."""
        return self._offset < self._feed.index.oldest and self._credit > 0

    def _write(self, data: bytes) -> bytes:
        """Write what the socket takes; return the rest. What is wrong the task will find out."""
        try:
            return data[os.write(self._stream.socket.fileno(), data) :] if data else b""
        except OSError:
            return data

    def _next_batch(self) -> bytes:
        """Return what can be said now; b"" when there is nothing."""
        parts: list[bytes] = []
        size, most = 0, self._batch_bytes
        while size < most and self._outbox and self._session.state is not State.CLOSED:
            parts.append(self._session.send(self._next_answer()))
            size += len(parts[-1])
        self._batched += size
        while size < most and self._session.state is State.ATTACHED:
            message = self._next_news()
            if message is None:
                break
            parts.append(self._session.send(message))
            size += len(parts[-1])
        return b"".join(parts)

    def _tell_owed(self) -> None:
        owed = self._waiting + self._batched
        if owed != self._owed:
            self._owed = owed
            self._owe(owed)

    @property
    def _batch_bytes(self) -> int:
        share = ALL_BATCHES_BYTES // max(1, self._feed.readers)
        return min(BATCH_BYTES, max(MIN_BATCH_BYTES, share))

    def _next_answer(self) -> say.Message:
        size, make = self._outbox.popleft()
        self._waiting -= size
        message = make()
        if isinstance(message, say.Input):
            self._unread_input -= len(message.data)
        return message

    def _next_news(self) -> say.Message | None:
        """Move the cursor on; after the last byte come the ends, then the exit record."""
        cursor, feed = self._cursor, self._feed
        if cursor is not None:
            change = self._next_change()
            if change is not None and change.offset <= cursor.offset:
                return self._resized(change)
            if cursor.offset < feed.index.newest:
                return self._next_output(cursor, change)
            for stream in STREAMS:
                if stream in feed.ends and stream not in self._told:
                    self._told.add(stream)
                    return say.Eof(stream=STREAM_NAMES[stream])
        if feed.record is not None and not self.exit_told:
            self.exit_told = True
            return say.Exit(record=feed.record)
        return None

    def _next_change(self) -> Change | None:
        """Return the terminal's next change of size, which goes into the order of its output."""
        return self._past.timeline.after(self._change_told) if self._past is not None else None

    def _resized(self, change: Change) -> say.Message:
        self._change_told = change.number
        columns, rows = change.size
        return say.Resized(offset=change.offset, time=change.time, columns=columns, rows=rows)

    def _next_output(self, cursor: Cursor, change: Change | None) -> say.Message | None:
        limit = min(MAX_DATA, self._credit, self._batch_bytes)
        if limit == 0:
            return None
        if change is not None:
            limit = min(limit, change.offset - cursor.offset)
        step = self._next_step(cursor, limit)
        if step is None:
            return None
        if isinstance(step, Missed):
            return self._gap(step)
        self._credit -= len(step.data)
        self._sent += len(step.data)
        return say.Output(
            offset=step.start, stream=STREAM_NAMES[step.stream], time=step.time, data=step.data
        )

    def _next_step(self, cursor: Cursor, limit: int) -> Chunk | Missed | None:
        """Move the cursor on, over what was recalled or over the ring; None: nothing is there."""
        if self._recalled:
            step = self._recalled.popleft()
            if isinstance(step, Chunk) and len(step.data) > limit:
                middle = step.start + limit
                self._recalled.appendleft(step.cut(middle, step.end))
                step = step.cut(step.start, middle)
            cursor.offset = step.end
            return step
        if self._recall is not None and self._is_overtaken():
            return None  # the task asks the log
        found = cursor.step(self._feed.index, limit)
        if found is None or isinstance(found, Missed):
            return found
        data = self._feed.read(found.start, found.end)
        return Chunk(found.start, found.stream, found.time, data)

    def _gap(self, missed: Missed) -> say.Message:
        self._gaps += 1
        self._missed += missed.end - missed.start
        self._feed.count_gap(missed.end - missed.start)
        if self._disconnects:
            text = f"too slow: {missed.end - missed.start} bytes from {missed.start} are gone"
            return say.Goodbye(code="slow", text=text)
        return say.Gap(start=missed.start, end=missed.end)
