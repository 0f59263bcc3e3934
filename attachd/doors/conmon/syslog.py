"""The server's own messages as syslog entries (``--syslog``), worded as conmon words its own.

Not by syslog(3), which waits for a logger that does not read.
"""

import logging
import socket

PLACE = "/dev/log"

#: What ``--log-level`` lets through, by conmon's names (`checks.LEVELS`).
_LEVELS = {
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
}

#: The priorities of syslog(3) with the facility "user", and what conmon calls them.
_USER = 1 << 3
_PRIORITIES = ((logging.ERROR, 3, "error"), (logging.WARNING, 4, "warning"))
_INFO = (6, "info")


def keep_words(level: str, cid: str, *, syslog: bool) -> None:
    """Keep our own words from this one of ``checks.LEVELS`` on, of the shim of ``cid``."""
    root = logging.getLogger()
    root.setLevel(_LEVELS[level])
    if syslog:
        root.addHandler(Syslog(cid))


class Syslog(logging.Handler):
    """Sends each message to the system's logger; where there is none it is lost."""

    def __init__(self, container: str, place: str = PLACE) -> None:
        super().__init__()
        self._container = container
        self._place = place

    def emit(self, record: logging.LogRecord) -> None:
        """Send one, or lose it: nobody waits for a logger."""
        number, level = next(
            (found[1:] for found in _PRIORITIES if record.levelno >= found[0]), _INFO
        )
        text = f"conmon {self._container[:20]} <{level}>: {record.getMessage()}"
        said = f"<{_USER | number}>conmon: {text}".encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to:
                to.sendto(said, self._place)
        except OSError:
            pass
