"""``attachctl upgrade``: running containers go on under this version of attachd."""

import argparse
import sys

from attachd import __version__
from attachd.errors import AttachdError, UsageError
from attachd_clients.arguments import FAILED
from attachd_clients.places import Place
from attachd_clients.upgrade import running, upgrade
from attachd_clients.verbs import Add


def add(verb: Add) -> None:
    """Add the verb."""
    made = verb("upgrade", _upgrade, "have running containers' shims go on with this code")
    made.add_argument("--all", action="store_true", help="all that have not ended")
    made.add_argument("ids", nargs="*", metavar="id")


def _upgrade(wish: argparse.Namespace) -> int:
    if bool(wish.ids) == wish.all:
        raise UsageError("name containers, or say --all, and not both")
    places = running(wish.root) if wish.all else [Place.find(i, wish.root) for i in wish.ids]
    code = 0
    for place in places:
        try:
            report = upgrade(place)
        except (AttachdError, TimeoutError) as error:
            print(f"attachctl: {error}", file=sys.stderr)
            code = FAILED
        else:
            where = f"version {__version__}, server {report.get('server_pid')}"
            print(f"{place.id}: {where}", flush=True)
    return code
