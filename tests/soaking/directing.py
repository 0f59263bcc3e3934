"""The director: hands out steps to a few hands, and every now and then has everybody be quiet.

Number N of the steps is drawn from the seed and N alone, so that the same seed has the same
decisions, however long each of them takes.
"""

import functools
import random
import time
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio
from harness import Shop

from soaking import doing, gauges, hurting, running, watching
from soaking.boxes import PATIENCE, Box, Role, cast, roles, traces, wait_until
from soaking.saying import Wrong
from soaking.steps import Step

#: So many act at the same time, until so many steps were made; then everything must be quiet.
HANDS, STEPS = 6, 30

#: So much of the log of actions is told when something is wrong.
REMEMBERED = 50


class Actor(NamedTuple):
    """What may be done, how often, and to whom."""

    act: Callable[[Step], Awaitable[None]]
    weight: int
    may: Callable[[Role], bool] = lambda role: True


def _speaks(role: Role) -> bool:
    return not role.kind.fed


ACTORS = (
    Actor(watching.watch, 20),
    Actor(watching.watch_and_die, 4),
    Actor(watching.read_logs, 4, lambda role: role.kind.logs),
    Actor(watching.record, 2),
    Actor(watching.picture, 2, lambda role: role.kind.terminal),
    Actor(watching.look, 4),
    Actor(watching.ask_all, 3),
    Actor(doing.write, 10, lambda role: role.kind.fed),
    Actor(doing.write_and_die, 3, lambda role: role.kind.fed),
    Actor(doing.hold_the_lease, 4, lambda role: role.kind.fed),
    Actor(doing.resize, 4, lambda role: role.kind.terminal),
    Actor(doing.rotate, 5, lambda role: role.kind.logs),
    Actor(doing.rename_and_reopen, 3, lambda role: role.kind.logs),
    Actor(doing.send_signal, 4, _speaks),
    Actor(doing.resume_another, 2),
    Actor(running.execute, 8),
    Actor(running.execute_and_feed, 6),
    Actor(running.execute_by_program, 3),
    Actor(running.execute_and_die, 3),
    Actor(running.live_briefly, 3),
    Actor(hurting.be_hostile, 6, _speaks),
    Actor(hurting.kill_server, 4, lambda role: not role.spared),
    Actor(hurting.kill_keeper, 3, lambda role: not role.spared),
    Actor(hurting.upgrade, 2, lambda role: not role.spared),
)


class Plan(NamedTuple):
    """One step, before anything happens; ``chance`` is for whatever else is to be decided."""

    actor: Actor
    box: int  #: which one
    chance: random.Random

    @property
    def name(self) -> str:
        """What the actor is called."""
        return self.actor.act.__name__


def plan(seed: int, number: int, roles: list[Role]) -> Plan:
    """Return the step of this number in a soak of this seed."""
    chance = random.Random(f"{seed} {number}")
    possible = [actor for actor in ACTORS if any(map(actor.may, roles))]
    (actor,) = chance.choices(possible, [actor.weight for actor in possible])
    box = chance.choice([box for box, role in enumerate(roles) if actor.may(role)])
    return Plan(actor, box, chance)


class Wish(NamedTuple):
    """What is asked of a soak."""

    seconds: float  #: of acting, from when all containers are there
    seed: int
    containers: int = 8
    report_every: float = 60.0  #: seconds
    tell: Callable[[str], None] = print


