"""From a manager's words to a `Config`: the same shim as any other, asked for in other words."""

import os

from attachd.doors.shimmy.wishes import Wishes
from attachd.doors.shimmy.words import Words
from attachd.errors import UsageError
from attachd.keeper.config import Config, Door, LogSpec
from attachd.state.eofpolicy import ANY, NEVER, ONCE

#: shimmy's listener is gone with the container; conman reads the exit file then.
LINGER_SECONDS = 0.0

#: What conman's tests read; the exact bytes can be had back from it (docs/logs.md).
LOG_FORMAT = "shimmy"


def config_of(words: Words, root: str) -> Config:
    """Return the Config for a state root. Touches nothing; raises UsageError.

    A stdin that is not ``--stdin-once`` is closed by nobody: clients come and go, as with
    shimmy. ``--stdin-once`` without ``--stdin`` is what conman may say, and is about nothing.
    """
    return Config(
        id=words.container_id,
        root=root,
        bundle=absolute("--bundle", words.bundle),
        runtime=words.runtime,
        runtime_args=words.runtime_args,
        logs=(LogSpec(LOG_FORMAT, absolute("--container-logfile", words.container_logfile)),),
        pid_file=absolute("--container-pidfile", words.container_pidfile),
        outlives=False,
        stdin=words.stdin,
        stdin_eof=_eof_policy(words),
        linger=LINGER_SECONDS,
        door=Door(kind="shimmy", wishes=_wishes(words)._asdict()),
    )


def _wishes(words: Words) -> Wishes:
    return Wishes(
        attach_file=absolute("--container-attachfile", words.container_attachfile),
        exit_file=absolute("--container-exitfile", words.container_exitfile),
        log_level=words.log_level,
    )


def _eof_policy(words: Words) -> str:
    if not words.stdin:
        return ANY
    return ONCE if words.stdin_once else NEVER


def absolute(option: str, path: str) -> str:
    """Return an option's path; raises UsageError for an empty one."""
    if not path:
        raise UsageError(f"{option} is empty: it needs a path")
    return os.path.abspath(path)
