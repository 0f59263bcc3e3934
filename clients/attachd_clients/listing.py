"""What containers there are, as rows for a person or a program."""

from attachd_clients.outcome import sentence
from attachd_clients.places import NoSuchContainer, Place, Unreadable

COLUMNS = ("id", "name", "phase", "pid", "end", "bundle")


def rows(root: str) -> list[dict[str, str]]:
    """Return a row for each container under a root, with COLUMNS as keys."""
    return [row for place in Place.all(root) if (row := _row(place))]


def table(found: list[dict[str, str]]) -> list[str]:
    """Return the lines of a table with a head; only managers' containers have names."""
    columns = [c for c in COLUMNS if c != "name" or any(row["name"] for row in found)]
    head = {name: name.upper() for name in columns}
    lines = [head, *found]
    widths = {name: max(len(row[name]) for row in lines) for name in columns}
    return ["  ".join(row[n].ljust(widths[n]) for n in columns).rstrip() for row in lines]


def _row(place: Place) -> dict[str, str] | None:
    try:
        state = place.state()
    except (NoSuchContainer, Unreadable):
        return None
    record = place.exit_record()
    phase = "stopped" if record else str(state["phase"])
    if record is None and not place.answers():
        phase = "lost"
    return {
        "id": place.id,
        "name": place.name,
        "phase": phase,
        "pid": "" if record else str(state["pid"] or ""),
        "end": sentence(record) if record else "",
        "bundle": str(state["bundle"]),
    }
