"""What a person presses, and the signals that have names. Pure."""

import signal

from attachd.errors import UsageError

#: A line, a word of a shell: what most programs take for the end of input at a terminal.
CTRL_D = b"\x04"


def control(key: str) -> bytes:
    """Return what ctrl with a key sends; raises UsageError.

    Keys are the letters and ``@[\\]^_?``, as on a terminal (ASCII, C0).
    """
    if key == "?":
        return b"\x7f"
    if len(key) == 1 and key.isascii() and "@" <= key.upper() <= "_":
        return bytes([ord(key.upper()) ^ 0x40])
    raise UsageError(f"no control key {key!r:.40}: write a letter or one of @[\\]^_?")


def signal_number(wish: str | int) -> int:
    """Return the number of ``"TERM"``, ``"sigterm"``, ``"15"`` or 15; raises UsageError."""
    name = str(int(wish) if isinstance(wish, int) else wish).upper()
    if name.isascii() and name.isdigit() and int(name) in signal.valid_signals():
        return int(name)
    found = signal.__dict__.get(name if name.startswith("SIG") else f"SIG{name}")
    if isinstance(found, signal.Signals):
        return found.value
    raise UsageError(f"no signal {wish!r:.80}: see kill -l")
