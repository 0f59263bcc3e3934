"""Accepting clients, also when there are no descriptors for them: they wait, nothing else does."""

import errno
import logging
from collections.abc import Awaitable, Callable

import trio

#: accept(2): what may be over in a moment, and then the same clients are still there.
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)

#: How long it is then left alone, as Trio does it.
PAUSE_SECONDS = 0.1

_log = logging.getLogger(__name__)

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def accept_clients(
    listener: trio.abc.Listener[trio.SocketStream], serve: Serve, nursery: trio.Nursery
) -> None:
    """Have ``serve`` run in ``nursery`` for each that connects. Ends when cancelled.

    What `trio.serve_listeners` does; but of a trouble that lasts it is told when it begins and
    when it is over, in a line each, and not for every time that it is tried.
    """
    trouble = False
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            if not trouble:
                _log.error("clients wait, they cannot be accepted: %s", error.strerror)
            trouble = True
            await trio.sleep(PAUSE_SECONDS)
            continue
        if trouble:
            _log.error("clients are accepted again")
        trouble = False
        nursery.start_soon(_serve, stream, serve)


async def _serve(stream: trio.SocketStream, serve: Serve) -> None:
    try:
        await serve(stream)
    except* OSError as errors:
        if not _is_about_room(errors):
            raise
        _log.error("a client was let go: %s", _first(errors).strerror)
    finally:
        await trio.aclose_forcefully(stream)


def _is_about_room(errors: BaseExceptionGroup[OSError]) -> bool:
    """True when all of it is about descriptors or memory: its client may come back."""
    return all(
        _is_about_room(error)
        if isinstance(error, BaseExceptionGroup)
        else error.errno in NO_ROOM
        for error in errors.exceptions
    )


def _first(errors: BaseExceptionGroup[OSError]) -> OSError:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
