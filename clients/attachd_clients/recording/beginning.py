"""Where a recording begins: the offset, what is asked for, and who sees what came before."""

import sys

from attachd.errors import UsageError
from attachd.state.sizes import DEFAULT_SIZE, Size
from attachd.wire import messages as say
from attachd_clients.aio import Client, attach
from attachd_clients.places import Place
from attachd_clients.rebuild import Rebuild
from attachd_clients.recording.recorder import Recorder

#: How much output a screen of the past is rebuilt from: as much as the server takes for one of
#: the present (`attachd.live.past`).
SCREEN_BYTES = 256 * 1024

#: ``live`` has no offset of its own.
NOW = -1


async def find_beginning(
    place: Place, since: str, name: str, execution: str = ""
) -> tuple[int, str]:
    """Return the offset where a recording from ``since`` on begins, and where to attach for it.

    With a terminal that is earlier: its screen is to be known. Raises AttachdError when there is
    no such offset.
    """
    terminal = place.has_terminal(execution)
    if since == "live":
        return NOW, "screen" if terminal else since
    if since == "start":
        return 0, since
    at = await _find(
        place, since, name, execution
    )  # before a file is made for what is not there
    return (at, f"offset:{max(0, at - SCREEN_BYTES)}") if terminal else (0, since)


async def _find(place: Place, since: str, name: str, execution: str) -> int:
    """Return the offset that ``since`` means, without taking any output."""
    async with attach(
        place.id,
        root=place.root,
        since=since,
        role="viewer",
        window=0,
        name=name,
        exec=execution,
    ) as client:
        if client.welcome is not None:
            return client.welcome.offset
        async for event in client:
            if isinstance(event, say.Output):
                return event.offset
            if isinstance(event, say.Gap):
                return event.start
    return int(str((place.exit_record() or {}).get("offset", 0)))


def make_recorder(
    place: Place,
    client: Client,
    at: int,
    wanted: Size | None,
    more: dict[str, object],
    execution: str = "",
) -> Recorder:
    """Return the recorder for a client that was attached to record from ``at`` on.

    ``wanted`` is a size for what has no terminal; raises UsageError for what has one, and for
    an exec that was forgotten.
    """
    if execution and client.welcome is None:
        raise UsageError(f"exec {execution} of {place.id} has ended, and its output is gone")
    if not place.has_terminal(execution):
        return Recorder(wanted or DEFAULT_SIZE, returns=True, more=more)
    if wanted is not None:
        raise UsageError(f"--size: {place.id} has a terminal, which has a size")
    welcome = client.welcome
    if welcome is None:
        size, newest, modes = place.last_size(), sys.maxsize, b""
    else:
        size = Size(welcome.columns, welcome.rows)
        newest, modes = welcome.newest, welcome.modes
    end = newest if at == NOW else at
    rebuild = Rebuild(client.offset, end, size, modes) if end else None
    return Recorder(size, returns=False, more=more, rebuild=rebuild)
