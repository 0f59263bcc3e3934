"""One call of the runtime: every way it can end, and its words, bounded."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import RuntimeFailed
from attachd.keeper import runtime
from attachd.keeper.runtime import WORDS_BYTES, Words, call, failure, last_error

ENVIRONMENT = {"PATH": os.environ["PATH"]}

#: No program of these tests takes as long; a limit that is reached is a failure.
LONG = 100.0


class Stage(NamedTuple):
    """What a call needs: a null device, and a pipe for its words."""

    null: int
    read: int
    write: int

    def sh(self, script: str, limit: float = LONG) -> tuple[int, str]:
        """Call a shell; return its status and what it said on stderr."""
        words = Words(self.read)
        stdio = (self.null, self.null, self.write)
        return call(["/bin/sh", "-c", script], ENVIRONMENT, stdio, words, limit), words.text


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A null device and a pipe whose read end does not block; we hold its write end, too."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(write, True)
    yield Stage(null, read, write)
    for fd in (null, read, write):
        os.close(fd)


# call


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_a_call_returns_the_programs_status(stage: Stage, status: int) -> None:
    """And its words, to the last byte."""
    assert stage.sh(f"echo said >&2; exit {status}") == (status, "said\n")


@pytest.mark.parametrize(("name", "status"), [("KILL", 137), ("TERM", 143), ("SEGV", 139)])
def test_a_signal_is_told_as_a_shell_does(stage: Stage, name: str, status: int) -> None:
    """128 and the signal's number."""
    assert stage.sh(f"ulimit -c 0; kill -{name} $$")[0] == status


def test_ten_megabytes_of_words_do_not_block_the_program(stage: Stage) -> None:
    """All are read, the beginning and the end are kept, and the gap is counted."""
    size = 10 * 1000 * 1000
    script = f"echo begin >&2; head -c {size} /dev/zero | tr '\\0' x >&2; echo end >&2"
    status, text = stage.sh(script)

    left_out = len("begin\n") + size + len("end\n") - 2 * WORDS_BYTES
    assert status == 0
    assert text.startswith("begin\nxxx")
    assert text.endswith("xxxend\n")
    assert f"\n[{left_out} bytes left out]\n" in text
    assert len(text) < 2 * WORDS_BYTES + 100