class Soak:
    """One soak. ``run`` it, then read ``wrong``, ``log`` and ``counts``."""

    def __init__(self, shop: Shop, wish: Wish) -> None:
        self.wrong: list[str] = []
        self.log: deque[str] = deque(maxlen=REMEMBERED)
        self.counts: Counter[str] = Counter()
        self.series: dict[tuple[str, str], gauges.Series] = {}
        self._shop = shop
        self._wish = wish
        self._roles = roles(wish.containers)
        self._began = time.monotonic()
        self._told = self._began
        self._next = 0

    async def run(self) -> None:
        """Make the containers, act on them, have them end, and remove them; never raises Wrong."""
        try:
            async with cast(self._shop, self._roles) as boxes:
                await self._calm(boxes)
                over = time.monotonic() + self._wish.seconds
                while time.monotonic() < over:
                    await self._act(boxes)
                    await self._calm(boxes)
                    self._tell(boxes)
                await self._end(boxes)
            self._tell_table()
        except Exception as error:
            told = "".join(traceback.format_exception(error))
            self._note(f"it ends: {told.splitlines()[-1]}")
            self.wrong.append(told)

    # Acting

    async def _act(self, boxes: list[Box]) -> None:
        """Have the next steps made, by several hands at once."""
        last = self._next + STEPS
        async with trio.open_nursery() as nursery:
            for _ in range(HANDS):
                nursery.start_soon(self._work, boxes, last)

    async def _work(self, boxes: list[Box], last: int) -> None:
        while self._next < last:
            number, self._next = self._next, self._next + 1
            made = plan(self._wish.seed, number, self._roles)
            box = boxes[made.box]
            self._note(f"#{number} {made.name}: {box}")
            note = functools.partial(self._note_step, number, made.name)
            with trio.fail_after(3 * PATIENCE):
                await made.actor.act(Step(number, box, made.chance, self._shop, note))
            self.counts[made.name] += 1
            note("done")

    def _note_step(self, number: int, name: str, text: str) -> None:
        self._note(f"#{number} {name}: {text}")

    def _note(self, text: str) -> None:
        self.log.append(f"{time.monotonic() - self._began:8.2f} {text}")

    # Quiet

    async def _calm(self, boxes: list[Box]) -> None:
        """Nobody acts: what comes and goes has gone. Raises Wrong."""
        self._note("quiet")
        for box in boxes:
            if box.kind.fed:
                await box.wait_said(box.kind.prologue + box.typed)
            await running.tidy(box)
            await self._sample(box)

    async def _sample(self, box: Box) -> None:
        async def look(client) -> dict:
            return _looked(await client.status(), box, self._began)

        deadline = time.monotonic() + PATIENCE
        while (found := await box.ask(look))["wrong"]:
            if time.monotonic() > deadline:
                raise Wrong(f"{box}: when all is quiet: {found['wrong']}")
            await trio.sleep(0.1)
        for role in ("keeper", "server"):
            fresh = gauges.Series(mortal=not box.spared)
            series = self.series.setdefault((str(box), role), fresh)
            series.samples.append(found[role])

    # The end

    async def _end(self, boxes: list[Box]) -> None:
        """Have all containers end, judge how, and remove them. Raises Wrong."""
        for box in boxes:
            self._note(f"the end of {box}")
            await box.stop()
            await box.wait_ended()
            await trio.to_thread.run_sync(box.check_end)
            await trio.to_thread.run_sync(self._shop.ctl, "rm", box.id)
            path = box.path
            await wait_until(
                lambda path=path: not traces(path), f"{box}: rm has left something"
            )

    # Telling

    def _tell(self, boxes: list[Box]) -> None:
        now = time.monotonic()
        if now < self._told + self._wish.report_every:
            return
        self._told = now
        said, typed = sum(box.said.end for box in boxes), sum(box.typed for box in boxes)
        killed = self.counts["kill_server"], self.counts["kill_keeper"]
        self._wish.tell(
            f"{now - self._began:.0f} s, {self._next} steps, {said} bytes said, {typed} typed,"
            f" {killed[0]} servers and {killed[1]} keepers killed"
        )

    def _tell_table(self) -> None:
        lines, wrong = gauges.table(self.series)
        for line in lines:
            self._wish.tell(line)
        acts = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        self._wish.tell(acts)
        self.wrong += wrong


def _looked(report: dict, box: Box, began: float) -> dict:
    """Return what is wrong, and a sample of each process. We are attached, and the follower."""
    pids = {"keeper": report["keeper_pid"], "server": report["server_pid"]}
    try:
        found = {role: gauges.measure(pid, began) for role, pid in pids.items()}
    except OSError as error:
        return {"wrong": f"{pids}: {error}"}
    found["server"].values["files"] = gauges.count_files(box.path)
    if "tasks" in report:
        found["server"].values["tasks"] = report["tasks"]
    wrong = {
        "connected": report["connected"] != 2 and report["clients"],
        "execs": report["execs"],
        "restarts": report["restarts"] != box.killed and (report["restarts"], box.killed),
        "writer": report["writer"],
        "zombies": gauges.zombies(pids.values()),
        "inside": gauges.inside(report["pid"]),
    }
    return found | {"wrong": {what: told for what, told in wrong.items() if told}}
