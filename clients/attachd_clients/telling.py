"""How records are told: as text for people and for files, or as JSON for programs.

Pure: returns bytes, writes nothing.
"""

import base64
import functools
import json
from collections.abc import Iterable, Sequence

import attrs

from attachd.state.times import rfc3339
from attachd.wire import messages as say
from attachd_clients.lines import Line
from attachd_clients.trail import Record


def as_json(container: str, records: Iterable[Record]) -> bytes:
    """Return one JSON object a line for each record; a heartbeat makes none.

    A line is ``id, offset, stream, time, text, partial``, where what is not UTF-8 became U+FFFD
    in ``text``, and ``raw`` has the bytes in base64; ``time`` is null when nobody knows it. A gap
    is ``id, gap: [from, to]``, the end is ``id, exit: record``.
    """
    found = (_fields(record) for record in records)
    return b"".join(
        json.dumps({"id": container, **fields}, ensure_ascii=False).encode() + b"\n"
        for fields in found
        if fields is not None
    )


def _fields(record: Record) -> dict[str, object] | None:
    match record:
        case Line():
            return {
                "offset": record.offset,
                "stream": record.stream,
                "time": _time(record.time) if record.time else None,
                **_text(record.text),
                "partial": record.partial,
            }
        case say.Gap():
            return {"gap": [record.start, record.end]}
        case say.Exit():
            return {"exit": record.record}
        case _:
            return None


def _text(text: bytes) -> dict[str, str]:
    try:
        return {"text": text.decode()}
    except UnicodeDecodeError:
        raw = base64.b64encode(text).decode()
        return {"text": text.decode(errors="replace"), "raw": raw}


@functools.lru_cache(maxsize=64)
def _time(ns: int) -> str:
    """Return RFC 3339; lines of one read have one time."""
    return rfc3339(ns)


@attrs.define(eq=False)
class Sheet:
    """Lines as text on one descriptor or file, each behind its head.

    Pieces of one line stand together, as one line. Where something else comes in between, or a
    gap, a newline is put behind the piece.
    """

    timestamps: bool = False
    prefixes: dict[str, bytes] = attrs.field(factory=dict)  #: what stands before a container's
    open: str = ""  #: whose piece stands at the end, and waits for the rest of its line

    def add(self, container: str, lines: Sequence[Line]) -> bytes:
        """Return the text of a container's lines."""
        prefix = self.prefixes.get(container, b"")
        texts = [line.text for line in lines if not line.partial]
        if texts and len(texts) == len(lines) and not self.open and not self.timestamps:
            return prefix + (b"\n" + prefix).join(texts) + b"\n"  # millions of lines are such
        parts: list[bytes] = []
        for line in lines:
            whose = f"{line.stream} {container}"
            if self.open != whose:
                parts += (self.end_line(), prefix)
                if self.timestamps:
                    parts.append((_time(line.time) if line.time else "-").encode() + b" ")
            parts.append(line.text)
            if line.partial:
                self.open = whose
            else:
                self.open = ""
                parts.append(b"\n")
        return b"".join(parts)

    def end_line(self) -> bytes:
        """Return the newline that is missing, if one is."""
        was_open, self.open = self.open, ""
        return b"\n" if was_open else b""


def tell_gap(gap: say.Gap) -> str:
    """Return what is missing, for a person."""
    return f"{gap.end - gap.start} bytes from offset {gap.start} are no longer there"
