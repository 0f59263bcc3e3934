"""``attachd shimmy``: one container, made for a manager that calls us as conman calls shimmy.

Exit codes: 0 as soon as there is a shim, which then reports through the sync pipe; 125 when there
is none, with a line on stderr that says why.
"""

import os
import signal
import sys
from typing import NoReturn

from attachd.doors.shimmy.manager import Manager
from attachd.doors.shimmy.options import absolute, config_of
from attachd.doors.shimmy.usage import help_text
from attachd.doors.shimmy.wishes import Wishes
from attachd.doors.shimmy.words import parse
from attachd.errors import AttachdError
from attachd.ground import open_standard_descriptors, state_root
from attachd.keeper import birth

FAILED = 125


def main() -> NoReturn:
    """Run it with the arguments of this process; never returns."""
    code, argv = 0, sys.argv[1:]
    if not {"-h", "--help"}.isdisjoint(argv):
        print(help_text(), end="", flush=True)
        os._exit(code)
    open_standard_descriptors()
    os.umask(0o022)  # a caller's own must neither open nor close what we make for containers
    # A caller may ignore it, and the kernel would then keep our children's status from us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        _create(argv)
    except AttachdError as error:
        print(f"attachd shimmy: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
        code = FAILED
    os._exit(code)  # without taking the interpreter apart, which costs time


def _create(argv: list[str]) -> None:
    words = parse(argv, os.environ)
    config = config_of(words, state_root())
    wishes = Wishes.of_json(config.door.wishes)
    pid_file = absolute("--shimmy-pidfile", words.shimmy_pidfile)
    manager = Manager(words.syncpipe_fd, pid_file, wishes.attach_file, wishes.exit_file)
    birth.create(config, caller=manager)
