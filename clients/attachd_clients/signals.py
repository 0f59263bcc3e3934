"""Signals by their names. Pure."""

import signal

from attachd.errors import UsageError


def signal_number(wish: str | int) -> int:
    """Return the number of ``"TERM"``, ``"sigterm"``, ``"15"`` or 15; raises UsageError."""
    name = str(int(wish) if isinstance(wish, int) else wish).upper()
    if name.isascii() and name.isdigit() and int(name) in signal.valid_signals():
        return int(name)
    found = signal.__dict__.get(name if name.startswith("SIG") else f"SIG{name}")
    if isinstance(found, signal.Signals):
        return found.value
    raise UsageError(f"no signal {wish!r:.80}: see kill -l")
