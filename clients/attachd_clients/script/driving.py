"""Carrying out plans in Trio: what a session does while it waits."""

import contextlib
import functools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from attachd.errors import AttachdError
from attachd.wire import messages as say
from attachd_clients import aio
from attachd_clients.lines import STREAMS
from attachd_clients.script import keys, options
from attachd_clients.script.buffer import LIMIT
from attachd_clients.script.face import Face
from attachd_clients.script.failures import ScriptError
from attachd_clients.script.options import TIMEOUT_SECONDS, Timeout
from attachd_clients.script.plans import (
    GRACE_SECONDS,
    POLL_SECONDS,
    Plan,
    Receive,
    Reply,
    Scan,
    Silence,
    Step,
    TypeEnd,
)

#: How long a search may keep Trio's loop; one that takes longer goes on in a thread.
SLICE_SECONDS = 0.02

T = TypeVar("T")


class Driver(Face):
    """A session as far as it waits: the base of ``Session``."""

    def __init__(
        self,
        client: aio.Client,
        *,
        since: str = "start",
        timeout: float | None = TIMEOUT_SECONDS,
        limit: int = LIMIT,
        streams: Iterable[str] = STREAMS,
    ) -> None:
        dialogue = options.begin(client.place, client.welcome, since, streams, limit)
        super().__init__(dialogue, timeout, time.monotonic)
        self.client = client
        self._patience = 0.0  #: how long the last search took

    async def _watched(self, plan: Plan[T], seconds: float | None) -> T:
        __tracebackhide__ = True
        with self._telling():
            return await self._carry_out(plan, seconds)

    async def _carry_out(self, plan: Plan[T], seconds: float | None) -> T:
        __tracebackhide__ = True
        deadline = float("inf") if seconds is None else trio.current_time() + seconds
        reply: Reply = None
        looked = False  # the first look is always taken
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as end:
                result: T = end.value
                return result
            except ScriptError as error:
                raise error.with_traceback(None) from None  # it ends where somebody waits
            late = looked and isinstance(step, Receive) and _is_over(deadline)
            reply = Silence.LATE if late else await self._do(step, deadline)
            looked = looked or isinstance(step, Receive)

    async def _do(self, step: Step, deadline: float) -> Reply:
        match step:
            case Receive():
                return await self._receive(step, deadline)
            case Scan():
                return await self._scan(step, deadline)
            case TypeEnd():
                return await self._type_end()
        return await self._recall()

    async def _receive(self, step: Receive, deadline: float) -> Reply:
        await self.client.flush()  # no deadline here either
        wait = self._wait(step, deadline - trio.current_time(), self._patience)
        try:
            with trio.move_on_after(wait):
                event = await self.client.receive()
                self._hear(event)
                return event
        except AttachdError as error:
            return self._lose(error)
        return Silence.LATE if _is_over(deadline) else Silence.IDLE

    async def _scan(self, step: Scan, deadline: float) -> Reply:
        begun, left = time.perf_counter(), deadline - trio.current_time()
        scan = functools.partial(step.search.scan, final=step.final)
        until = _until(begun + max(left, SLICE_SECONDS))
        try:
            with contextlib.suppress(TimeoutError):
                return scan(_until(begun + SLICE_SECONDS))
            return await trio.to_thread.run_sync(scan, until, abandon_on_cancel=True)
        except TimeoutError:
            return Silence.LATE
        finally:
            self._patience = time.perf_counter() - begun

    async def _recall(self) -> Reply:
        with trio.move_on_after(GRACE_SECONDS):
            while True:
                record = self._left_record(self.client.place, self.client.welcome)
                if record is not None:
                    self._hear(say.Exit(record=record))
                    break
                await trio.sleep(POLL_SECONDS)
        return None

    async def _type_end(self) -> Reply:
        try:
            if self.terminal:
                await self.client.post(self._sent(keys.CTRL_D))
            else:
                await self.client.send_eof()
        except AttachdError as error:
            return error
        return None

    async def _asked(
        self, request: Callable[[], Awaitable[None]], what: str, timeout: Timeout
    ) -> None:
        """Carry out a request; raise what its refusal means."""
        __tracebackhide__ = True
        seconds = self._seconds(timeout)
        with self._telling():
            try:
                with trio.move_on_after(float("inf") if seconds is None else seconds):
                    return await request()
            except AttachdError as error:
                plan = self._plans.refused(what, error)
                raise await self._carry_out(plan, GRACE_SECONDS) from error
            raise self._not_taken(what, seconds)


def _is_over(deadline: float) -> bool:
    return trio.current_time() >= deadline


def _until(end: float) -> Callable[[], float | None]:
    """Return what tells how many seconds are left until a moment of the performance counter."""
    return lambda: None if end == float("inf") else end - time.perf_counter()
