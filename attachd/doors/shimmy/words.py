"""The words that ``attachd shimmy`` understands: what conman gives to shimmy.

Read without argparse, on the way to a container that waits. The grammar is that of shimmy's own
parser (docs/shimmy.md): ``--name VALUE`` or ``--name=VALUE``, in any order, without abbreviations;
nothing stands by itself.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from attachd.errors import UsageError

#: The descriptor of the sync pipe, where there is no ``--syncpipe-fd``.
SYNCPIPE_VARIABLE = "_OCI_SYNCPIPE"

#: shimmy's own levels, and those of logrus, which conman passes on in capitals.
LEVELS = ("off", "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace")

_REQUIRED = (
    "--shimmy-pidfile",
    "--runtime",
    "--bundle",
    "--container-id",
    "--container-pidfile",
    "--container-logfile",
    "--container-exitfile",
    "--container-attachfile",
)
_VALUES = (*_REQUIRED, "--shimmy-log-level", "--syncpipe-fd")
_MANY = "--runtime-arg"
_FLAGS = ("--stdin", "--stdin-once")


class Words(NamedTuple):
    """What a manager has asked for, each as it was said."""

    shimmy_pidfile: str
    runtime: str
    bundle: str
    container_id: str
    container_pidfile: str
    container_logfile: str
    container_exitfile: str
    container_attachfile: str
    syncpipe_fd: int
    runtime_args: tuple[str, ...] = ()
    log_level: str = "info"
    stdin: bool = False
    stdin_once: bool = False


def parse(words: Sequence[str], environment: Mapping[str, str]) -> Words:
    """Return what the words after ``attachd shimmy`` ask for; raises UsageError."""
    values, runtime_args, flags = _sort(words)
    missing = [option for option in _REQUIRED if option not in values]
    if missing:
        raise UsageError(f"what is needed, too: {', '.join(missing)}")
    required = {option[2:].replace("-", "_"): values[option] for option in _REQUIRED}
    return Words(
        **required,
        syncpipe_fd=_syncpipe(values, environment),
        runtime_args=tuple(_unquote(word) for word in runtime_args),
        log_level=_level(values.get("--shimmy-log-level", "info")),
        stdin="--stdin" in flags,
        stdin_once="--stdin-once" in flags,
    )


def _sort(words: Sequence[str]) -> tuple[dict[str, str], list[str], set[str]]:
    """Return the options that have one value, the runtime's arguments, and the flags."""
    values: dict[str, str] = {}
    runtime_args: list[str] = []
    flags: set[str] = set()
    rest = list(reversed(words))
    while rest:
        option, equals, value = rest.pop().partition("=")
        if option in _FLAGS and not equals:
            flags.add(option)
        elif option == _MANY:
            runtime_args += [value] if equals else _following(option, rest)
        elif option in values:
            raise UsageError(f"{option} is there twice")
        elif option in _VALUES:
            values[option] = value if equals else _next(option, rest)
        else:
            raise UsageError(f"{option + equals + value!r:.80} is no option of shimmy's")
    return values, runtime_args, flags


def _next(option: str, rest: list[str]) -> str:
    """Take the value that follows an option."""
    if not rest or rest[-1].startswith("-"):
        raise UsageError(f"{option} needs a value")
    return rest.pop()


def _following(option: str, rest: list[str]) -> list[str]:
    """Take the values that follow: as many as there are before the next option."""
    found = [_next(option, rest)]
    while rest and not rest[-1].startswith("-"):
        found.append(rest.pop())
    return found


def _unquote(word: str) -> str:
    """Take off the quotes that conman puts around an argument as if a shell would read it."""
    return word.strip("'")


def _syncpipe(values: Mapping[str, str], environment: Mapping[str, str]) -> int:
    told = "--syncpipe-fd", values.get("--syncpipe-fd")
    name, text = told if told[1] else (SYNCPIPE_VARIABLE, environment.get(SYNCPIPE_VARIABLE))
    if not text:
        raise UsageError(f"what is needed, too: --syncpipe-fd or {SYNCPIPE_VARIABLE}")
    if not (text.isascii() and text.isdigit()) or int(text) <= 2:
        raise UsageError(f"{name} {text!r:.40} is no descriptor of its own: 3 or above")
    return int(text)


def _level(text: str) -> str:
    level = text.lower()
    if level not in LEVELS:
        raise UsageError(
            f"no --shimmy-log-level {text!r:.40}: {', '.join(LEVELS).upper()} are known"
        )
    return level
