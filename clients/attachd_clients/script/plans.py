"""What a session does, step by step, without doing it. Pure.

A plan is a generator: it yields what is to be done next, and is sent what came of it. So both
colours do the same, and differ only in how they wait.
"""

import enum
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import attrs

from attachd.errors import AttachdError, Refused, UsageError
from attachd.state.sizes import Size
from attachd_clients.conversation import Ended, Event
from attachd_clients.outcome import shell_code
from attachd_clients.script.dialogue import Dialogue
from attachd_clients.script.failures import ExpectEnded, ExpectTimeout, SendRefused, headline
from attachd_clients.script.match import Match
from attachd_clients.script.patterns import EOF, EXIT, Engine, Wanted
from attachd_clients.script.screen import Snapshot
from attachd_clients.script.search import Hit, Search

#: How long a failure waits for the exit record, which comes right behind the end of the output.
GRACE_SECONDS = 1.0

#: After so long ctrl-D is pressed again: a terminal swallows one while its mode changes.
AGAIN_SECONDS = 1.0

#: How often files are looked at meanwhile.
POLL_SECONDS = 0.02

#: A screen is small: a pattern that takes longer never ends.
_LOOK_SECONDS = 0.1

T = TypeVar("T")


@attrs.frozen
class Receive:
    """Wait for the next event: at most so many seconds, or as long as the last scan took."""

    seconds: float | None = None
    brief: bool = False


@attrs.frozen
class Scan:
    """Run a search over what it was fed; ``final`` when no more can come."""

    search: Search
    final: bool = False


@attrs.frozen
class TypeEnd:
    """End the container's stdin, or press ctrl-D at its terminal."""


@attrs.frozen
class Recall:
    """Look for the exit record in the container's files, for GRACE_SECONDS."""


class Silence(enum.Enum):
    """Nothing came of a step."""

    IDLE = "for as long as the step wanted"
    LATE = "until the deadline of the whole"


Step = Receive | Scan | TypeEnd | Recall
#: None: nothing was found, or the conversation is over. An error is why a step was refused.
Reply = Event | Hit | Silence | AttachdError | None
Plan = Generator[Step, Reply, T]


