"""The exit record: what became of a container, as ``exit.json`` and the ``exit`` message tell it.

The schema is in protocol.md, "The exit record". Exactly one of ``exit_code`` and ``signal`` is
an int, but for reason ``unknown`` where both are null: a code is never made up.
"""

import json
from typing import NamedTuple

from attachd.state.times import rfc3339

#: Values of si_code, waitid(2): how a child ended.
CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3

#: Stored by whoever saw the container gone but could not learn how: the keeper, whose child it
#: was, had been killed, and the kernel does not tell others.
CLD_UNKNOWN = 255

#: Stored by ``attachd recover``: it had gone while there was no shim at all.
CLD_UNSEEN = 254

_WHY_UNKNOWN = {
    CLD_UNKNOWN: "its keeper was killed, and this kernel tells nobody else how a process ended"
    " (Linux 6.15 and later do)",
    CLD_UNSEEN: "it ended while keeper and server were both gone",
}

SIGKILL = 9
SCHEMA = 1


class Ending(NamedTuple):
    """What was seen of the end; see ``exit_record`` for the meaning of each."""

    code: int  #: si_code
    status: int  #: si_status
    finished: int  #: ns
    started: int  #: ns, 0 when it never started
    oom_kills: int
    timed_out: bool
    drained: bool
    streams: dict[str, int]  #: bytes of each stream
    log_offset: int
    log_dropped: int
    restarts: int
    base: int = 0  #: the offset of the first byte that is counted in ``streams``
    recovered: int = 0  #: how often the container was taken up again


def _reason(end: Ending) -> str:
    if end.code in _WHY_UNKNOWN:
        return "unknown"
    if end.code == CLD_EXITED:
        return "exited"
    if end.timed_out:
        return "timeout"
    return "oom" if end.oom_kills and end.status == SIGKILL else "signaled"


def exit_record(
    container: str, stream_id: str, end: Ending, *, execution: str = ""
) -> dict[str, object]:
    """Return the record as plain values, in the order in which people read it.

    That of an exec, whose name is ``execution``, has ``exec`` besides.
    """
    exited = end.code == CLD_EXITED
    signaled = end.code in (CLD_KILLED, CLD_DUMPED)
    named = {"exec": execution} if execution else {}
    return {
        "schema": SCHEMA,
        "id": container,
        **named,
        "reason": _reason(end),
        "unknown_because": _WHY_UNKNOWN.get(end.code),
        "exit_code": end.status if exited else None,
        "signal": end.status if signaled else None,
        "core_dumped": end.code == CLD_DUMPED,
        "oom_killed": end.oom_kills > 0,
        "timed_out": end.timed_out,
        "started_at": rfc3339(end.started) if end.started else None,
        "finished_at": rfc3339(end.finished),
        "bytes": dict(end.streams),
        "offset": end.base + sum(end.streams.values()),
        "log_offset": end.log_offset,
        "log_dropped": end.log_dropped,
        "drained": end.drained,
        "restarts": end.restarts,
        "recovered": end.recovered,
        "stream_id": stream_id,
    }


def to_json(record: dict[str, object]) -> bytes:
    """Return the record as the bytes of a file: indented, with a newline at the end."""
    return json.dumps(record, indent=2).encode() + b"\n"
