"""What the shims of many containers report, all asked at once; one that hangs delays nobody."""

import trio

from attachd.errors import AttachdError
from attachd.wire.messages import Record
from attachd_clients.aio import attach
from attachd_clients.places import Place

#: How many are asked at a time: far below the usual limit of 1024 descriptors.
AT_A_TIME = 100


def places(ids: list[str], root: str) -> list[Place]:
    """Return the containers of these names, or all there are. Raises NoSuchContainer."""
    if ids:
        return [Place.find(name, root) for name in dict.fromkeys(ids)]
    return [place for place in Place.all(root) if place.exists()]


def reports(
    asked: list[Place], seconds: float, name: str
) -> dict[str, dict[str, object] | None]:
    """Return each container's report by its id; None where no shim has answered in time."""
    return trio.run(_ask_all, asked, seconds, name)


async def _ask_all(
    asked: list[Place], seconds: float, name: str
) -> dict[str, dict[str, object] | None]:
    found: dict[str, dict[str, object] | None] = {place.id: None for place in asked}
    limit = trio.CapacityLimiter(AT_A_TIME)

    async def ask(place: Place) -> None:
        async with limit:
            report = await _ask(place, seconds, name)
            found[place.id] = None if report is None else dict(report)

    async with trio.open_nursery() as nursery:
        for place in asked:
            nursery.start_soon(ask, place)
    return found


async def _ask(place: Place, seconds: float, name: str) -> Record | None:
    report: Record | None = None
    try:
        with trio.move_on_after(seconds):
            async with attach(
                place.id, root=place.root, since="none", role="viewer", name=name
            ) as client:
                report = await client.status()
    except* (AttachdError, OSError):
        pass  # it has ended, or is about to
    return report
