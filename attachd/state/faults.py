"""What a runtime's words say of a program that did not run: 126, 127, or the runtime's own fault.

runc ends with 1 in each case; what it says is Go's ``exec.LookPath`` and execve(2)'s reason
(libcontainer/init_linux.go, setns_init_linux.go), which docker and podman read as well.
"""

import re

#: As shells tell them (POSIX.1-2024, XCU 2.8.2), by the wire's codes (protocol.md, "Errors").
SHELL_CODES = {"not_executable": 126, "no_program": 127}

_NO_PROGRAM = re.compile(
    r'exec: "[^"]*": (executable file not found|stat .*: no such file or directory|no such file)'
    r"|\bexec /\S*: no such file or directory$"
)
_NOT_EXECUTABLE = re.compile(
    r'exec: "[^"]*": (permission denied|is a directory)'
    r"|\bexec /\S*: (permission denied|exec format error|is a directory)$"
)


def fault_of(message: str) -> str:
    """Return ``no_program``, ``not_executable``, or ``runtime``."""
    line = " ".join(message.split()).removesuffix(": unknown")
    if _NO_PROGRAM.search(line):
        return "no_program"
    return "not_executable" if _NOT_EXECUTABLE.search(line) else "runtime"
