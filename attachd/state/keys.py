"""Detach keys: what a person types to leave a terminal, in docker's syntax, and how it is noticed.

What may be the beginning of the keys is held back until the next byte tells. There is no clock
here: whoever owns the matcher calls ``flush`` when nothing more was typed for HOLD_SECONDS.
"""

import re

from attachd.errors import UsageError

#: Two keys of a sequence follow each other faster, even over a slow line; a lone ctrl-p that
#: reaches its program after this time does not feel lost yet.
HOLD_SECONDS = 0.3

#: Nobody remembers more.
MAX_KEYS = 16

#: Source: moby/term, ascii.go.
_KEY = re.compile(r"(?P<itself>[ -~])|ctrl-(?P<control>[a-zA-Z@\[\\\]^_])|DEL")


def parse_keys(text: str) -> bytes:
    """Return the bytes that the keys in ``text`` send; raises UsageError.

    Keys are separated by commas. A key is an ASCII character as it is, ``ctrl-`` with a letter
    or one of ``@[\\]^_``, or ``DEL``. ``none`` means that there are no detach keys: b"".
    """
    if text == "none":
        return b""
    names = text.split(",")
    if len(names) > MAX_KEYS:
        raise UsageError(f"{len(names)} detach keys are too many: write at most {MAX_KEYS}")
    return bytes(_parse_key(name, text) for name in names)


def _parse_key(name: str, text: str) -> int:
    """Return the byte that one key sends."""
    match = _KEY.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name!r:.20} in {text!r:.60} is not a detach key: write single characters, "
            "ctrl-a to ctrl-z, one of ctrl-@[\\]^_ or DEL, with commas between, like "
            "ctrl-p,ctrl-q; or none"
        )
    if match["control"]:
        return ord(match["control"].upper()) ^ 0x40
    return ord(match["itself"] or "\x7f")


class DetachKeys:
    """A matcher of one sequence in what is typed. An empty sequence never matches."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = b""

    @property
    def holding(self) -> bool:
        """Whether bytes are held back that may be the beginning of the sequence."""
        return bool(self._held)

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Take what was typed; return what is to be passed on, and whether the keys were typed.

        What follows the keys in ``data`` was typed to nobody and is gone. The matcher then
        begins anew.
        """
        data, self._held = self._held + data, b""
        if not self._sequence:
            return data, False
        at = data.find(self._sequence)
        if at >= 0:
            return data[:at], True
        cut = len(data) - self._begun(data)
        self._held = data[cut:]
        return data[:cut], False

    def flush(self) -> bytes:
        """Give up what is held back: it was meant for the program. The matcher begins anew."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes) -> int:
        """Return the length of the longest end of ``data`` that the sequence begins with."""
        lengths = range(len(self._sequence) - 1, 0, -1)
        return next((n for n in lengths if data.endswith(self._sequence[:n])), 0)