class Plans:
    """The plans of one session, one at a time.

    ``seconds`` is how long a plan may take, for its failure; the clock tells how long it took.
    """

    def __init__(self, dialogue: Dialogue, clock: Callable[[], float]) -> None:
        self._dialogue = dialogue
        self._clock = clock
        self._begun = 0.0

    # Output

    def expect(self, wanted: Sequence[Wanted], seconds: float | None) -> Plan[Match]:
        """Find what is wanted. Raises ExpectTimeout, ExpectEnded."""
        dialogue, search = self._dialogue, Search(wanted, self._dialogue.buffer)
        self._begun, unsearched = self._clock(), False
        while True:
            while search.feed():
                unsearched = not search.due
                if search.due and (hit := (yield from self._scan(search, wanted, seconds))):
                    return self._matched(hit, wanted)
            if dialogue.ended:
                return (yield from self._at_the_end(search, wanted, seconds))
            reply = yield Receive(brief=unsearched)
            if unsearched and isinstance(reply, Silence):
                unsearched = False
                if hit := (yield from self._scan(search, wanted, seconds)):
                    return self._matched(hit, wanted)
            if reply is Silence.LATE:
                raise ExpectTimeout(
                    f"not seen in {_told(seconds)}: {headline(wanted)}",
                    dialogue.scene(),
                    wanted,
                )

    def _scan(
        self, search: Search, wanted: Sequence[Wanted], seconds: float | None
    ) -> Plan[Hit | None]:
        """Search; where more is there already that may make a match longer, with that."""
        while True:
            reply = yield Scan(search, final=False)
            if reply is Silence.LATE:
                raise self._endless(wanted, seconds)
            if not isinstance(reply, Hit):
                return None
            if not (search.is_short(reply) and search.feed()):
                return reply

    def _at_the_end(
        self, search: Search, wanted: Sequence[Wanted], seconds: float | None
    ) -> Plan[Match]:
        dialogue, given = self._dialogue, [one.given for one in wanted]
        reply = yield Scan(search, final=True)
        if isinstance(reply, Hit):
            return self._matched(reply, wanted)
        if reply is Silence.LATE:
            raise self._endless(wanted, seconds)
        if EOF in given:
            return self._matched(self._end_hit(given.index(EOF)), wanted)
        late = yield from self._wait_record(None if EXIT in given else GRACE_SECONDS)
        if EXIT in given and dialogue.record is not None:
            return self._matched(self._end_hit(given.index(EXIT)), wanted)
        if EXIT in given and late:
            raise ExpectTimeout(
                f"not seen in {_told(seconds)}: {headline(wanted)}", dialogue.scene(), wanted
            )
        what = "the container" if dialogue.record is not None else "the output"
        raise self._ended(f"{what} ended before: {headline(wanted)}", wanted)

    def _ended(self, told: str, wanted: Sequence[Wanted] = ()) -> ExpectEnded:
        waited = self._clock() - self._begun
        return ExpectEnded(told, attrs.evolve(self._dialogue.scene(), waited=waited), wanted)

    def _endless(self, wanted: Sequence[Wanted], seconds: float | None) -> ExpectTimeout:
        return ExpectTimeout(
            f"the search took longer than {_told(seconds)}: {headline(wanted)}\n"
            "  a pattern that can match in too many ways, like (a+)+b, never ends",
            self._dialogue.scene(),
            wanted,
        )

    def _end_hit(self, index: int) -> Hit:
        return Hit(index, self._dialogue.buffer.end, self._dialogue.buffer.end, None)

    def _matched(self, hit: Hit, wanted: Sequence[Wanted]) -> Match:
        dialogue, buffer = self._dialogue, self._dialogue.buffer
        before = buffer.read(hit.start)
        given = wanted[hit.index].given
        buffer.forget(hit.end)
        dialogue.match = Match(hit.index, given, hit.start, hit.end, before, hit.found)
        return dialogue.match

    def expect_screen(
        self, pattern: Engine, told: str, seconds: float | None
    ) -> Plan[Snapshot]:
        """Wait until the screen shows it. Raises ExpectTimeout, ExpectEnded; UsageError."""
        dialogue, reply = self._dialogue, None
        if dialogue.watcher is None:
            raise UsageError("there is no screen: the container has no terminal")
        self._begun = self._clock()
        while True:
            shown = dialogue.watcher.snapshot()
            if _shows(pattern, shown):
                return shown
            if reply is Silence.LATE:
                raise ExpectTimeout(
                    f"not on the screen in {_told(seconds)}: {told}", dialogue.scene()
                )
            if dialogue.ended:
                yield from self._wait_record(GRACE_SECONDS)
                raise self._ended(f"ended before the screen showed: {told}")
            reply = yield Receive()

    # The end

    def _wait_record(self, limit: float | None) -> Plan[bool]:
        """Take events until the exit record is there, or nothing comes; return True if late."""
        dialogue = self._dialogue
        while dialogue.record is None and not dialogue.over and dialogue.lost is None:
            if isinstance((yield Receive(limit)), Silence):
                return True
        if dialogue.record is None:
            yield Recall()  # whoever cut us off was not the end
        return False

    def exit(self, seconds: float | None, *, send_eof: bool) -> Plan[int]:
        """Wait for the container's end; return its code. Raises ExpectTimeout, ExpectEnded."""
        dialogue, again = self._dialogue, None
        self._begun = self._clock()
        if send_eof and dialogue.record is None:
            yield from self._type_end()
            again = AGAIN_SECONDS if dialogue.watcher is not None else None
        while dialogue.record is None:
            if dialogue.over or dialogue.lost is not None:
                yield from self._wait_record(None)
                break
            reply = yield Receive(again)
            if reply is Silence.IDLE:
                yield from self._type_end()
            elif reply is Silence.LATE:
                raise ExpectTimeout(f"not ended in {_told(seconds)}", dialogue.scene())
        if dialogue.record is None:
            raise self._ended("the container is gone, without a record")
        return shell_code(dialogue.record)

    def _type_end(self) -> Plan[None]:
        reply = yield TypeEnd()
        if isinstance(reply, Refused) and reply.code not in (
            "stdin_closed",
            "bad_phase",
            "lost",
        ):
            raise SendRefused(f"the end of stdin was refused: {reply}", self._dialogue.scene())

    # What was asked for

    def refused(self, what: str, error: AttachdError) -> Plan[SendRefused | ExpectEnded]:
        """Return what to raise when something was refused: the container's end, if that is why.

        To be given GRACE_SECONDS: whoever has closed stdin may talk on for ever.
        """
        if isinstance(error, Ended) or error.code in ("stdin_closed", "bad_phase", "lost"):
            yield from self._wait_record(GRACE_SECONDS)
        scene = self._dialogue.scene()
        if scene.record is not None or scene.lost:
            return ExpectEnded(f"the container had ended: {what}", scene)
        return SendRefused(f"refused: {what}: {error}", scene)

    def take_size(self, size: Size) -> Plan[None]:
        """Take events until a size that was set is the screen's, or nothing comes any more.

        To be given GRACE_SECONDS: it may come behind the answer.
        """
        dialogue, watcher = self._dialogue, self._dialogue.watcher
        if watcher is None or dialogue.blind:
            return
        while watcher.heard != size and not dialogue.over and dialogue.lost is None:
            if (yield Receive()) is Silence.LATE:
                return

    def catch_up(self, done: Callable[[], bool]) -> Plan[None]:
        """Take events until it is done, or nothing comes any more."""
        while not done() and not self._dialogue.over and self._dialogue.lost is None:
            if (yield Receive()) is Silence.LATE:
                return


def _shows(pattern: Engine, shown: Snapshot) -> bool:
    try:
        return pattern.search(str(shown), timeout=_LOOK_SECONDS) is not None  # type: ignore[arg-type]
    except TimeoutError:
        return False  # it is told as not seen


def _told(seconds: float | None) -> str:
    return "all the time" if seconds is None else f"{seconds:g} s"
