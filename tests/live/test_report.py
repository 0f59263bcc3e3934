"""The report: whatever clients and execs there are, the answer to ``status`` fits into a frame."""

from types import SimpleNamespace

from attachd.live.report import MAX_TOLD, report_on_clients, report_that_fits
from attachd.wire.frames import MAX_FRAME
from attachd.wire.messages import encode


def crowd(count: int) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(number=n, counters={"number": n, "name": "x" * 500})
        for n in range(count, 0, -1)
    ]


def test_of_very_many_clients_the_oldest_are_told() -> None:
    """Those that were there before the flood."""
    told = report_that_fits(
        7, lambda most: {"clients": report_on_clients(crowd(10_000), most)}
    )
    numbers = [client["number"] for client in told.report["clients"]]

    assert told.id == 7
    assert numbers == list(range(1, MAX_TOLD + 1))
    assert len(encode(told)) < MAX_FRAME


def test_of_clients_of_very_many_execs_fewer_are_told() -> None:
    """But all execs."""
    make = lambda most: {"execs": [{"clients": report_on_clients(crowd(9), most)}] * 1000}  # noqa: E731
    told = report_that_fits(1, make)

    assert {len(one["clients"]) for one in told.report["execs"]} == {1}
    assert len(told.report["execs"]) == 1000
    assert len(encode(told)) < MAX_FRAME


def test_of_very_many_large_execs_the_first_are_told() -> None:
    """And everything else."""
    told = report_that_fits(1, lambda _: {"id": "x", "execs": [{"argv": ["x" * 2000]}] * 1000})

    assert told.report["id"] == "x"
    assert 0 < len(told.report["execs"]) < 1000
    assert len(encode(told)) < MAX_FRAME
