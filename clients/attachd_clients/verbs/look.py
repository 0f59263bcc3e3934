"""``attachctl ls``, ``inspect``, ``stats``: what there is."""

import argparse
import contextlib
import json

from attachd.errors import AttachdError
from attachd_clients import listing
from attachd_clients.places import Place
from attachd_clients.verbs import ANSWER_SECONDS, Add, control

#: A shim whose servers do not stay may be without one for now.
TROUBLED_SECONDS = 2.0


def add(verb: Add) -> None:
    """Add these verbs."""
    verb("ls", _ls, "list containers").add_argument("--json", action="store_true")
    verb("inspect", _inspect, "print all that is known, as JSON").add_argument("id")
    stats = verb("stats", _stats, "print running shims' counters and clients, as JSON")
    stats.add_argument("ids", metavar="id", nargs="*",
        help="one: its report; several, or none for all: a map of id to report, which is null"
        " where no shim answers")  # fmt: skip


def _ls(wish: argparse.Namespace) -> int:
    rows = listing.rows(wish.root)
    print(json.dumps(rows, indent=2) if wish.json else "\n".join(listing.table(rows)))
    return 0


def _inspect(wish: argparse.Namespace) -> int:
    place = Place.find(wish.id, wish.root)
    found: dict[str, object] = {
        "state": place.state(),
        "exit": place.exit_record(),
        "execs": place.executions(),
    }
    trouble = place.trouble()
    if trouble is not None:
        found["trouble"] = trouble | {"last_words": place.last_words()}
    report = _report(place) if trouble is None else _soon_reported(place)
    if report is not None:
        found["shim"] = report
    print(json.dumps(found, indent=2))
    return 0


def _report(place: Place) -> object:
    """Return what the shim reports; None when it does not."""
    with contextlib.suppress(AttachdError, TimeoutError):
        with control(place, "viewer") as client:
            return client.status(ANSWER_SECONDS)
    return None


def _soon_reported(place: Place) -> object:
    """Return what a shim in trouble reports, which may be without a server for long."""
    from attachd_clients.reports import reports  # that needs Trio

    return reports([place], TROUBLED_SECONDS, "attachctl")[place.id]


def _stats(wish: argparse.Namespace) -> int:
    if len(wish.ids) == 1:
        with control(Place.find(wish.ids[0], wish.root), "viewer") as client:
            print(json.dumps(client.status(ANSWER_SECONDS), indent=2))
        return 0
    from attachd_clients.reports import places, reports  # all at once: that needs Trio

    found = reports(places(wish.ids, wish.root), ANSWER_SECONDS, "attachctl")
    print(json.dumps(found, indent=2))
    return 0
