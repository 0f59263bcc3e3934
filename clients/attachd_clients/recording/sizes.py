"""The sizes of a terminal whose shim is gone, put back into the order of its output.

A shim tells them by itself; what is left of it is ``terminal.json``, which knows them from the
oldest byte that the ring had last.
"""

import json
import os
from collections.abc import Iterator

import attrs

from attachd.state.sizes import Size
from attachd.state.timeline import Change, Timeline
from attachd.wire import messages as say
from attachd_clients.conversation import Event
from attachd_clients.places import Place


def left_timeline(place: Place) -> Timeline:
    """Return the sizes that a container's terminal had, as far as its files tell."""
    try:
        with open(os.path.join(place.path, "terminal.json"), "rb") as file:
            changes = list(_changes(json.load(file)))
    except (OSError, ValueError, TypeError):
        changes = []
    return Timeline(changes or [Change(1, 0, 0, place.last_size())])


def _changes(record: object) -> Iterator[Change]:
    rows = record.get("sizes") if isinstance(record, dict) else None
    for row in rows if isinstance(rows, list) else ():
        number, offset, time, columns, rows = map(int, row)
        yield Change(number, offset, time, Size(columns, rows))


@attrs.define(eq=False)
class Sized:
    """Events in, the same events with the sizes that the terminal had between them out."""

    _timeline: Timeline
    _told: int = 0  #: the number of the last change that was told

    def add(self, event: Event) -> Iterator[Event]:
        """Yield the event, in two where the size has changed within it."""
        while isinstance(event, say.Output) and (change := self._next(event.offset)):
            cut = max(0, change.offset - event.offset)
            if cut >= len(event.data):
                break
            if cut:
                yield attrs.evolve(event, data=event.data[:cut])
                event = attrs.evolve(event, offset=change.offset, data=event.data[cut:])
            self._told = change.number
            yield _resized(change)
        yield event

    def _next(self, offset: int) -> Change | None:
        """Return what is to be told next; what was over before ``offset`` never is."""
        now = self._timeline.at(offset)
        return now if now.number > self._told else self._timeline.after(self._told)


def _resized(change: Change) -> say.Resized:
    columns, rows = change.size
    return say.Resized(offset=change.offset, time=change.time, columns=columns, rows=rows)
