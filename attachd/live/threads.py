"""What may block, in a thread; or at once where there is no thread to be had (clone(2), EAGAIN)."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import trio

_Words = TypeVarTuple("_Words")
_T = TypeVar("_T")


async def in_thread(
    function: Callable[[Unpack[_Words]], _T],
    *words: *_Words,
    limiter: trio.CapacityLimiter | None = None,
) -> _T:
    """Return what ``function`` returns, which may block; raises what it raises.

    When no thread can be started everybody waits for it: better than to die of that.
    On cancel: returns when it has ended.
    """
    begun = False

    def run() -> _T:
        nonlocal begun
        begun = True
        return function(*words)

    try:
        return await trio.to_thread.run_sync(run, limiter=limiter)
    except RuntimeError:  # threading: "can't start new thread"
        if begun:
            raise
    return run()
