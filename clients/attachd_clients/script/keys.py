"""What a person presses. Pure."""

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
