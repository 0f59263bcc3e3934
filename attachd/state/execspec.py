"""What one exec is to be: the map that a client sends, checked; and the process it becomes.

The process is the container's own (``process`` of its ``config.json``, runtime-spec config.md,
"Process") with another program, and with what was asked for on top.
"""

from typing import NamedTuple

from attachd.errors import Refused
from attachd.state.accounts import Account
from attachd.state.eofpolicy import ANY, ONCE, POLICIES
from attachd.state.sizes import DEFAULT_SIZE, NO_SIZE, Size

#: Names are part of paths that must fit into a socket's address (unix(7): 107 bytes).
MAX_NAME = 48

#: An exec has no log: what is kept for those who come later is this much, in bytes.
DEFAULT_RING = 1 << 20
MIN_RING, MAX_RING = 64 * 1024, 1 << 30

#: More than the kernel takes for all of argv and environment (execve(2): 6 MiB) is not needed.
MAX_WORDS = 10_000

#: For programs that draw, when nobody has said what terminal it is.
DEFAULT_TERM = "TERM=xterm"


class ExecSpec(NamedTuple):
    """One exec. Sizes are bytes, times seconds; empty means "as the container's own program"."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()  #: NAME=VALUE, over what the container's program got
    cwd: str = ""
    user: str = ""  #: USER[:GROUP], names or numbers
    terminal: bool = False
    stdin: bool = False
    stdin_eof: str = ANY
    columns: int = 0
    rows: int = 0
    ring_size: int = DEFAULT_RING
    allow_block: int = 0  #: how long a client may hold it up

    @property
    def size(self) -> Size:
        """The terminal's first size: the usual one when none was given."""
        given = Size(self.columns, self.rows)
        return DEFAULT_SIZE if given == NO_SIZE else given


def parse_spec(record: dict[str, object]) -> ExecSpec:
    """Return the exec that a client asks for; raises Refused for what cannot be.

    An unknown key is refused, too: what was asked for and is not done would be a surprise.
    """
    known = {name: _check(name, value) for name, value in record.items()}
    if not known.get("argv"):
        raise _bad("it names no program (argv)")
    spec = ExecSpec(**known)  # type: ignore[arg-type]  # each was checked against its default
    _check_whole(spec)
    return spec


def process_of(
    own: dict[str, object], spec: ExecSpec, account: Account | None
) -> dict[str, object]:
    """Return the OCI process of an exec in a container whose own process is ``own``."""
    env = {_name(entry): entry for entry in _texts(own.get("env"))}
    if account is not None:
        env.pop("HOME", None)  # somebody else's: runc finds the user's own in /etc/passwd
    env |= {_name(entry): entry for entry in spec.env}
    if spec.terminal:
        env.setdefault("TERM", DEFAULT_TERM)
    process = own | {"args": list(spec.argv), "terminal": spec.terminal}
    process["env"] = list(env.values())
    process["cwd"] = spec.cwd or own.get("cwd") or "/"
    process.pop("consoleSize", None)
    if spec.terminal:
        process["consoleSize"] = {"width": spec.size.columns, "height": spec.size.rows}
    if account is not None:
        process["user"] = account.oci()
    return process


def _check(name: str, value: object) -> object:
    """Return ``value`` as the field wants it."""
    wanted = ExecSpec._field_defaults.get(name, ())
    if name not in ExecSpec._fields:
        raise _bad(f"this shim does not know {name!r:.80}")
    if isinstance(wanted, tuple) and _are_words(value):
        return tuple(_texts(value))
    if type(value) is not type(wanted) or (isinstance(value, int) and value < 0):
        raise _bad(f"{name} cannot be {_show(value)}")
    if isinstance(value, str) and "\0" in value:
        raise _bad(f"{name} cannot have a NUL in it")
    return value


def _check_whole(spec: ExecSpec) -> None:
    if any("=" not in entry[1:] for entry in spec.env):
        raise _bad("a variable is NAME=VALUE")
    if spec.cwd and not spec.cwd.startswith("/"):
        raise _bad(f"the directory {spec.cwd!r:.80} must begin with /")
    if spec.stdin_eof not in POLICIES:
        raise _bad(f"no stdin_eof {spec.stdin_eof!r:.40}: {', '.join(POLICIES)} are known")
    if spec.stdin_eof == ONCE and spec.terminal:
        raise _bad("stdin_eof once is for pipes: a terminal stays open")
    if not MIN_RING <= spec.ring_size <= MAX_RING:
        raise _bad(f"ring_size {spec.ring_size} is not between {MIN_RING} and {MAX_RING}")
    if (spec.columns or spec.rows) and not (spec.terminal and spec.size.usable):
        raise _bad(f"{spec.size} is no size of a terminal that it has")


def _are_words(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) <= MAX_WORDS
        and all(isinstance(word, str) and "\0" not in word for word in value)
    )


def _texts(value: object) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list | tuple) else []


def _show(value: object) -> str:
    """Return a few words on a value; never the repr of what may be deeply nested."""
    plain = isinstance(value, str | int | float | None)
    return f"{value!r:.80}" if plain else f"such a {type(value).__name__}"


def _name(entry: str) -> str:
    return entry.partition("=")[0]


def _bad(why: str) -> Refused:
    return Refused("bad_request", f"this cannot be executed: {why}")
