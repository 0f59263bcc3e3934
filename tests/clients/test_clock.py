"""Waiting for the wall's clock, which somebody sets."""

import trio
from attachd_clients.clock import wait_until

SECOND = 1_000_000_000


async def test_a_moment_comes_when_the_clock_says_so(autojump_clock) -> None:
    """Also a clock that is set on, or back, while somebody waits for it."""
    for jump, waited in ((0, 60.0), (30, 30.0), (-30, 90.0), (1000, 5.0)):
        begun, ahead = trio.current_time(), [0]

        def now() -> int:
            return int((trio.current_time() - begun + ahead[0]) * SECOND)  # noqa: B023

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_until, 60 * SECOND, now)
            await trio.sleep(4.5)
            ahead[0] = jump
        late = trio.current_time() - begun - waited

        assert -0.01 <= late <= 1.01


async def test_what_is_over_is_not_waited_for(autojump_clock) -> None:
    """Nor what never was."""
    begun = trio.current_time()
    await wait_until(0)

    assert trio.current_time() == begun
