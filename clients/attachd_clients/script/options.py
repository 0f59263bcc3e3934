"""What both colours take from their callers, and what they make of it."""

import enum
from collections.abc import Iterable
from typing import TypedDict

from attachd.errors import UsageError
from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd.wire.messages import Record
from attachd_clients.places import Place
from attachd_clients.script.dialogue import Dialogue
from attachd_clients.script.patterns import Engine, Pattern, compile_all

#: pexpect's; a person would have looked up by then.
TIMEOUT_SECONDS = 30.0


class Usual(enum.Enum):
    """The session's own timeout."""

    USUAL = "usual"


USUAL = Usual.USUAL

#: Seconds; None: wait for ever.
Timeout = float | None | Usual


class AttachOptions(TypedDict, total=False):
    """What is passed on to the client's ``attach``, whose words these are."""

    role: str
    flow: str
    name: str
    window: int
    size: Size
    stream_id: str
    exec: str
    spec: Record | None
    input: bool


def since_on_the_wire(since: str, place: Place, wish: AttachOptions) -> str:
    """Return where the output begins that we need: a screen has a past, also if it is not seen.

    Nobody knows before whether an exec has one; one that is made now has no past.
    """
    if since != "live" or wish.get("spec"):
        return since
    return "screen" if wish.get("exec") or _has_terminal(place) else since


def begin(
    place: Place,
    welcome: say.Welcome | None,
    since: str,
    streams: Iterable[str],
    limit: int,
) -> Dialogue:
    """Return a session's dialogue. Raises UsageError for a stream that there is not."""
    terminal = welcome.terminal if welcome else _has_terminal(place)
    size = Size(welcome.columns, welcome.rows) if welcome else place.last_size()
    hidden = since == "live"
    visible = (welcome.newest if welcome else float("inf")) if hidden else 0
    dialogue = Dialogue.begin(
        place.id,
        welcome,
        size if terminal else None,
        visible=visible,
        streams=streams,
        limit=limit,
    )
    dialogue.blind = since == "none"
    return dialogue


def _has_terminal(place: Place) -> bool:
    config = place.state().get("config")
    return isinstance(config, dict) and bool(config.get("terminal"))


def screen_pattern(pattern: Pattern) -> tuple[Engine, str]:
    """Return what is searched for in a screen's text, and how it is told. Raises UsageError."""
    wanted = compile_all(pattern)[0]
    if wanted.final is None or wanted.kind is bytes:
        raise UsageError(f"a screen is text: expect_screen takes no {pattern!r:.80}")
    return wanted.final, str(wanted)
