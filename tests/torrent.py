"""Output under fire: a container pours, clients follow, and its server is killed all the time.

The container is told by lines what to say (`saying`), so that it says much or little between two
kills, and moments are places in the output. Lines come through the library: stdin is in the
storm, too.
"""

import contextlib
import json
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import trio
from attachd_clients import attach, attach_blocking
from attachd_clients.aio import Client
from harness import PATIENCE, Shop, wait_for
from hearing import TAIL_BYTES, Heard, Ledger, Listener, Mark, cri_sums, sum_of
from nest import Nest
from saying import CODE, STREAMS, Pipes, Screen, Source

from attachd.wire import messages as say

#: More than a client is let behind, and little enough that visitors want what only logs have.
RING_BYTES = TAIL_BYTES
BEHIND_BYTES = 8 << 20

#: One kill in so many comes while the server starts; its keeper waits longer after each.
START_IN = 8
START_SECONDS = 0.3

#: One in so many comes when the server has been at work for a while, whatever it does then.
WORK_IN = 4
WORK_SECONDS = 0.05

#: A visitor stays up to so long.
STAY_SECONDS = 3.0


class Outcome(NamedTuple):
    """How a storm went."""

    working: int  #: kills of servers that were at work
    starting: int  #: kills of servers that were not yet
    flowing: int  #: kills with output on its way
    size: int  #: bytes
    seconds: float
    visits: int  #: of clients that came to a known offset
    compared: int  #: how often all clients together have compared
    wrong: list[str]  #: empty when every byte was where it belongs

    def __str__(self) -> str:
        kills = f"{self.working + self.starting} kills ({self.working} up,"
        kills += f" {self.starting} during start; output on its way at {self.flowing})"
        speed = f"{self.size / self.seconds / 1e6:.2f} MB/s"
        flow = f"{self.size} bytes, {self.seconds:.0f} s, {speed}"
        seen = f"{self.visits} visits, {self.compared} comparisons"
        return f"{kills}, {flow}, {seen}: {'; '.join(self.wrong) or 'exact'}"


