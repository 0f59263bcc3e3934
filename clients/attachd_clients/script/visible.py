"""Output as lines that a person can read anywhere: no escapes, no control characters. Pure."""

import re

#: Escape sequences, and what belongs to them (ECMA-48; xterm's strings).
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?"
    r"|[ -/]*[0-~]?)"
)
_CONTROLS = {code: f"^{chr(code ^ 0x40)}" for code in (*range(0x20), 0x7F) if code != 0x09}

#: A longer line is cut: what is told is to be read at a glance.
_WIDTH = 160


def visible_lines(data: bytes, *, keep_ends: bool = False) -> list[str]:
    """Return the lines of output; with ``keep_ends`` a line's end is shown, too."""
    text = _ESCAPES.sub("", data.decode(errors="replace"))
    lines = text.split("\n")
    if len(lines) > 1 and not lines[-1]:
        del lines[-1]
        whole = len(lines)
    else:
        whole = len(lines) - 1
    if keep_ends:
        lines[:whole] = [f"{line}\n" for line in lines[:whole]]
    return [_plain(line if keep_ends else line.rstrip("\r")) for line in lines]


def _plain(line: str) -> str:
    line = line.translate(_CONTROLS).replace("\t", "    ")
    line = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
