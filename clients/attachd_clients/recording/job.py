"""One recording, from where it begins to where it ends: attach, and write what comes."""

import contextlib
import math
import signal
import time
from collections.abc import AsyncIterator

import attrs
import trio

from attachd.errors import Refused, UsageError
from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd_clients.aio import Client, attach, unwrapped
from attachd_clients.clock import wait_until
from attachd_clients.conversation import Event
from attachd_clients.places import Place
from attachd_clients.recording.beginning import find_beginning, make_recorder
from attachd_clients.recording.recorder import Recorder
from attachd_clients.recording.sizes import Sized, left_timeline
from attachd_clients.recording.writing import Outfile

_SECOND = 1_000_000_000
_NAME = "attachctl record"
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be recorded, and where it goes."""

    since: str  #: as ``hello.since``; ``live`` begins with the screen, where there is one
    until: float = math.inf  #: nothing that was later, ns since the epoch
    duration: float = math.inf  #: nothing that was later after the beginning, ns
    size: Size | None = None  #: for a container without a terminal
    input: bool = False  #: also what is typed
    more: dict[str, object] = attrs.field(factory=dict)  #: fields of the header
    execution: str = ""  #: of the container the exec of this name
    path: str  #: ``-`` is stdout
    overwrite: bool = False


@attrs.define(eq=False)
class Job:
    """Records one container into one file."""

    _place: Place
    _plan: Plan
    _signal: int = 0  #: what has ended it
    _goal: float = math.inf  #: the offset after the last output that was early enough
    _file: Outfile | None = None
    _sized: Sized | None = None  #: where the container's files answer, which tell no sizes
    _recorder: Recorder = attrs.field(init=False)
    _began: trio.Event = attrs.field(factory=trio.Event)
    _copying: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def run(self) -> int:
        """Record until the container's end, the plan's, or a signal; return the signal, or 0.

        The file is whole in each case. Raises AttachdError when there is no such container, no
        such place in its output, or the file cannot be written.
        """
        with trio.open_signal_receiver(*_STOPPING) as signals:
            async with unwrapped(), trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                await self._record(nursery)
                nursery.cancel_scope.cancel()
        if self._file is None:
            raise UsageError("stopped before anything was recorded")
        return self._signal

    async def _record(self, nursery: trio.Nursery) -> None:
        plan, place = self._plan, self._place
        at, since = await find_beginning(place, plan.since, _NAME, plan.execution)
        async with self._attach(since) as client:
            self._recorder = make_recorder(
                place, client, at, plan.size, plan.more, plan.execution
            )
            self._sized = None if client.welcome else Sized(left_timeline(place))
            self._file = Outfile.open(plan.path, overwrite=plan.overwrite)
            with contextlib.closing(self._file) as file:
                nursery.start_soon(self._watch_clock, client)
                with self._copying:
                    await self._copy(client, file)
                await file.add(self._recorder.end(time.time_ns()))

    def _attach(self, since: str) -> contextlib.AbstractAsyncContextManager[Client]:
        told = self._plan.input  # to a client that may type itself, and no other
        return attach(
            self._place.id,
            root=self._place.root,
            since=since,
            role="full" if told else "viewer",
            name=_NAME,
            input=told,
            exec=self._plan.execution,
        )

    async def _copy(self, client: Client, file: Outfile) -> None:
        """Write what comes until the end. On cancel: what was taken was written, or was cut."""
        await self._begin_when_due(client, file)
        async for event in client:
            if not await self._add(event, file):
                return
            await self._begin_when_due(client, file)
            if client.offset >= self._goal:
                return

    async def _begin_when_due(self, client: Client, file: Outfile) -> None:
        """Begin now when there is nothing in the past that was to be recorded."""
        if client.welcome is not None and client.offset >= client.welcome.newest:
            await file.add(self._recorder.begin(time.time_ns()))
        if self._recorder.base is not None:
            self._began.set()

    async def _add(self, event: Event, file: Outfile) -> bool:
        """Write an event; return False when it came too late to be recorded."""
        for part in self._sized.add(event) if self._sized else (event,):
            if _time(part) > self._limit:
                return False
            await file.add(self._recorder.take(part, time.time_ns()))
        return True

    @property
    def _limit(self) -> float:
        """The time of the last event that is early enough, in ns since the epoch."""
        base = self._recorder.base
        return min(self._plan.until, math.inf if base is None else base + self._plan.duration)

    # What ends it

    async def _heed(self, signals: AsyncIterator[int], everything: trio.CancelScope) -> None:
        """End the recording on ctrl-C. Ends by that, or when cancelled."""
        async for number in signals:
            self._signal = number
            (everything if self._file is None else self._copying).cancel()
            return

    async def _watch_clock(self, client: Client) -> None:
        """End the recording when it is time, and all that came before was recorded.

        Ends by that, when cancelled, or when the shim has gone: then there is nothing to wait for.
        """
        if math.isfinite(self._plan.duration):
            await self._began.wait()
        if math.isinf(self._limit):
            return
        await wait_until(self._limit)
        while math.isinf(self._goal):
            try:
                self._goal = await client.ping()
            except Refused as error:
                if error.code != "lost":
                    return
        if client.offset >= self._goal:
            self._copying.cancel()


def _time(event: Event) -> int:
    """Return when something was, in ns since the epoch; 0 when that is not known."""
    return event.time if isinstance(event, say.Output | say.Resized | say.Input) else 0
