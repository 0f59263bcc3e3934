"""Shims' reports as OpenMetrics text, for Prometheus and its like.

What a report does not tell (shims of other versions) has no sample; nothing here fails for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from attachd.wire.messages import Record, plain

#: What asks for reports is a client, too: another one each time, which nobody wants to count.
NAME = "attachctl metrics"

#: ``lost`` is what has neither ended nor a shim that answers.
PHASES = ("created", "running", "stopped", "lost")


#: Maps with numbers, by the values of their labels.
Rows = dict[tuple[str, ...], Record]


class Container(NamedTuple):
    """One container: what its shim reports (None: no answer), and whether it has ended."""

    id: str
    report: Record | None
    ended: bool


class Family(NamedTuple):
    """One metric; its samples' values stand under ``key`` of some map. Sizes are bytes."""

    name: str
    about: str
    key: str
    counts: bool = False  #: it only grows: a counter, whose samples end in _total


_SHIM = (
    Family("attachd_output_offset", "Offset after the newest byte of output.", "newest"),
    Family("attachd_ring_bytes", "Output that is held for clients now.", "held"),
    Family("attachd_ring_size_bytes", "How much output is held at most.", "ring_size"),
    Family("attachd_restarts", "How often the server was started again.", "restarts", True),
    Family("attachd_clients", "Clients that are connected.", "connected"),
    Family("attachd_clients_served", "Clients that have ever come.", "served", True),
    Family("attachd_gaps", "Gaps told to clients, also to those that left.", "gaps", True),
    Family("attachd_missed_bytes", "Output in these gaps.", "missed", True),
    Family(
        "attachd_stdin_accepted_bytes", "Stdin taken from clients.", "stdin accepted", True
    ),
    Family("attachd_stdin_delivered_bytes", "Stdin given on.", "stdin delivered", True),
    Family("attachd_stdin_queued_bytes", "Stdin not accepted yet.", "stdin queued"),
)
_STREAM = (Family("attachd_output_bytes", "Output of the container.", "bytes", True),)
_LOG = (
    Family("attachd_log_bytes", "Output that the log has taken.", "offset", True),
    Family("attachd_log_dropped_bytes", "Output that could not be logged.", "dropped", True),
)
_CLIENT = (
    Family("attachd_client_sent_bytes", "Output sent to the client.", "sent", True),
    Family("attachd_client_lag_bytes", "Output it has not been sent yet.", "lag"),
    Family("attachd_client_gaps", "Gaps that it was told.", "gaps", True),
    Family("attachd_client_missed_bytes", "Output in these gaps.", "missed", True),
    Family("attachd_client_credit_bytes", "Output that it has room for.", "credit"),
)


def exposition(containers: Iterable[Container]) -> bytes:
    """Return the whole text, in UTF-8, up to ``# EOF``."""
    registry = CollectorRegistry()
    registry.register(Collector(list(containers)))
    return bytes(generate_latest(registry))  # type: ignore[no-untyped-call]


class Collector:
    """A collector, as prometheus_client calls what gives it metrics."""

    def __init__(self, containers: list[Container]) -> None:
        self._containers = containers
        self._reports = {c.id: c.report for c in containers if c.report is not None}

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._phases()
        yield from _families(_SHIM, ("id",), self._shims())
        yield from _families(_STREAM, ("id", "stream"), self._streams())
        yield from _families(_LOG, ("id", "log", "format"), self._logs())
        yield from _families(_CLIENT, ("id", "client", "name", "role"), self._clients())

    def _phases(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("attachd_up", "1 when the shim answers.", labels=["id"])
        phase = GaugeMetricFamily(
            "attachd_phase",
            "1 for the phase that the container is in; lost: not ended, and no shim answers.",
            labels=["id", "phase"],
        )
        for container in self._containers:
            up.add_metric([plain(container.id)], float(container.report is not None))
            current = _phase(container)
            for name in dict.fromkeys((*PHASES, current)):
                phase.add_metric([plain(container.id), plain(name)], float(name == current))
        yield from (up, phase)

    def _shims(self) -> Rows:
        return {(name,): _numbers(report) for name, report in self._reports.items()}

    def _streams(self) -> Rows:
        return {
            (name, str(stream)): {"bytes": count}
            for name, report in self._reports.items()
            for stream, count in _map(report, "bytes").items()
        }

    def _logs(self) -> Rows:
        return {
            (name, str(log.get("path", number)), str(log.get("format", ""))): log
            for name, report in self._reports.items()
            for number, log in enumerate(_maps(report, "logs"))
        }

    def _clients(self) -> Rows:
        return {
            (
                name,
                str(client.get("number", place)),
                str(client.get("name", "")),
                str(client.get("role", "")),
            ): client
            for name, report in self._reports.items()
            for place, client in enumerate(_clients(report))
        }


def _phase(container: Container) -> str:
    if container.report is not None:
        return str(container.report.get("phase", ""))
    return "stopped" if container.ended else "lost"


def _families(
    families: Iterable[Family], labels: tuple[str, ...], rows: Rows
) -> Iterator[Metric]:
    """Yield each family with a sample for each row that has a number for it; none is negative."""
    for family in families:
        kind = CounterMetricFamily if family.counts else GaugeMetricFamily
        metric = kind(family.name, family.about, labels=labels)
        for values, row in rows.items():
            number = row.get(family.key)
            if isinstance(number, int | float) and number >= 0:
                metric.add_metric([plain(value) for value in values], number)
        yield metric


def _numbers(report: Record) -> Record:
    """Return all numbers on a shim as a whole in one map."""
    numbers = dict(report)
    numbers |= {f"stdin {key}": value for key, value in _map(report, "stdin").items()}
    oldest, newest = report.get("oldest"), report.get("newest")
    if isinstance(oldest, int) and isinstance(newest, int):
        numbers["held"] = newest - oldest
    if "clients" in report:
        numbers["connected"] = _count_clients(report)
    return numbers


def _count_clients(report: Record) -> int:
    """Return how many there are but for us; of very many the report lists only some."""
    listed, others = len(_maps(report, "clients")), len(_clients(report))
    connected = report.get("connected")
    left_out = connected - listed if isinstance(connected, int) else 0
    return others + left_out - (1 if left_out > 0 and others == listed else 0)


def _clients(report: Record) -> list[Record]:
    return [client for client in _maps(report, "clients") if client.get("name") != NAME]


def _map(report: Record, key: str) -> Record:
    found = report.get(key)
    return found if isinstance(found, Mapping) else {}


def _maps(report: Record, key: str) -> list[Record]:
    found = report.get(key)
    entries = found if isinstance(found, list | tuple) else []
    return [entry for entry in entries if isinstance(entry, Mapping)]
