"""The creation report: one JSON line that tells the caller whether creation worked.

``{"pid": N}``, or ``{"error": {"code": …, "message": …, "runtime_stderr": …}}``.
"""

import json
import os

from attachd.errors import AttachdError, RuntimeFailed
from attachd.keeper.files import write_all

#: A report is small: two bounded ends of the runtime's words and a message.
MAX_REPORT = 1 << 20


def of_pid(pid: int) -> dict[str, object]:
    """Return the report of a container that was made."""
    return {"pid": pid}


def of_error(error: AttachdError) -> dict[str, object]:
    """Return the report of one that was not."""
    words = error.stderr if isinstance(error, RuntimeFailed) else ""
    return {"error": {"code": error.code, "message": str(error), "runtime_stderr": words}}


def as_attachd_error(error: AttachdError | OSError) -> AttachdError:
    """Return what a creation failed of as an error that can be reported."""
    if isinstance(error, AttachdError):
        return error
    return AttachdError(f"cannot set up the shim: {error}")


def send(fd: int, report: dict[str, object]) -> None:
    """Write the line and close the descriptor; a caller that has gone is not an error."""
    try:
        os.set_blocking(fd, True)
        write_all(fd, json.dumps(report).encode() + b"\n")
    except OSError:
        pass
    try:
        os.close(fd)
    except OSError:
        pass


def receive(fd: int) -> int:
    """Read to the end, so that the keeper has cleaned up when it failed; return the pid.

    Raises AttachdError or RuntimeFailed with what the keeper told.
    """
    data = b""
    while len(data) < MAX_REPORT and (part := os.read(fd, 65536)):
        data += part
        if data.endswith(b"\n") and b'"pid"' in data:
            break
    try:
        told = json.loads(data)
    except ValueError:
        raise AttachdError("the keeper died before it could report; see shim.log") from None
    if "pid" in told:
        return int(told["pid"])
    error = told["error"]
    if error["code"] == RuntimeFailed.code:
        raise RuntimeFailed("create", 1, error["message"], error["runtime_stderr"])
    raise AttachdError(error["message"])