def test_a_program_that_closes_its_stderr_is_waited_for(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of its words is not the end of the program, and does not keep us busy."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    real_spawn, reads = runtime.spawn, []

    def spawn_and_let_go(*args: object) -> int:
        pid = real_spawn(*args)
        os.close(write)
        return pid

    class CountedWords(Words):
        def listen(self) -> bool:
            reads.append(1)
            return super().listen()

    monkeypatch.setattr(runtime, "spawn", spawn_and_let_go)
    script = "echo last words >&2; exec 2>&-; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    words = CountedWords(read)
    stdio = (stage.null, stage.null, write)
    status = call(["/bin/sh", "-c", f"{script}; exit 7"], ENVIRONMENT, stdio, words, LONG)
    os.close(read)

    assert (status, words.text) == (7, "last words\n")
    assert len(reads) < 10


def test_what_a_program_leaves_behind_is_not_waited_for(stage: Stage) -> None:
    """A descendant that keeps stderr open does not keep the call."""
    status, text = stage.sh("tail -f /dev/null >&2 & echo $! >&2; exit 3")
    os.kill(int(text), 9)

    assert status == 3


class Flood(Words):
    """Words without an end, as of a descendant that never stops talking."""

    def listen(self) -> bool:
        """Hear something each time; three gigabytes are too many."""
        self.heard = getattr(self, "heard", 0) + 1
        assert self.heard < 50_000, "the call reads for ever"
        return super().listen()


def test_what_a_program_leaves_behind_cannot_talk_for_ever(stage: Stage) -> None:
    """When the program has ended, a bounded amount is read and the call returns."""
    zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    try:
        words = Flood(zero)
        stdio = (stage.null, stage.null, stage.write)
        assert call(["/bin/sh", "-c", "exit 0"], ENVIRONMENT, stdio, words, LONG) == 0
    finally:
        os.close(zero)


@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_a_program_over_the_limit_is_killed_and_reaped(stage: Stage, limit: float) -> None:
    """The error names program and limit, and has what was heard until then."""
    os.write(stage.write, b"started\n")
    with pytest.raises(RuntimeFailed, match=f"^sh was not done after {limit:g} s") as caught:
        stage.sh("exec tail -f /dev/null", limit)

    assert (caught.value.verb, caught.value.status) == ("timeout", 137)
    assert caught.value.stderr == "started\n"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("program", ["/no/such/runtime", "/etc/passwd", "/tmp"])
def test_a_program_that_cannot_be_executed_is_a_failure(stage: Stage, program: str) -> None:
    """126, with the reason."""
    stdio = (stage.null, stage.null, stage.write)
    with pytest.raises(
        RuntimeFailed, match=f"cannot run {program}: .*(No such|denied)"
    ) as caught:
        call([program], ENVIRONMENT, stdio, Words(stage.read), LONG)

    assert (caught.value.verb, caught.value.status) == ("exec", 126)


def test_a_call_leaves_no_descriptor(stage: Stage) -> None:
    """Whether it ends well or badly."""
    before = os.listdir("/proc/self/fd")
    stage.sh("exit 0")
    with pytest.raises(RuntimeFailed):
        stage.sh("exec tail -f /dev/null", 0.0)

    assert os.listdir("/proc/self/fd") == before


# Words


@given(
    parts=st.lists(st.integers(1, 3 * WORDS_BYTES) | st.integers(1, 9), min_size=1, max_size=8)
)
def test_words_are_the_beginning_the_end_and_a_count(parts: list[int]) -> None:
    """However they come: nothing is lost below 32 KiB, and above it the loss is counted."""
    whole = "".join(chr(97 + i) * size for i, size in enumerate(parts))
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        words, sent = Words(read), 0
        for size in parts:
            os.write(write, whole[sent : sent + size].encode())
            sent += size
            assert words.listen()
    finally:
        os.close(read)
        os.close(write)

    left_out = len(whole) - 2 * WORDS_BYTES
    gap = f"\n[{left_out} bytes left out]\n"
    short = whole[:WORDS_BYTES] + gap + whole[-WORDS_BYTES:]
    assert words.text == (short if left_out > 0 else whole)


def test_listening_never_waits(stage: Stage) -> None:
    """With nothing to read, or nothing to come, it returns False at once."""
    words = Words(stage.read)
    assert not words.listen()

    os.write(stage.write, b"a")
    assert words.listen()
    assert not words.listen()
    assert words.text == "a"


def test_undecodable_words_are_shown_somehow(stage: Stage) -> None:
    """A report is text, whatever a program says."""
    os.write(stage.write, b"caf\xe9 \xff\0")
    words = Words(stage.read)
    words.listen()

    assert words.text == "caf\ufffd \ufffd\0"
    json.dumps(words.text).encode("ascii")


# What a failure says


def log(path: Path, *entries: object) -> str:
    """Write a runtime's log; texts are lines as they are."""
    lines = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def say(level: str, message: str) -> dict[str, str]:
    """Return an entry as runc writes it."""
    return {"level": level, "msg": message, "time": "2024-05-01T12:00:00Z"}


@pytest.mark.parametrize("level", ["error", "fatal", "panic"])
def test_the_last_error_in_the_log_is_the_reason(tmp_path: Path, level: str) -> None:
    """Later warnings and broken lines do not hide it."""
    path = log(
        tmp_path / "log", say("error", "first"), say(level, "last"),
        say("warning", "and so on"), "{broken", "[1]", "null", "",
    )  # fmt: skip

    assert last_error(path) == "last"


def test_the_last_error_is_found_in_a_long_log(tmp_path: Path) -> None:
    """A shim that has made many calls still tells the reason of the last one."""
    chatter = [say("info", "x" * 1000)] * 400
    path = log(tmp_path / "log", say("error", "long ago"), *chatter, say("error", "now"))

    assert last_error(path) == "now"


@pytest.mark.parametrize("text", ["", "not json\n", '{"level": "info", "msg": "fine"}\n'])
def test_a_log_without_an_error_tells_nothing(tmp_path: Path, text: str) -> None:
    """An empty text, never an exception."""
    (tmp_path / "log").write_text(text)

    assert last_error(str(tmp_path / "log")) == ""


def test_a_missing_log_tells_nothing(tmp_path: Path) -> None:
    """A runtime that could not even begin has none."""
    assert last_error(str(tmp_path / "log")) == ""
    assert last_error(str(tmp_path)) == ""


def test_a_failure_quotes_the_log_first(tmp_path: Path) -> None:
    """In one line; the runtime's own words are kept whole beside it."""
    path = log(tmp_path / "log", say("error", "exec failed:\n  no such\tfile"))
    error = failure("create", 1, "words\non stderr\n", path)

    assert str(error) == "exec failed: no such file"
    assert (error.verb, error.status, error.stderr) == ("create", 1, "words\non stderr\n")


def test_a_failure_without_a_log_quotes_the_last_words(tmp_path: Path) -> None:
    """The last line that says something."""
    error = failure("start", 2, "warning\n  the reason \n\n \n", str(tmp_path / "log"))

    assert str(error) == "the reason"


def test_a_silent_failure_says_so(tmp_path: Path) -> None:
    """There is always a message, and it has the status."""
    error = failure("start", 137, " \n", str(tmp_path / "log"))

    assert str(error) == "it ended with 137, silently"
