"""``attachctl metrics``: what shims count, for Prometheus and its like."""

import argparse
import sys

from attachd.errors import UsageError
from attachd_clients.reports import places, reports
from attachd_clients.verbs import Add

#: A shim answers in milliseconds; a scraper gives up after 10 seconds by default.
PATIENCE_SECONDS = 5.0


def add(verb: Add) -> None:
    """Add this verb."""
    metrics = verb("metrics", _metrics, "print running shims' counters as OpenMetrics text")
    metrics.add_argument("--timeout", metavar="SECONDS", type=float, default=PATIENCE_SECONDS,
        help="a shim that has not answered by then is down (%(default)g)")  # fmt: skip
    metrics.add_argument("ids", metavar="id", nargs="*", help="without one: of all containers")


def _metrics(wish: argparse.Namespace) -> int:
    from attachd_clients.metrics import (
        NAME,
        Container,
        exposition,
    )  # a third of a verb's start

    if not 0 < wish.timeout < float("inf"):
        raise UsageError(f"--timeout {wish.timeout:g} is not a positive number of seconds")
    asked = places(wish.ids, wish.root)
    found = reports(asked, wish.timeout, NAME)
    text = exposition(
        Container(place.id, found[place.id], place.exit_record() is not None)
        for place in asked
    )
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()
    return 0
