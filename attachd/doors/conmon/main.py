"""The program: a command line in conmon's words to a container; one line and 1 if refused.

Exit codes: 0 for the version and help, 1 for every error, otherwise the launcher's.
Imports at the top are those of ``--version`` alone: the rest comes when there is something to
parse. (The program ``attachd-conmon`` answers that one by itself.)
"""

import os
import sys

from attachd.doors.conmon.telling import OUT, copy_to_syslog, say, tell
from attachd.doors.conmon.usage import help_text, version_text

TYPE_CHECKING = False  # typing's own costs as much as half an interpreter
if TYPE_CHECKING:
    from typing import NoReturn

REFUSED = 1


def main() -> "NoReturn":
    """Run the program with the arguments of this process; never returns."""
    words = sys.argv[1:]
    if words == ["--version"]:
        say(OUT, version_text())
        os._exit(0)  # taking the interpreter apart costs a fifth of starting it
    os._exit(_run(words))


def _run(words: list[str]) -> int:
    """Return the exit code that ``words`` lead to."""
    from attachd.errors import AttachdError, ConmonError
    from attachd.ground import open_standard_descriptors

    open_standard_descriptors()
    os.umask(0o022)  # conmon's: a manager's own must not close what is made for others
    syslog, cid = False, ""

    def warn(line: str) -> None:
        tell(line)
        if syslog:
            copy_to_syslog(line, cid)

    try:
        from attachd.doors.conmon.options import parse_options

        options = parse_options(words)
        if options.help:
            say(OUT, help_text())
            return 0
        if options.version:
            say(OUT, version_text())
            return 0
        syslog, cid = options.syslog, options.cid or ""
        from attachd.doors.conmon.checks import check

        checked = check(options)
        for line in checked.warnings:
            warn(line)
        from attachd.doors.conmon.launcher import launch

        return launch(checked.options, checked.drivers)
    except ConmonError as error:
        warn(str(error))
    except (AttachdError, OSError) as error:
        warn(f"[conmon:e]: {error}")
    return REFUSED
