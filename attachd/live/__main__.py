"""The server process: ``python -m attachd.live name=descriptor …``, started by the keeper alone.

``python -m attachd.live warm=DESCRIPTOR`` waits for those, with its code loaded by then.

``python -m attachd.live check name=descriptor …`` ends with 0 when it could work with these, and
with its reason on stderr when it could not: nothing is touched (`attachd.keeper.renewal`).
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NamedTuple

import trio

from attachd.keeper import files
from attachd.keeper.descriptors import Table, lift_descriptor_limit, map_header, parse_named
from attachd.keeper.server import STOPPED, receive_words
from attachd.live.ending import run_exit_command
from attachd.live.entrance import Entrance, NoEntrance
from attachd.live.leaving import is_out_of_the_way, leave_nothing
from attachd.live.settings import Settings
from attachd.live.shim import Shim
from attachd.state.header import Header


class Found(NamedTuple):
    """What a server works with."""

    table: Table
    header: Header
    settings: Settings


def find(words: list[str]) -> Found | None:
    """Return what the keeper passed as ``name=descriptor`` words.

    None when the container has ended and somebody has removed its directory: there is nobody
    left to tell. Ends the process with a reason when this code cannot work with it.
    """
    named = parse_named(words)
    for fd in named.values():
        os.set_inheritable(fd, False)
    table = Table.of(named)
    header = map_header(table.header)
    if not header.known:
        raise SystemExit(header.why_unknown)
    try:
        state = files.read_json(f"/proc/self/fd/{table.directory}/{files.STATE}")
    except FileNotFoundError:
        if header.exit_code:
            return None
        raise
    try:
        return Found(table, header, Settings.of_state(state))
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(f"state.json is of another attachd: {error!r}") from None


async def serve(found: Found, entrance: Entrance) -> None:
    """Be the shim of a container that was created, until the end."""
    if is_out_of_the_way(found.table.directory):
        await run_exit_command(found.header, found.settings)
        leave_nothing(found.table.directory)
        return
    async with trio.open_nursery() as nursery:
        shim = Shim(*found, entrance)
        nursery.start_soon(_stop_when_asked, shim)
        await shim.run()
        nursery.cancel_scope.cancel()


async def _stop_when_asked(shim: Shim) -> None:
    """End this process at SIGTERM, when the logs have all that has arrived: a successor goes on.

    Otherwise as abruptly as a death, on purpose: there is one way for clients, logs and execs
    to go on.
    """
    with trio.open_signal_receiver(signal.SIGTERM) as asked:
        async for _ in asked:
            await shim.program.settle()
            os._exit(STOPPED)


def main(make_entrance: Callable[[Found], Entrance] = lambda found: NoEntrance()) -> None:
    """Serve; the exit status 0 tells the keeper that the work is finished."""
    words = sys.argv[1:]
    if words[:1] == ["check"]:
        found = find(words[1:])
        if found is not None:
            make_entrance(found)
        return
    if words[0].startswith("warm="):
        words = receive_words(int(words[0].removeprefix("warm=")))
        if not words:
            return  # there is no container
        lift_descriptor_limit()  # as our keeper has done meanwhile
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        # Not SIG_IGN: the programs that we start would inherit that.
        signal.signal(number, lambda *_: None)
    gc.freeze()  # what was imported stays: the collector need not look at it again and again
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    found = find(words)
    if found is not None:
        trio.run(serve, found, make_entrance(found))


if __name__ == "__main__":
    main()
