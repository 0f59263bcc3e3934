"""The server process: ``python -m attachd.live name=descriptor …``, started by the keeper alone."""

import gc
import logging
import os
import signal
import sys

import trio

from attachd.keeper import files
from attachd.keeper.descriptors import Table, map_header
from attachd.live.settings import Settings
from attachd.live.shim import Shim


def read_table(words: list[str]) -> Table:
    """Return the table that the keeper passed as ``name=descriptor`` words."""
    named = {name: int(fd) for name, _, fd in (word.partition("=") for word in words)}
    for fd in named.values():
        os.set_inheritable(fd, False)
    own = {name: named.pop(name) for name in Table._fields if name in named}
    return Table(**own, kept=named)


async def serve(table: Table) -> None:
    """Be the shim of a container that was created, until the end."""
    header = map_header(table.header)
    if not header.known:
        raise SystemExit("this header was made by another version of attachd")
    try:
        state = files.read_json(f"/proc/self/fd/{table.directory}/{files.STATE}")
    except FileNotFoundError:
        if header.exit_code:
            return  # somebody has removed the directory: there is nobody left to tell
        raise
    await Shim(table, header, Settings.of_state(state)).run()


def main() -> None:
    """Serve; the exit status 0 tells the keeper that the work is finished."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # Not SIG_IGN: the programs that we start would inherit that.
        signal.signal(number, lambda *_: None)
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    trio.run(serve, read_table(sys.argv[1:]))


if __name__ == "__main__":
    main()
