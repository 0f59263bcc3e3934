"""What the launcher half tells the server half: descriptors by name, and wishes as JSON."""

from collections.abc import Mapping
from typing import NamedTuple

from attachd.keeper.caller import DOOR

CONTROL = f"{DOOR}ctl"  #: FIFO, open for reading and writing: it never comes to its end
WINDOW = f"{DOOR}winsz"  #: the same
SYNC = f"{DOOR}sync"  #: the manager's pipe
NOTIFY = f"{DOOR}notify"  #: the program's socket to systemd (`notify`)
STATUS = f"{DOOR}status"  #: socket to a launcher that stays (`launcher.Stay`)


class Wishes(NamedTuple):
    """What the server half does besides serving. Seconds; paths are absolute."""

    exit_files: tuple[str, ...] = ()  #: where the status is written, in this order
    oom_directories: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()  #: the attach socket, and the link to its directory
    exit_key: str = (
        ""  #: how the status is called on the sync pipe; "" when it is not told there
    )
    notify: str = ""  #: the host's socket to which the program's words to systemd go
    exit_delay: float = 0.0  #: between all that and the exit command
    syncs_logs: bool = False  #: they are on the disk before anybody hears of the end
    closes_stdin: bool = False  #: the end of a guest's input is the end of stdin
    log_level: str = (
        "warning"  #: from which on our own words are kept: a value of checks.LEVELS
    )
    syslog: bool = False  #: and copied to syslog

    @classmethod
    def of_json(cls, told: Mapping[str, object]) -> "Wishes":
        """Return what `_asdict` has become in state.json. Raises KeyError, TypeError."""
        return cls(
            exit_files=_texts(told["exit_files"]),
            oom_directories=_texts(told["oom_directories"]),
            sockets=_texts(told["sockets"]),
            exit_key=str(told["exit_key"]),
            notify=str(told["notify"]),
            exit_delay=float(str(told["exit_delay"])),
            syncs_logs=bool(told["syncs_logs"]),
            closes_stdin=bool(told["closes_stdin"]),
            log_level=str(told["log_level"]),
            syslog=bool(told["syslog"]),
        )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is not a list")
    return tuple(map(str, value))
