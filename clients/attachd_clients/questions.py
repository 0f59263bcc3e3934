"""Questions that programs ask their terminal, taken out of output of long ago.

A terminal answers as if somebody typed. When history is shown to a terminal, the program that
had asked would get the answers as keys.
Source: XTerm Control Sequences (ctlseqs); kitty's keyboard and graphics protocols.
"""

import re

#: No question is longer; what is, is not held back.
MAX_QUESTION = 256

_END = rb"(?:\x07|\x1b\\)"
_QUESTION = re.compile(
    rb"\x05"  # ENQ
    rb"|\x1bZ"  # DECID
    rb"|\x1b\[[>=?]?[0-9;]*[cn]"  # device attributes, device status
    rb"|\x1b\[[0-9;]*x"  # DECREQTPARM
    rb"|\x1b\[\??[0-9;]*\$p"  # DECRQM
    rb"|\x1b\[>[0-9;]*q"  # XTVERSION
    rb"|\x1b\[\?[0-9;]*u"  # kitty: keyboard flags
    rb"|\x1b\[(?:1[1-9]|2[01])(?:;[0-9]*)*t"  # XTWINOPS, reports
    rb"|\x1b\](?:4;[0-9]+|1[0-9]|52;[a-z0-9]*);\?" + _END  # colours, clipboard
    + rb"|\x1bP[+$]q[^\x1b]*\x1b\\"  # XTGETTCAP, DECRQSS
    rb"|\x1b_G[^\x1b]*a=q[^\x1b]*\x1b\\"  # kitty: graphics
)  # fmt: skip
_UNFINISHED = re.compile(rb"\x1b(?:\[[0-9;>=?$]*|[\]P_][^\x07\x1b]*\x1b?)?\Z")


class Unasked:
    """Output without its questions, however it was cut."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown; what may become a question is held back."""
        shown = _QUESTION.sub(b"", self._held + data)
        last = _UNFINISHED.search(shown, max(0, len(shown) - MAX_QUESTION))
        cut = last.start() if last else len(shown)
        self._held = shown[cut:]
        return shown[:cut]

    def end(self) -> bytes:
        """Return what is held back: no question has become of it."""
        held, self._held = self._held, b""
        return held
