"""Output in systemd's journal: the test is journald, everything else is real."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from harness import wait_for
from journald import Journald

pytestmark = pytest.mark.runc


class Listening(Journald):
    """A journald with a thread that receives, unless it is told not to."""

    def __init__(self, path) -> None:
        super().__init__(path, listens=False)
        self._over = threading.Event()
        self.receives = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def listen(self) -> None:
        super().listen()
        self.receives.set()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self.close()

    def _run(self) -> None:
        while not self._over.wait(0.001):
            if self.receives.is_set():
                self.receive()


@pytest.fixture
def journald(shop) -> Iterator[Listening]:
    """Not listening yet."""
    made = Listening(shop.scratch / "journal.socket")
    yield made
    made.end()


def journal(journald: Journald, *options: object) -> tuple[object, ...]:
    return ("--log", f"journald:{journald.path}", *options)


def test_lines_names_and_labels_arrive(shop, journald) -> None:
    """With the fields that ``journalctl`` and ``podman logs`` look for."""
    journald.listen()
    options = journal(
        journald, "--log-tag", "web/1", "--log-name", "web", "--log-label", "A=b",
        "--log-label", "C=", "--log-no-partial"
    )  # fmt: skip
    box = shop.run("sh", "-c", "echo out; echo '<4>err' >&2; printf open", options=options)
    shop.ended(box)
    wait_for(lambda: len(journald.entries) == 3)

    same = {
        "CONTAINER_ID_FULL": box.encode(),
        "CONTAINER_ID": box[:12].encode(),
        "CONTAINER_TAG": b"web/1",
        "CONTAINER_NAME": b"web",
        "SYSLOG_IDENTIFIER": b"web/1",
        "A": b"b",
        "C": b"",
    }
    told = sorted(journald.entries, key=lambda entry: entry["PRIORITY"])
    assert told == [
        same | {"MESSAGE": b"err\n", "PRIORITY": b"4"},
        same | {"MESSAGE": b"out\n", "PRIORITY": b"6"},
        same | {"MESSAGE": b"open", "PRIORITY": b"6"},
    ]


def test_nothing_is_lost_when_servers_are_killed_and_an_entry_is_there_at_most_twice(
    shop, journald
) -> None:
    """Each death may have come between an entry and its note; the order stays."""
    journald.listen()
    count = 6000
    script = f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); done"
    box = shop.create("sh", "-c", script, options=journal(journald))
    shop.call("attachd", "start", box)
    kills = 0
    while not shop.path(box, "exit.json").exists() and kills < 4:
        seen = len(journald.entries)
        wait_for(lambda seen=seen: len(journald.entries) > seen or _ended(shop, box))
        server = shop.server(box)
        if server and not _ended(shop, box):
            os.kill(server, signal.SIGKILL)
            kills += 1
    record = shop.ended(box)
    wait_for(lambda: journald.entries[-1]["MESSAGE"] == b"line %d\n" % (count - 1))

    said = [entry["MESSAGE"] for entry in journald.entries]
    once = [text for text, before in zip(said, [b"", *said], strict=False) if text != before]
    assert once == [b"line %d\n" % number for number in range(count)]
    assert len(said) - len(once) <= kills
    assert record["log_dropped"] == 0


def _ended(shop, box: str) -> bool:
    return shop.path(box, "exit.json").exists()


def test_a_journal_that_comes_late_is_found(shop, journald) -> None:
    """What was said before is there, too; until then the stats tell why it is not."""
    options = journal(journald, "-i", "--linger", "60")
    box = shop.run("sh", "-c", "while read x; do echo said $x; done", options=options)
    shop.ctl("send", box, "one")
    wait_for(lambda: any(log["error"] for log in shop.reported(box).get("logs", [])))
    journald.listen()
    wait_for(lambda: [entry["MESSAGE"] for entry in journald.entries] == [b"said one\n"])
    wait_for(lambda: not any(log["error"] for log in shop.reported(box)["logs"]))
    shop.ctl("rotate", box)
    shop.ctl("reopen", box)
    shop.ctl("send", "--eof", box, "two")
    shop.ended(box)

    assert [entry["MESSAGE"] for entry in journald.entries] == [b"said one\n", b"said two\n"]


def test_a_journal_that_takes_nothing_stops_no_container(shop, journald) -> None:
    """Its output is counted instead: 8 MB through a ring of 64 KiB."""
    journald.listen()
    journald.receives.clear()
    options = journal(journald, "--ring-size", "65536")
    box = shop.run("sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' '\\n'", options=options)
    record = shop.ended(box)

    assert record["exit_code"] == 0
    assert record["bytes"]["stdout"] == 8_000_000
    assert record["log_dropped"] > 7_000_000


def test_block_waits_for_it(shop, journald) -> None:
    """--on-log-error block: the container has not ended before the journal has all."""
    journald.listen()
    journald.receives.clear()
    options = journal(journald, "--ring-size", "65536", "--on-log-error", "block")
    script = "head -c 1500000 /dev/zero | tr '\\0' x | fold -w 1000; echo; echo end"
    box = shop.run("sh", "-c", script, options=options)
    wait_for(lambda: shop.reported(box).get("logs", [{}])[0].get("error"))
    assert not _ended(shop, box)
    journald.receives.set()
    record = shop.ended(box)
    wait_for(lambda: journald.entries[-1]["MESSAGE"] == b"end\n")

    assert record["log_dropped"] == 0
    assert len(journald.streams()[b"6"]) == record["bytes"]["stdout"]


def test_logs_says_where_they_are(shop, journald) -> None:
    """Of a container whose shim is gone nobody but the journal knows what it said."""
    journald.listen()
    box = shop.run("echo", "hello", options=journal(journald, "--linger", "0"))
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    done = shop.call("attachctl", "logs", box, check=False)

    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    assert f"journalctl CONTAINER_ID_FULL={box}" in done.stderr.decode()


@pytest.mark.parametrize("also", [False, True], ids=["alone", "with a file"])
def test_recover_goes_on_in_the_journal(shop, journald, also) -> None:
    """What was sent is not sent again, and what is said now is."""
    journald.listen()
    more = ("--log", f"cri:{shop.scratch}/c.log") if also else ()
    options = journal(journald, *more, "-i", "--stdin-eof", "never")
    box = shop.run("sh", "-c", "while read x; do echo said $x; done", options=options)
    shop.ctl("send", box, "one")
    wait_for(lambda: len(journald.entries) == 1)
    shop.kill_shim(box)
    shop.call("attachd", "recover", box)
    shop.ctl("send", box, "two")
    wait_for(lambda: len(journald.entries) == 2)

    assert [entry["MESSAGE"] for entry in journald.entries] == [b"said one\n", b"said two\n"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--log", "journald", "--log-label", "a=b"), "only uppercase letters"),
        (("--log", "journald", "--log-label", "A"), "LABEL=VALUE"),
        (("--log-tag", "x"), "are for --log journald"),
        (("--log", "none", "--log-no-partial"), "are for --log journald"),
    ],
)
def test_options_that_mean_nothing_are_refused(shop, options, message) -> None:
    """In one line, with nothing left behind."""
    box = shop.name()
    done = shop.call("attachd", "run", *options, box, "--", "true", check=False)

    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr.decode()
    assert not shop.path(box).exists()
