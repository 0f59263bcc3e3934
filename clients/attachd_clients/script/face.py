"""What the sessions of both colours have in common: what can be asked without waiting."""

import contextlib
from collections.abc import Callable, Iterator

from attachd.errors import AttachdError, UsageError
from attachd.wire import messages as say
from attachd.wire.messages import Record
from attachd_clients.conversation import Event
from attachd_clients.places import Place
from attachd_clients.script.dialogue import Dialogue
from attachd_clients.script.failures import ExpectTimeout, ScriptError
from attachd_clients.script.match import Match
from attachd_clients.script.options import Timeout, Usual
from attachd_clients.script.patterns import show
from attachd_clients.script.plans import Plans, Receive
from attachd_clients.script.screen import Watcher
from attachd_clients.script.transcript import Transcript

#: Even who is late looks once at what is there already.
_GLANCE_SECONDS = 0.001


class Face:
    """A session's face; ``timeout`` is for what is not told another one, in seconds."""

    def __init__(
        self, dialogue: Dialogue, timeout: float | None, clock: Callable[[], float]
    ) -> None:
        self.timeout = timeout
        self._dialogue = dialogue
        self._plans = Plans(dialogue, clock)
        self._clock = clock
        self._begun = clock()

    @property
    def match(self) -> Match | None:
        """The last match."""
        return self._dialogue.match

    @property
    def before(self) -> str | bytes:
        """The output before the last match, back to the one before it."""
        return self.match.before if self.match is not None else ""

    @property
    def after(self) -> str | bytes:
        """What the last match has matched."""
        return self.match.after if self.match is not None else ""

    @property
    def offset(self) -> int:
        """The offset in the container's output where the next expectation begins."""
        return self._dialogue.buffer.start

    @property
    def terminal(self) -> bool:
        """Whether the container has a terminal."""
        return self._dialogue.watcher is not None

    @property
    def record(self) -> Record | None:
        """The exit record; None while it has not come."""
        return self._dialogue.record

    @property
    def transcript(self) -> Transcript:
        """What was said so far."""
        return self._dialogue.transcript

    def _seconds(self, timeout: Timeout) -> float | None:
        return self.timeout if isinstance(timeout, Usual) else timeout

    def _now(self) -> float:
        return self._clock() - self._begun

    def _note(self, kind: str, text: str | bytes) -> None:
        self.transcript.note(self._now(), kind, text)

    def _sent(self, data: str | bytes) -> bytes:
        raw = data if isinstance(data, bytes) else data.encode()
        self._note("sent", raw)
        return raw

    def _hear(self, event: Event | None) -> None:
        self._dialogue.hear(event, self._now())

    def _lose(self, error: AttachdError) -> AttachdError:
        self._dialogue.lost = error
        return error

    @staticmethod
    def _left_record(place: Place, welcome: say.Welcome | None) -> Record | None:
        """Return the exit record that is in the files, if it is there."""
        if welcome is not None and welcome.exec:
            return place.exec_record(welcome.exec)
        return place.exit_record()

    def _screen(self) -> Watcher:
        if self._dialogue.watcher is None:
            raise UsageError("there is no screen: the container has no terminal")
        return self._dialogue.watcher

    @staticmethod
    def _wait(step: Receive, left: float, patience: float) -> float:
        """Return for how many seconds a step may wait."""
        limits = [left, *([] if step.seconds is None else [step.seconds])]
        return max(_GLANCE_SECONDS, min([*limits, *([patience] if step.brief else [])]))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Note in the transcript what comes of it."""
        match = self.match
        try:
            yield
        except ScriptError as error:
            self._note("failed", str(error).partition("\n")[0])
            raise
        if self.match is not None and self.match is not match:
            self._note("matched", f"to offset {self.match.end}: {show(self.match.pattern)}")

    def _not_taken(self, what: str, seconds: float | None) -> ExpectTimeout:
        told = f"{seconds:g} s" if seconds is not None else "all the time"
        return ExpectTimeout(f"not taken in {told}: {what}", self._dialogue.scene())
