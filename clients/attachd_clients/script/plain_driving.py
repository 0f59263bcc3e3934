"""Carrying out plans without Trio: what a blocking session does while it waits."""

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from attachd.errors import AttachdError
from attachd.wire import messages as say
from attachd_clients.blocking import BlockingClient
from attachd_clients.lines import STREAMS
from attachd_clients.script import keys, options
from attachd_clients.script.buffer import LIMIT
from attachd_clients.script.face import Face
from attachd_clients.script.failures import ScriptError
from attachd_clients.script.options import TIMEOUT_SECONDS, Timeout
from attachd_clients.script.plans import (
    AGAIN_SECONDS,
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

#: Even who is late looks so long at what is there already.
_SLICE_SECONDS = 0.02

T = TypeVar("T")


class Driver(Face):
    """A session as far as it waits: the base of ``Session``."""

    def __init__(
        self,
        client: BlockingClient,
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

    def _watched(self, plan: Plan[T], seconds: float | None) -> T:
        __tracebackhide__ = True
        with self._telling():
            return self._carry_out(plan, seconds)

    def _carry_out(self, plan: Plan[T], seconds: float | None) -> T:
        __tracebackhide__ = True
        deadline = float("inf") if seconds is None else time.monotonic() + seconds
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
            reply = Silence.LATE if late else self._do(step, deadline)
            looked = looked or isinstance(step, Receive)

    def _do(self, step: Step, deadline: float) -> Reply:
        match step:
            case Receive():
                return self._receive(step, deadline)
            case Scan():
                return self._scan(step, deadline)
            case TypeEnd():
                return self._type_end()
        return self._recall()

    def _receive(self, step: Receive, deadline: float) -> Reply:
        wait = self._wait(step, deadline - time.monotonic(), self._patience)
        try:
            event = self.client.receive(None if wait == float("inf") else wait)
            self._hear(event)
            return event
        except TimeoutError:
            return Silence.LATE if _is_over(deadline) else Silence.IDLE
        except AttachdError as error:
            return self._lose(error)

    def _scan(self, step: Scan, deadline: float) -> Reply:
        begun, left = time.perf_counter(), deadline - time.monotonic()
        until = _until(begun + max(left, _SLICE_SECONDS))
        try:
            return step.search.scan(until, final=step.final)
        except TimeoutError:
            return Silence.LATE
        finally:
            self._patience = time.perf_counter() - begun

    def _recall(self) -> Reply:
        deadline = time.monotonic() + GRACE_SECONDS
        while (record := self._left_record(self.client.place, self.client.welcome)) is None:
            if _is_over(deadline):
                return None
            time.sleep(POLL_SECONDS)
        self._hear(say.Exit(record=record))
        return None

    def _type_end(self) -> Reply:
        try:
            if self.terminal:
                self.client.send(self._sent(keys.CTRL_D), AGAIN_SECONDS)
            else:
                self.client.send_eof(AGAIN_SECONDS)
        except AttachdError as error:
            return error
        except TimeoutError:
            pass  # it was sent, and the container does not read now
        return None

    def _asked(
        self, request: Callable[[float | None], None], what: str, timeout: Timeout
    ) -> None:
        """Carry out a request; raise what its refusal means."""
        __tracebackhide__ = True
        seconds = self._seconds(timeout)
        with self._telling():
            try:
                return request(seconds)
            except TimeoutError:
                pass
            except AttachdError as error:
                raise self._carry_out(
                    self._plans.refused(what, error), GRACE_SECONDS
                ) from error
            raise self._not_taken(what, seconds)


def _is_over(deadline: float) -> bool:
    return time.monotonic() >= deadline


def _until(end: float) -> Callable[[], float | None]:
    """Return what tells how many seconds are left until a moment of the performance counter."""
    return lambda: None if end == float("inf") else end - time.perf_counter()
