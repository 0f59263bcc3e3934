"""The manager's pipes: what it has passed by number, and the lines that it reads there."""

import contextlib
import json
import os
from collections.abc import Mapping
from typing import NamedTuple

from attachd.errors import AttachdError

#: What is read of a "go": its content means nothing.
_GO_BYTES = 8192


class Pipes(NamedTuple):
    """What the manager has passed by number; -1 for none."""

    sync: int = -1
    start: int = -1
    attach: int = -1

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Pipes":
        """Return the descriptors in ``_OCI_*PIPE``, close-on-exec; raises AttachdError."""
        names = ("_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE")
        return cls(*(_pipe(name, environment.get(name, "")) for name in names))

    def wait_start(self) -> None:
        """Return when the manager says go, or has gone. Raises OSError."""
        if self.start >= 0:
            os.read(self.start, _GO_BYTES)


def _pipe(name: str, text: str) -> int:
    if not text:
        return -1
    if not (text.isascii() and text.isdigit()):
        raise AttachdError(f"unable to parse {name}: {text!r:.40} is not a descriptor")
    fd = int(text)
    if fd == 0:
        return -1
    try:
        os.set_inheritable(fd, False)
    except (OSError, OverflowError):
        raise AttachdError(f"unable to make {name} CLOEXEC: {fd} is not open") from None
    return fd


def line(key: str, number: int, message: str = "") -> bytes:
    """Return a line for the sync pipe, which is one packet: ``{"data": 7}``."""
    told: dict[str, object] = {key: number}
    if message:
        told["message"] = message
    return json.dumps(told, ensure_ascii=False).encode(errors="replace") + b"\n"


def tell(fd: int, said: bytes) -> None:
    """Write to a pipe of the manager's, which may have gone, or not be there (-1)."""
    if fd < 0:
        return
    with contextlib.suppress(OSError):
        os.write(fd, said)
