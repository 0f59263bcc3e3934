"""The server of a container that came by a door: ``python -m attachd.doors name=descriptor …``.

Started by the keeper alone, with the words of ``python -m attachd.live``.
"""

import importlib

from attachd.live.__main__ import Found, main
from attachd.live.entrance import Entrance

#: Which module serves which kind of door; each has ``make(found)``.
ENTRANCES = {
    "conmon": "attachd.doors.conmon.entrance",
    "shimmy": "attachd.doors.shimmy.entrance",
}


def make_entrance(found: Found) -> Entrance:
    """Return the server half of the door by which the container came."""
    kind = found.settings.door.kind
    if kind not in ENTRANCES:
        raise SystemExit(f"state.json is of another attachd: it has no door {kind!r:.80}")
    made: Entrance = importlib.import_module(ENTRANCES[kind]).make(found)
    return made


if __name__ == "__main__":
    main(make_entrance)
