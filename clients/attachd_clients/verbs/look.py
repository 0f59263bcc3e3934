"""``attachctl ls``, ``inspect``, ``stats``: what there is."""

import argparse
import contextlib
import json

from attachd.errors import AttachdError
from attachd_clients import listing
from attachd_clients.places import Place
from attachd_clients.verbs import ANSWER_SECONDS, Add, control


def add(verb: Add) -> None:
    """Add these verbs."""
    verb("ls", _ls, "list containers").add_argument("--json", action="store_true")
    verb("inspect", _inspect, "print all that is known, as JSON").add_argument("id")
    verb("stats", _stats, "print a running shim's counters and clients, as JSON").add_argument(
        "id"
    )


def _ls(wish: argparse.Namespace) -> int:
    rows = listing.rows(wish.root)
    print(json.dumps(rows, indent=2) if wish.json else "\n".join(listing.table(rows)))
    return 0


def _inspect(wish: argparse.Namespace) -> int:
    place = Place.find(wish.id, wish.root)
    found: dict[str, object] = {"state": place.state(), "exit": place.exit_record()}
    with contextlib.suppress(AttachdError, TimeoutError):
        with control(place) as client:
            found["shim"] = client.status(ANSWER_SECONDS)
    print(json.dumps(found, indent=2))
    return 0


def _stats(wish: argparse.Namespace) -> int:
    with control(Place.find(wish.id, wish.root)) as client:
        print(json.dumps(client.status(ANSWER_SECONDS), indent=2))
    return 0
