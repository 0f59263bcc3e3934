"""``attachctl metrics`` and ``stats``: what shims count, of many containers at once."""

import contextlib
import json
import os
import signal
import time

import pytest
from attachd_clients import Place, attach_blocking
from harness import PATIENCE, wait_for
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from attachd.wire import messages as say

pytestmark = pytest.mark.runc

SPEAKS = "echo out; echo err!! >&2; exec sleep 1000"


def metrics(shop, *words: object) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Return the values by name and labels."""
    text = shop.ctl("metrics", *words).decode()
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**words: str) -> frozenset[tuple[str, str]]:
    return frozenset(words.items())


def stats(shop, *words: object) -> dict:
    return json.loads(shop.ctl("stats", *words))


@contextlib.contextmanager
def hung(shop, box: str):
    """While it lasts, the server is there and does not answer."""
    server = wait_for(lambda: shop.server(box))  # 0 would be ourselves
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


def test_metrics_are_what_stats_tells(shop) -> None:
    """Of every container under the root, or of those that are named."""
    first = shop.run("sh", "-c", SPEAKS, options=("-i",))
    second = shop.create("true")
    shop.ctl("send", first, "four")
    wait_for(lambda: stats(shop, first)["logs"][0]["offset"] == 10)
    with attach_blocking(first, root=str(shop.root), since="start", name='"\\ \n') as client:
        assert {type(client.receive(PATIENCE)) for _ in range(2)} == {say.Output}
        found = metrics(shop)
        report = stats(shop, first)
    (told,) = [c for c in report["clients"] if c["name"] == '"\\ ?']
    one = labels(id=first)
    number = {"client": str(told["number"]), "name": '"\\ ?', "role": "full"}

    assert found["attachd_up"] == {one: 1, labels(id=second): 1}
    assert found["attachd_phase"][labels(id=first, phase="running")] == 1
    assert found["attachd_phase"][labels(id=second, phase="created")] == 1
    assert found["attachd_output_bytes_total"][labels(id=first, stream="stderr")] == 6
    assert found["attachd_output_offset"][one] == report["newest"] == 10
    assert found["attachd_stdin_accepted_bytes_total"][one] == 5
    assert found["attachd_stdin_delivered_bytes_total"][one] == 5
    assert found["attachd_client_sent_bytes_total"] == {labels(id=first, **number): 10}
    assert found["attachd_clients"] == {one: 1, labels(id=second): 0}
    log = report["logs"][0]
    path = labels(id=first, log=log["path"], format="cri")
    assert found["attachd_log_bytes_total"][path] == 10
    assert found["attachd_log_dropped_bytes_total"][path] == 0
    assert set(metrics(shop, second)["attachd_up"]) == {labels(id=second)}


def test_what_clients_have_missed_is_counted_when_they_have_left_and_after_a_death(
    shop,
) -> None:
    """In the report, and so in the metrics."""
    script = "read x; head -c 3000000 /dev/zero; echo over >&2; exec sleep 1000"
    options = ("-i", "--ring-size", 1 << 20, "--log", "none")  # or the log would have it
    box = shop.run("sh", "-c", script, options=options)
    with attach_blocking(box, root=str(shop.root), since="start", window=0) as client:
        before = stats(shop, box)
        assert (before["gaps"], before["missed"]) == (0, 0)
        shop.ctl("send", box, "go")
        wait_for(lambda: stats(shop, box)["bytes"]["stderr"] == 5)
        client._conversation._say(say.Credit(bytes=1 << 30))
        gap = client.receive(PATIENCE)
    assert isinstance(gap, say.Gap)
    after = stats(shop, box)
    assert (after["gaps"], after["missed"]) == (1, gap.end - gap.start)
    assert after["served"] > before["served"] >= 2

    server = wait_for(lambda: shop.server(box))
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: shop.server(box) not in (0, server))
    found = metrics(shop, box)
    assert found["attachd_restarts_total"] == {labels(id=box): 1}
    assert found["attachd_gaps_total"] == {labels(id=box): 1}
    assert found["attachd_missed_bytes_total"] == {labels(id=box): after["missed"]}
    assert found["attachd_clients_served_total"][labels(id=box)] > after["served"]


def test_a_shim_that_hangs_is_down_and_delays_nobody_elses_metrics(shop) -> None:
    """Even when so many wait for it that it takes no more connections."""
    stuck, works = shop.run("sleep", "1000"), shop.run("sleep", "1000")
    with hung(shop, stuck), contextlib.ExitStack() as waiting:
        place = Place.find(stuck, str(shop.root))
        found = metrics(shop, "--timeout", "0.5")
        assert found["attachd_up"] == {labels(id=stuck): 0, labels(id=works): 1}
        assert found["attachd_phase"][labels(id=stuck, phase="lost")] == 1
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.enter_context(place.connect(blocking=False))
        begun = time.monotonic()
        found = metrics(shop, "--timeout", "0.5")
        assert found["attachd_up"] == {labels(id=stuck): 0, labels(id=works): 1}
        assert time.monotonic() - begun < 20
        rows = {row["id"]: row["phase"] for row in json.loads(shop.ctl("ls", "--json"))}
        assert rows == {stuck: "running", works: "running"}
    wait_for(lambda: metrics(shop)["attachd_up"][labels(id=stuck)] == 1)


def test_what_has_ended_or_is_lost_is_down(shop) -> None:
    """And a directory that is no container is none."""
    ended = shop.run("true", options=("--linger", "0"))
    lost = shop.run("sleep", "1000")
    shop.ended(ended)
    wait_for(lambda: not shop.server(ended))
    shop.kill_shim(lost)
    (shop.root / "no container").mkdir()
    found = metrics(shop)

    assert found["attachd_up"] == {labels(id=ended): 0, labels(id=lost): 0}
    assert found["attachd_phase"][labels(id=ended, phase="stopped")] == 1
    assert found["attachd_phase"][labels(id=lost, phase="lost")] == 1
    assert stats(shop) == {ended: None, lost: None}


def test_of_an_empty_root_there_is_nothing(shop) -> None:
    """Not even a root."""
    assert metrics(shop) == {}
    assert stats(shop) == {}


def test_stats_of_one_of_several_and_of_all(shop) -> None:
    """One is a report, as ever; several are a map."""
    boxes = [shop.run("sleep", "1000") for _ in range(2)]
    assert stats(shop, boxes[0])["id"] == boxes[0]
    for words in ((), boxes, [*boxes, boxes[0]]):
        assert {box: told["id"] for box, told in stats(shop, *words).items()} == {
            box: box for box in boxes
        }


def test_bad_words_are_one_line(shop) -> None:
    """Also when only one of several is not there."""
    box = shop.run("sleep", "1000")
    for words in (
        ("metrics", "nope"), ("metrics", box, "nope"), ("stats", box, "nope"),
        ("stats", "nope"), ("metrics", "--timeout", "0"), ("metrics", "--timeout", "x"),
    ):  # fmt: skip
        done = shop.call("attachctl", *words, check=False)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1)


def test_a_report_tells_how_a_terminal_takes_input(shop) -> None:
    """As the program has set it."""
    script = "read x; stty -echo; read x; stty raw echo; read x"
    box = shop.run("sh", "-c", script, options=("-it", "-d"))

    def manners() -> tuple[bool, bool]:
        terminal = stats(shop, box)["terminal"]
        return terminal["canonical"], terminal["echo"]

    assert manners() == (True, True)
    shop.ctl("send", box, "x")
    wait_for(lambda: manners() == (True, False))
    shop.ctl("send", box, "x")
    wait_for(lambda: manners() == (False, True))
