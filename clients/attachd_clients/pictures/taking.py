"""The terminal of a container as it looks now, or as its end has left it."""

import sys

from attachd.errors import UsageError
from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.pictures.cells import Picture, Sight
from attachd_clients.places import Place
from attachd_clients.recording.sizes import Sized, left_timeline

#: The shim answers at once, or something is wrong with it.
_ANSWER_SECONDS = 30.0


def take_picture(place: Place, execution: str = "") -> Picture:
    """Look at the terminal of a container, or of an exec in it, without touching it.

    Of one whose shim is gone: what its log files have last. Raises UsageError where there is no
    terminal or no log, TimeoutError when the shim does not answer.
    """
    if not place.has_terminal(execution):
        what = f"exec {execution} of {place.id}" if execution else place.id
        raise UsageError(f"{what} has no terminal, and so no screen: see 'attachctl logs'")
    with attach_blocking(
        place.id,
        root=place.root,
        since="screen",
        role="viewer",
        name="attachctl snapshot",
        exec=execution,
    ) as client:
        return _look(place, client, execution)


def _look(place: Place, client: BlockingClient, execution: str) -> Picture:
    welcome = client.welcome
    if welcome is None and execution:
        raise UsageError(f"exec {execution} of {place.id} has ended, and its output is gone")
    if welcome is None:
        sight, end = Sight(place.last_size()), sys.maxsize
        sized = Sized(left_timeline(place))
    else:
        sight, end = Sight(Size(welcome.columns, welcome.rows), welcome.modes), welcome.newest
        sized = None
    while client.offset < end and (event := client.receive(_ANSWER_SECONDS)) is not None:
        for part in sized.add(event) if sized else (event,):
            if isinstance(part, say.Output):
                sight.feed(part.data)
            elif isinstance(part, say.Resized):
                sight.resize(Size(part.columns, part.rows))
    sight.resize(
        place.last_size(execution)
    )  # a change after the last output is not told with it
    return sight.picture()
