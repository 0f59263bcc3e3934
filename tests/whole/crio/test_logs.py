"""The kubelet's log: renamed by it, reopened by CRI-O, cut by ``log_size_max``."""

import itertools
import os
from pathlib import Path

import pytest
from crio import Container, Crio, records, text_of, with_both
from harness import wait_for

LINES = 3000

#: Counts, and waits now and then until somebody lets it go on.
COUNT = """
n=0
while [ $n -lt {lines} ]; do
    n=$((n + 1))
    echo line $n
    while [ $((n % 500)) = 0 ] && [ ! -e /go$n ]; do sleep 0.02; done
done
"""


def expected(lines: int = LINES) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(1, lines + 1))


def go(container: Container, number: int) -> None:
    (container.bundle / f"rootfs/go{number}").touch()


def wait_for_line(log: Path, number: int) -> None:
    wait_for(lambda: log.exists() and b" F line %d\n" % number in log.read_bytes())


@with_both()
def test_renamed_and_reopened(crio: Crio) -> None:
    """As the kubelet does it, again and again: no line is lost, and none is there twice."""
    container = crio.run("sh", "-c", COUNT.format(lines=LINES))
    logs = []
    for number in range(500, LINES, 500):
        wait_for_line(container.log, number)
        logs.append(container.rotate_log(number // 500))
        assert container.log.exists()
        go(container, number)
    go(container, LINES)

    assert container.exit_code() == 0
    assert text_of(*logs, container.log) == expected()
    assert all(text_of(log) for log in logs)


@with_both()
def test_renamed_while_it_writes(crio: Crio) -> None:
    """The same in the middle of the output."""
    count = "seq 200000 | sed 's/^/line /'; while [ ! -e /go1 ]; do sleep 0.02; done"
    container = crio.run("sh", "-c", count)
    wait_for(lambda: container.log.stat().st_size > 100000)
    rotated = container.rotate_log(1)
    go(container, 1)

    assert container.exit_code() == 0
    assert text_of(rotated, container.log) == expected(200000)


@with_both()
def test_a_silent_container_is_reopened(crio: Crio) -> None:
    """CRI-O waits for the file to appear, and the container says nothing."""
    container = crio.run("sh", "-c", "echo up; sleep 1000")
    wait_for(lambda: records(container.log))
    rotated = container.rotate_log(1)

    assert text_of(rotated) == b"up\n"
    assert container.log.read_bytes() == b""


def test_asked_too_late(crio: Crio) -> None:
    """Output has come between renaming and asking: CRI-O sees the file change all the same."""
    container = crio.run("sh", "-c", COUNT.format(lines=1000))
    wait_for_line(container.log, 500)
    rotated = container.log.with_name("0.log.20240101-000000")
    container.log.rename(rotated)
    go(container, 500)
    wait_for_line(container.log, 1000)
    container.reopen_log()

    assert text_of(rotated, container.log) == expected(1000)


def test_reopened_without_being_renamed(crio: Crio) -> None:
    """What is in the file stays; conmon empties it."""
    container = crio.run("sh", "-c", "echo up; sleep 1000")
    wait_for(lambda: records(container.log))
    container.reopen_log()

    assert text_of(container.log) == b"up\n"


def test_maximum_of_size(crio: Crio) -> None:
    """``log_size_max``: each file ends at a line below it, and no line is lost."""
    container = crio.run("sh", "-c", "seq 2000 | sed 's/^/line /'", log_size_max=8192)

    assert container.exit_code() == 0
    logs = sorted(container.log.parent.glob("0.log.*"))
    assert len(logs) > 5
    assert all(log.stat().st_size <= 8192 for log in (*logs, container.log))
    assert text_of(*logs, container.log) == expected(2000)


def test_maximum_of_files(crio: Crio) -> None:
    """ATTACHD_LOG_MAX_FILES in ``monitor_env``: the last ones stay."""
    crio.monitor_env.append("ATTACHD_LOG_MAX_FILES=2")
    container = crio.run("sh", "-c", "seq 2000 | sed 's/^/line /'", log_size_max=8192)

    assert container.exit_code() == 0
    logs = sorted(container.log.parent.glob("0.log.*"))
    assert 1 <= len(logs) <= 2
    assert expected(2000).endswith(text_of(*logs, container.log))


@pytest.mark.parametrize("told", ["five", "-1", "2 ", "9" * 5000])
def test_a_limit_that_is_no_number_is_refused(crio: Crio, told: str) -> None:
    """One line says what is wrong with it: keeping everything would fill the disk unnoticed."""
    crio.monitor_env.append(f"ATTACHD_LOG_MAX_FILES={told}")
    with pytest.raises(
        RuntimeError, match=r"ATTACHD_LOG_MAX_FILES is .*how many rotated files"
    ):
        crio.create("true")


@with_both()
def test_the_file_of_before_is_continued(crio: Crio) -> None:
    """What is in the file when the container is made stays there."""
    more = ("-l", str(crio.logs / "old.log"))
    (crio.logs / "old.log").write_bytes(b"2024-01-01T00:00:00.000000000+00:00 stdout F old\n")
    container = crio.run("echo", "new", more=more)

    assert container.exit_code() == 0
    assert text_of(crio.logs / "old.log") == b"old\nnew\n"


@with_both()
def test_long_lines(crio: Crio) -> None:
    """Pieces of a line are marked; together they are the line."""
    container = crio.run("sh", "-c", "head -c 100000 /dev/zero | tr '\\000' x; echo; echo end")

    assert container.exit_code() == 0
    tags = [tag for _, tag, _ in records(container.log)]
    assert [tag for tag, _ in itertools.groupby(tags)] == [b"P", b"F"]
    assert text_of(container.log) == b"x" * 100000 + b"\nend\n"
    assert os.stat(container.log).st_mode & 0o077 in (0, 0o040)
