"""What is raised when a script does not go as it was written, told for tired people. Pure."""

from collections.abc import Sequence

import attrs

from attachd.errors import AttachdError
from attachd.wire.messages import Record
from attachd_clients.outcome import sentence
from attachd_clients.script.patterns import Wanted
from attachd_clients.script.screen import Snapshot
from attachd_clients.script.visible import visible_lines

#: As much as fits on a screen together with the rest.
_LINES = 12

#: What the last lines are taken from.
TAIL_BYTES = 8192


@attrs.frozen
class Scene:
    """What there is to tell about a session when it fails."""

    offset: int  #: of the next byte of output
    waiting: int = 0  #: bytes of output since the last match
    tail: bytes = b""  #: the last of them
    dropped: int = 0  #: bytes that were too old to be kept
    missing: int = 0  #: bytes in gaps
    screen: Snapshot | None = None
    record: Record | None = None
    output_ended: bool = False
    lost: str = ""  #: why the container cannot be reached any more
    waited: float | None = None  #: seconds, where the headline does not tell them

    @property
    def container(self) -> str:
        """How the container is, in words."""
        if self.record is not None:
            return sentence(self.record)
        if self.lost:
            return f"out of reach: {self.lost}"
        return "runs, but its output has ended" if self.output_ended else "runs"


class ScriptError(AttachdError, AssertionError):
    """A script did not go as it was written. Abstract: one of those below is raised.

    An AssertionError, too, since that is what a script in a test is: test runners tell it as a
    failure.
    """

    code = "script"

    def __init__(self, headline: str, scene: Scene, wanted: Sequence[Wanted] = ()) -> None:
        super().__init__(tell(headline, scene, wanted))
        self.scene = scene

    @property
    def record(self) -> Record | None:
        """The exit record, when the container has ended."""
        return self.scene.record

    @property
    def offset(self) -> int:
        """The offset of the next byte of output that would have been looked at."""
        return self.scene.offset


class ExpectTimeout(ScriptError):
    """What was awaited did not come in time."""

    code = "timeout"


class ExpectEnded(ScriptError):
    """What was awaited cannot come any more: the output, or the container, has ended."""

    code = "ended"


class SendRefused(ScriptError):
    """The container's stdin takes nothing: it is closed, or somebody else writes."""

    code = "refused"


def tell(headline: str, scene: Scene, wanted: Sequence[Wanted] = ()) -> str:
    """Return the whole text of a failure: the headline, facts, last lines, screen."""
    lines = [headline]
    if len(wanted) > 1:
        lines += [
            f"  {'any of' if not n else '':<10} {n}  {one}" for n, one in enumerate(wanted)
        ]
    lines += [f"  {name:<10} {value}" for name, value in _facts(scene)]
    lines += _block("last lines", visible_lines(scene.tail)[-_LINES:] if scene.tail else [])
    if scene.screen is not None:
        shown = str(scene.screen).split("\n")
        lines += _block(f"screen     {scene.screen.size}", shown)
    return "\n".join(lines)


def _facts(scene: Scene) -> list[tuple[str, str]]:
    facts = [] if scene.waited is None else [("waited", f"{scene.waited:.2f} s")]
    facts += [
        ("container", scene.container),
        ("output", f"{scene.waiting} bytes without a match, up to offset {scene.offset}"),
    ]
    if scene.dropped:
        facts.append(("dropped", f"the oldest {scene.dropped} bytes: too many to be kept"))
    if scene.missing:
        facts.append(("missing", f"{scene.missing} bytes in a gap; nothing matches across it"))
    return facts


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"  {name}", *(f"    | {line}".rstrip() for line in lines)] if lines else []


def headline(wanted: Sequence[Wanted]) -> str:
    """Return what was awaited, in a few words."""
    return str(wanted[0]) if len(wanted) == 1 else f"any of {len(wanted)} patterns"
