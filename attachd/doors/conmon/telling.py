"""Words to the descriptors that were given, and to syslog; a closed one is no error.

Written to the descriptors themselves: Python's own streams are missing when a descriptor was
closed at the start, and cannot say every word that can be in a command line.
"""

import os

OUT, ERR = 1, 2

#: What a line of ours begins with, its level in words, and the name of syslog(3)'s.
_LEVELS = {
    "[conmon:e]: ": ("error", "LOG_ERR"),
    "[conmon:w]: ": ("warning", "LOG_WARNING"),
    "[conmon:i]: ": ("info", "LOG_INFO"),
    "[conmon:d]: ": ("debug", "LOG_DEBUG"),
}


def say(descriptor: int, text: str) -> None:
    """Write all of ``text``, or as much as the other side takes."""
    data = text.encode("utf-8", "surrogateescape")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except OSError:
            return


def tell(line: str) -> None:
    """Write a whole line, without its end, to stderr."""
    say(ERR, f"{line}\n")


def copy_to_syslog(line: str, cid: str) -> None:
    """Write a line of ours to syslog as conmon words it there; other lines are not for it."""
    prefix = line[:12]
    if prefix not in _LEVELS:
        return
    import syslog

    level, priority = _LEVELS[prefix]
    text = f"conmon {cid[:20]} <{level}>: {line[12:]}"
    syslog.syslog(
        getattr(syslog, priority),
        text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
    )
