"""How a container's end is told to a shell, and to a person."""

from attachd.wire.messages import Record

#: The record does not know how the container ended (``reason`` is ``unknown``).
UNKNOWN = 125


def shell_code(record: Record) -> int:
    """Return the container's exit code, 128+n for a signal, 125 when nobody knows."""
    code, signal = record.get("exit_code"), record.get("signal")
    if isinstance(code, int):
        return code
    return 128 + signal if isinstance(signal, int) else UNKNOWN


def sentence(record: Record) -> str:
    """Return the end in a few words: ``exited with 7``, ``killed by signal 9 (timeout)``."""
    reason, code = record.get("reason"), record.get("exit_code")
    if isinstance(code, int):
        return f"exited with {code}"
    if reason == "unknown":
        return "ended, nobody knows how"
    told = f" ({reason})" if reason in ("oom", "timeout") else ""
    return f"killed by signal {record.get('signal')}{told}"
