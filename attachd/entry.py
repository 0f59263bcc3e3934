"""``attachd``: to the program that the first word names, and otherwise to our own verbs.

The words after a door's name are that door's: no parser of ours sees them, and nothing is
imported that the door does not need.
"""

import sys

TYPE_CHECKING = False  # see attachd.doors.conmon.main
if TYPE_CHECKING:
    from typing import NoReturn

#: Whose command line it is, and the module whose main() reads the words after it as its own.
DOORS = {
    "conmon": "attachd.doors.conmon.main",
    "shimmy": "attachd.doors.shimmy.main",
}


def main() -> "NoReturn":
    """Run ``attachd`` with the arguments of this process; never returns."""
    door = DOORS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if door is None:
        from attachd.cli import main as attachd

        attachd()
    from importlib import import_module

    del sys.argv[1]
    sys.exit(import_module(door).main())
