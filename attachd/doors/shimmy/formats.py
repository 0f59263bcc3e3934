"""What conman reads of a shim: the report on the sync pipe, and the exit file (docs/shimmy.md)."""

import json
import signal

from attachd.errors import AttachdError, RuntimeFailed

#: A status is that of who was killed when it is this and a signal's number, as a shell tells it.
_KILLED = 128

#: The sort of report for what did not fail of the runtime. conman takes every sort that it does
#: not know for a failure, and shows its words.
SHIM_FAILURE = "shim_failure"


def report_of_pid(pid: int) -> bytes:
    """Return the report of a container that was made."""
    return _compact({"kind": "container_pid", "pid": pid})


def report_of_error(error: AttachdError) -> bytes:
    """Return the report of one that was not; what the runtime said is in it as it was said."""
    if not isinstance(error, RuntimeFailed):
        return _compact({"kind": SHIM_FAILURE, "status": str(error), "stderr": ""})
    return _compact(
        {
            "kind": "runtime_abnormal_termination",
            "status": _status(error.status),
            "stderr": error.stderr or str(error),
        }
    )


def exit_file(record: dict[str, object]) -> bytes:
    """Return the text of the exit file for an exit record (`attachd.state.exitrecord`).

    Of code and signal only the one that there is; with neither the reason is ``unknown``, which
    conman refuses, rather than one that was made up.
    """
    code, number = record["exit_code"], record["signal"]
    ending: dict[str, object] = {"at": record["finished_at"]}
    if code is not None:
        ending |= {"reason": "exited", "exitCode": code}
    elif number is not None:
        ending |= {"reason": "signaled", "signal": number}
    else:
        ending |= {"reason": "unknown"}
    return json.dumps(ending).encode()


def _status(status: int) -> str:
    """Return in shimmy's words how the runtime has ended."""
    try:
        killer = signal.Signals(status - _KILLED)
    except ValueError:
        return f"Runtime Exited with code {status}."
    return f"Runtime Received signal {killer.name}."


def _compact(value: dict[str, object]) -> bytes:
    """Return JSON without a space or a newline: the end of the pipe ends it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