class Storm:
    """One container, and all that happens to it. ``run`` once."""

    def __init__(
        self, shop: Shop, source: Source, size: int, kills: int, chance: random.Random
    ) -> None:
        self._shop = shop
        self._source = source
        self._size = size
        self._kills = kills
        self._chance = chance
        self._ledger = Ledger(source.ready)
        self._listener = Listener(self._ledger)
        self._flowing = 0
        self._parts = 0
        self._marks: deque[Mark] = deque(maxlen=128)
        self._visits = 0
        self._visited = 0  #: comparisons of visitors
        self._heard = Heard()  #: both streams, in the order of the ring
        self._record: say.Record = {}
        self._moved = trio.Event()
        self._uncounted = 0  #: kills after the record

    async def run(self) -> Outcome:
        """Storm, then look at everything that is left."""
        begun = time.monotonic()
        self._box = box = self._begin()
        self._nest = Nest(self._shop, box)
        wrong: list[str] = []
        try:
            with trio.fail_after(PATIENCE * 3 + 3 * self._kills):
                await self._pour()
            wrong = await trio.to_thread.run_sync(lambda: list(self._differences()))
        except (Exception, BaseExceptionGroup) as error:
            wrong = [*_leaves(error)]
        nest, compared = self._nest, self._listener.compared + self._visited
        seconds, size = time.monotonic() - begun, self._ledger.total
        return Outcome(
            nest.working, nest.starting, self._flowing, size, seconds, self._visits, compared,
            wrong,
        )  # fmt: skip

    def _begin(self) -> str:
        shop, source = self._shop, self._source
        bundle, box = shop.bundle("sh", "-c", source.script), shop.name()
        shop.patch(bundle, lambda spec: spec["process"].update(terminal=source.terminal))
        source.fill(bundle / "rootfs")
        logs = ("--log", shop.scratch / "cri.log", "--log", f"raw:{shop.scratch}/raw.log")
        keep = ("--ring-size", RING_BYTES, "--linger", 600)
        options = (*source.options, *logs, *keep, "--bundle", bundle)
        shop.call("attachd", "run", *options, box)
        return box

    async def _pour(self) -> None:
        async with attach(self._box, root=str(self._shop.root), since="start") as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, client)
                visits = await nursery.start(self._keep_visiting)
                while self._nest.kills < self._kills:
                    await self._strike(client)
                while (left := self._size - self._ledger.total) > 0:
                    await self._say_more(client, left)
                await self._wait_heard(self._ledger.total)
                visits.cancel()
                await self._end(client)

    # Kills

    async def _strike(self, client: Client) -> None:
        """Kill one server; have enough to be said until then, and a bit more.

        What is left is shared out among the kills that are left, so that output comes to the end.
        """
        here = self._nest.position
        share = max(1, (self._size - here) // (self._kills - self._nest.kills))
        wanted = here + 1 + self._chance.randrange(share)
        while self._ledger.total <= wanted + share // 4:
            await self._say_more(client, share)
        await self._wait_heard(here - BEHIND_BYTES)
        await trio.to_thread.run_sync(self._nest.kill, self._draw_moment(wanted))
        self._flowing += self._nest.position < self._ledger.total

    def _draw_moment(self, wanted: int) -> Callable[[int], object]:
        """Return what returns at the moment of the kill."""
        nest, chance = self._nest, self._chance
        if chance.randrange(START_IN) == 0:
            early = chance.uniform(0, START_SECONDS)
            return lambda pid: time.sleep(early)
        if chance.randrange(WORK_IN) == 0:
            later = chance.uniform(0, WORK_SECONDS)
            return lambda pid: (nest.wait_up(pid), time.sleep(later))
        return lambda pid: nest.wait_position(wanted)

    async def _end(self, client: Client) -> None:
        """Have the container end, and kill the server once more about then."""

        def look() -> None:
            self._uncounted += self._shop.path(self._box, "exit.json").exists()

        late = self._chance.uniform(0, WORK_SECONDS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_eof)
            kill = self._nest.kill
            nursery.start_soon(trio.to_thread.run_sync, kill, lambda _: time.sleep(late), look)

    # Clients

    async def _say_more(self, client: Client, most: int) -> None:
        self._parts += 1
        part = self._source.part(self._parts, self._chance.randint(1, most))
        self._ledger.add(part)
        await client.post(part.line)

    async def _listen(self, client: Client) -> None:
        """Hear everything, from the first byte to the exit record."""
        chance = random.Random(self._chance.random())
        async for event in client:
            self._listener.hear(event)
            if isinstance(event, say.Exit):
                self._record = event.record
            if isinstance(event, say.Output):
                self._heard.add(event.data)
                if chance.randrange(8) == 0:
                    self._marks.append(self._listener.mark)
            self._moved.set()
            self._moved = trio.Event()

    async def _wait_heard(self, offset: int) -> None:
        """Return when the follower has everything before ``offset``."""
        with trio.move_on_after(PATIENCE):
            while self._listener.offset < offset:
                await self._moved.wait()
            return
        raise AssertionError(f"the client stays at {self._listener.offset} before {offset}")

    async def _keep_visiting(self, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        """Come to places where others have been, stay for a while, and leave again."""
        chance = random.Random(self._chance.random())
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                await self._wait_heard(1)
                if self._marks:
                    listener = Listener(self._ledger, chance.choice(self._marks))
                    await self._visit(listener, chance.uniform(0, STAY_SECONDS), chance)
                    self._visits += 1
                    self._visited += listener.compared
                await trio.sleep(chance.uniform(0, 0.1))

    async def _visit(self, listener: Listener, seconds: float, chance: random.Random) -> None:
        if chance.randrange(2):
            await trio.to_thread.run_sync(self._visit_blocking, listener, seconds)
        else:
            with trio.move_on_after(seconds):
                await self._visit_with_trio(listener)

    async def _visit_with_trio(self, listener: Listener) -> None:
        async with attach(self._box, **self._ticket(listener)) as client:
            async for event in client:
                listener.hear(event)

    def _visit_blocking(self, listener: Listener, seconds: float) -> None:
        end = time.monotonic() + seconds
        with attach_blocking(self._box, **self._ticket(listener)) as client:
            with contextlib.suppress(TimeoutError):
                while (event := client.receive(max(0, end - time.monotonic()))) is not None:
                    listener.hear(event)

    def _ticket(self, listener: Listener) -> dict[str, str]:
        since = f"offset:{listener.offset}"
        return {"root": str(self._shop.root), "since": since, "role": "viewer"}

    # What is left

    def _differences(self) -> Iterator[str]:
        """Tell what is wrong with record, logs and ring."""
        scratch, expected = self._shop.scratch, self._ledger.sums
        yield from self._differences_of_record(self._shop.ended(self._box))
        if self._listener.sums != expected:
            yield f"the client has heard {self._listener.sums}, not {expected}"
        if (found := cri_sums(scratch / "cri.log")) != expected:
            yield f"the log has {found}, not {expected}"
        if (raw := sum_of(scratch / "raw.log")) != self._heard.sum:
            yield f"the raw log has {raw}, not {self._heard.sum}"
        wait_for(lambda: self._nest.header.up == self._nest.server)
        told = json.loads(self._shop.ctl("stats", self._box))
        if (told["restarts"], told["newest"]) != (self._nest.kills, self._ledger.total):
            yield f"stats tells of {told['restarts']} restarts and {told['newest']} bytes"
        yield from self._differences_of_ring(told["oldest"])

    def _differences_of_record(self, record: say.Record) -> Iterator[str]:
        wanted = {
            "exit_code": CODE,
            "reason": "exited",
            "drained": True,
            "bytes": {stream: said.size for stream, said in self._ledger.sums.items()},
            "restarts": self._nest.kills - self._uncounted,
            "log_offset": self._ledger.total,
        }
        for name, value in wanted.items():
            if record.get(name) != value:
                yield f"{name} is {record.get(name)}, not {value}"
        if self._record != record:
            yield f"the client was told {self._record}, the file has {record}"

    def _differences_of_ring(self, oldest: int) -> Iterator[str]:
        """Look at the bytes themselves, and at what ``attach`` makes of them."""
        trouble = self._shop.path(self._box, "trouble.json")
        wait_for(lambda: not trouble.exists())  # of servers killed early: attach warns of it
        size = self._ledger.total - oldest
        with (self._shop.scratch / "raw.log").open("rb") as file:
            file.seek(oldest)
            if file.read() != self._nest.read(oldest, size):
                yield "the ring has not what the raw log has"
        paths = {stream: self._shop.scratch / f"tail.{stream}" for stream in STREAMS}
        words = ("attach", "--from", f"offset:{oldest}", self._box)
        with paths["stdout"].open("wb") as out, paths["stderr"].open("wb") as err:
            code = self._shop.popen(*words, stdout=out, stderr=err).wait(PATIENCE)
        tails = {stream: path.read_bytes() for stream, path in paths.items()}
        if (code, sum(map(len, tails.values()))) != (CODE, size):
            yield f"attach ends with {code} and has {[*map(len, tails.values())]} of {size}"
        for stream, tail in tails.items():
            if not self._ledger.tracks[stream].tail.endswith(tail):
                yield f"the ring's tail of {stream} is another one"


def _leaves(error: BaseException) -> Iterator[str]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield repr(error)


def storm(shop: Shop, *, terminal: bool, size: int, kills: int, seed: int) -> Outcome:
    """Have a container say ``size`` bytes while its servers are killed so often; see how it went.

    One kill more comes when the container ends.
    """
    chance = random.Random(seed)
    source = Screen(chance) if terminal else Pipes(chance)
    return trio.run(Storm(shop, source, size, kills, chance).run)
