"""Reports as OpenMetrics text, read back by the library's own parser."""

import pytest
from attachd_clients.metrics import NAME, Container, exposition
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families

CLIENT = {
    "number": 7, "name": "bob", "role": "full", "sent": 10, "lag": 2, "gaps": 1, "missed": 3,
    "credit": 99,
}  # fmt: skip
LOG = {"path": "/log", "format": "cri", "offset": 8, "dropped": 1}
REPORT = {
    "id": "web",
    "phase": "running",
    "restarts": 3,
    "oldest": 4,
    "newest": 12,
    "ring_size": 4096,
    "bytes": {"stdout": 9, "stderr": 3},
    "logs": [LOG, LOG | {"path": "/other", "format": "raw"}],
    "stdin": {"state": "open", "accepted": 6, "delivered": 5, "queued": 1},
    "served": 8,
    "gaps": 2,
    "missed": 30,
    "clients": [CLIENT, CLIENT | {"number": 8, "name": NAME}],
}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(*containers: Container) -> Samples:
    """Return each sample by its name and labels; the parser refuses what is no OpenMetrics."""
    text = exposition(containers).decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    found = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(found) == len(samples)
    return found


def value(found: Samples, metric: str, /, **labels: str) -> float:
    return found[metric, frozenset(labels.items())]


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("attachd_up", {}, 1),
        ("attachd_output_offset", {}, 12),
        ("attachd_ring_bytes", {}, 8),
        ("attachd_ring_size_bytes", {}, 4096),
        ("attachd_output_bytes_total", {"stream": "stdout"}, 9),
        ("attachd_output_bytes_total", {"stream": "stderr"}, 3),
        ("attachd_restarts_total", {}, 3),
        ("attachd_clients", {}, 1),
        ("attachd_clients_served_total", {}, 8),
        ("attachd_gaps_total", {}, 2),
        ("attachd_missed_bytes_total", {}, 30),
        ("attachd_stdin_accepted_bytes_total", {}, 6),
        ("attachd_stdin_delivered_bytes_total", {}, 5),
        ("attachd_stdin_queued_bytes", {}, 1),
        ("attachd_log_bytes_total", {"log": "/log", "format": "cri"}, 8),
        ("attachd_log_dropped_bytes_total", {"log": "/other", "format": "raw"}, 1),
        (
            "attachd_client_sent_bytes_total",
            {"client": "7", "name": "bob", "role": "full"},
            10,
        ),
        ("attachd_client_lag_bytes", {"client": "7", "name": "bob", "role": "full"}, 2),
        ("attachd_client_gaps_total", {"client": "7", "name": "bob", "role": "full"}, 1),
        (
            "attachd_client_missed_bytes_total",
            {"client": "7", "name": "bob", "role": "full"},
            3,
        ),
        ("attachd_client_credit_bytes", {"client": "7", "name": "bob", "role": "full"}, 99),
        ("attachd_phase", {"phase": "running"}, 1),
        ("attachd_phase", {"phase": "stopped"}, 0),
        ("attachd_phase", {"phase": "lost"}, 0),
    ],
)
def test_each_number_is_where_its_name_says(name, labels, expected) -> None:
    """And whoever asks is not counted itself: it would be a new client each time."""
    found = parsed(Container("web", REPORT, ended=False))

    assert value(found, name, id="web", **labels) == expected
    assert not [labels for _, labels in found if ("client", "8") in labels]


@pytest.mark.parametrize("ended", [True, False])
def test_a_container_without_an_answer_is_down_and_nothing_else(ended) -> None:
    """It has ended, or it is lost."""
    found = parsed(Container("web", None, ended), Container("other", REPORT, ended=False))

    assert value(found, "attachd_up", id="web") == 0
    assert value(found, "attachd_up", id="other") == 1
    assert value(found, "attachd_phase", id="web", phase="stopped") == ended
    assert value(found, "attachd_phase", id="web", phase="lost") == (not ended)
    names = {name for name, labels in found if ("id", "web") in labels}
    assert names == {"attachd_up", "attachd_phase"}


def test_without_containers_there_are_no_samples() -> None:
    """And it is OpenMetrics all the same."""
    assert parsed() == {}


@pytest.mark.parametrize("key", [*REPORT, "what is new"])
def test_a_report_may_lack_anything(key) -> None:
    """A shim of another version is no failure, and all else is told."""
    report = {name: told for name, told in REPORT.items() if name != key} | {"new": [1]}
    found = parsed(Container("web", report, ended=False))

    assert value(found, "attachd_up", id="web") == 1
    assert (("attachd_output_offset", frozenset({("id", "web")})) in found) == (
        key != "newest"
    )


@pytest.mark.parametrize("odd", [None, "text", [], {}, [None, 3], {"a": {}}, -1, True])
def test_a_report_may_be_odd(odd) -> None:
    """Whatever stands where a number, a map or a list was expected."""
    parsed(Container("web", dict.fromkeys(REPORT, odd), ended=False))
    parsed(Container("web", REPORT | {"clients": [dict.fromkeys(CLIENT, odd)]}, ended=False))


def test_clients_of_an_older_shim_have_a_place_instead_of_a_number() -> None:
    """Two of one name are two."""
    old = {key: told for key, told in CLIENT.items() if key != "number"}
    found = parsed(Container("web", REPORT | {"clients": [old, old]}, ended=False))

    for place in ("0", "1"):
        labels = {"id": "web", "client": place, "name": "bob", "role": "full"}
        assert value(found, "attachd_client_sent_bytes_total", **labels) == 10


@given(st.text(), st.text(), st.text())
def test_labels_may_be_any_text(name, path, container) -> None:
    """Quotes, newlines, backslashes, and what a directory's name may have been."""
    report = REPORT | {
        "clients": [CLIENT | {"name": name}],
        "logs": [LOG | {"path": path}],
    }
    found = parsed(Container(container, report, ended=False))

    if name != NAME:
        labels = {"id": container, "client": "7", "name": name, "role": "full"}
        assert value(found, "attachd_client_sent_bytes_total", **labels) == 10
    labels = {"id": container, "log": path, "format": "cri"}
    assert value(found, "attachd_log_bytes_total", **labels) == 8


def test_a_name_that_is_no_unicode_is_shown_as_it_can_be() -> None:
    """A file system has names that are none."""
    found = parsed(Container("\udcff", REPORT, ended=False))

    assert value(found, "attachd_up", id="?") == 1


@pytest.mark.parametrize(("listed", "told", "count"), [
    ([CLIENT, CLIENT | {"name": NAME}], 2, 1),
    ([CLIENT] * 64, 1000, 999),  # we are the newest, and not listed
    ([CLIENT, CLIENT | {"name": NAME}], 1000, 999),
    ([CLIENT], None, 1),  # an older shim
])  # fmt: skip
def test_all_clients_are_counted_though_only_some_are_listed(listed, told, count) -> None:
    """But for us."""
    report = REPORT | {"clients": listed} | ({} if told is None else {"connected": told})
    text = exposition([Container("web", report, ended=False)]).decode()
    counts = [
        line.split()[-1] for line in text.splitlines() if line.startswith("attachd_clients{")
    ]
    assert [float(counted) for counted in counts] == [count]
