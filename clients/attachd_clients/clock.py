"""The wall's clock as something to wait for. It may be set at any moment."""

import time
from collections.abc import Callable

import trio

#: A clock that is set tells nobody who waits (but timerfd_create(2)): it is looked at so often.
LOOK_SECONDS = 1.0

_SECOND = 1_000_000_000


async def wait_until(moment: float, now: Callable[[], int] = time.time_ns) -> None:
    """Return when the clock says that it is ``moment`` (ns since the epoch), or later.

    At most a second after it does. With an infinite one only cancelling ends it.
    """
    while (left := moment - now()) > 0:  # noqa: ASYNC110  # a clock that is set is no event
        await trio.sleep(min(left / _SECOND, LOOK_SECONDS))
