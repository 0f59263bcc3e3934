"""``attachctl logs``: one container or several, live or not, in every form."""

import base64
import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, Shop, wait_for

pytestmark = pytest.mark.runc

TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def word(shop: Shop, box: str, text: bytes = b"\n") -> None:
    """Give a container the word it waits for."""
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(text, PATIENCE)


def wait_newest(shop: Shop, box: str, offset: int) -> None:
    def newest() -> int:
        with attach_blocking(box, root=str(shop.root), since="none", role="viewer") as client:
            return client.ping(PATIENCE)

    wait_for(lambda: newest() == offset)


def speaker(shop: Shop, *texts: str) -> str:
    """A container that writes each text when the one before was read, waits, and ends with 3."""
    parts = (text.partition(" ") for text in texts)
    script = "; read x; ".join(f"printf '{text}' {where}" for text, _, where in parts)
    script += "; read x; exit 3"
    box = shop.run("sh", "-c", script, options=("-i",))
    offset = 0
    for number, text in enumerate(texts):
        offset += len(text.removesuffix(" >&2").encode().decode("unicode_escape"))
        if number < len(texts) - 1:
            wait_newest(shop, box, offset)
            word(shop, box)
    wait_newest(shop, box, offset)
    return box


@pytest.fixture
def ended(shop) -> str:
    """Three lines of stdout, one of them not UTF-8, one not ended."""
    box = shop.run("printf", r"one\n\377two\nthree")
    shop.ended(box)
    return box


def logs(shop: Shop, *words: object, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = shop.call("attachctl", "logs", *words, check=False)
    assert done.returncode == code, done.stderr
    return done


def objects(done: subprocess.CompletedProcess[bytes]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_bytes_pass_as_they_are(shop, ended) -> None:
    """Without an option that is about lines nothing is added, and nothing is taken away."""
    assert logs(shop, ended).stdout == b"one\n\xfftwo\nthree"
    assert logs(shop, "-f", ended).stdout == b"one\n\xfftwo\nthree"


def test_timestamps_and_prefix_stand_before_each_line(shop, ended) -> None:
    """Each alone, and both; the end has no newline where there was none."""
    box = re.escape(ended.encode())

    assert logs(shop, "--prefix", ended).stdout == b"".join(
        b"%s | %s" % (ended.encode(), line) for line in (b"one\n", b"\xfftwo\n", b"three")
    )
    assert re.fullmatch(b"%s one\n%s \xfftwo\n%s three" % (TIME, TIME, TIME),
                        logs(shop, "-t", ended).stdout)  # fmt: skip
    assert re.match(
        b"%s \\| %s one\n" % (box, TIME), logs(shop, "-t", "--prefix", ended).stdout
    )


def test_a_line_over_16_kib_is_one_line_of_text_and_pieces_of_json(shop) -> None:
    """A head stands before the line, not before its pieces."""
    box = shop.run("sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo y")
    shop.ended(box)
    text = logs(shop, "--prefix", box).stdout.replace(f"{box} | ".encode(), b"|")
    found = objects(logs(shop, "--json", box))[:-1]

    assert text == b"|" + b"x" * 40000 + b"\n|y\n"
    assert [(len(x["text"]), x["partial"]) for x in found] == [
        (16384, True), (16384, True), (7232, False), (1, False),
    ]  # fmt: skip


def test_json_has_everything_about_a_line_and_the_end(shop, ended) -> None:
    """Bytes that are not UTF-8 are there exactly; the last object is the exit record."""
    *lines, end = objects(logs(shop, "--json", ended))

    assert [(x["id"], x["offset"], x["stream"], x["text"], x["partial"]) for x in lines] == [
        (ended, 0, "stdout", "one", False),
        (ended, 4, "stdout", "�two", False),
        (ended, 9, "stdout", "three", True),
    ]
    assert [base64.b64decode(x["raw"]) for x in lines if "raw" in x] == [b"\xfftwo"]
    assert all(re.fullmatch(TIME, x["time"].encode()) for x in lines)
    assert end["exit"] == json.loads(shop.path(ended, "exit.json").read_text())


def test_what_is_there_now_ends_at_once(shop) -> None:
    """A container that runs on is not waited for; what stays open is told, too."""
    box = speaker(shop, r"one\ntwo")

    assert logs(shop, box).stdout == b"one\ntwo"
    assert [x["text"] for x in objects(logs(shop, "--json", box))] == ["one", "two"]


def test_tail_offset_and_stream_choose(shop) -> None:
    """The last lines, everything from a byte on, one stream alone."""
    box = speaker(shop, r"one\n", r"err\n >&2", r"two\n")

    assert logs(shop, "--tail", 1, box).stdout == b"two\n"
    both = logs(shop, "--tail", 2, box)
    assert (both.stdout, both.stderr) == (b"two\n", b"err\n")
    assert logs(shop, "--tail", 0, box).stdout == b""
    assert logs(shop, "--from", 2, "--stream", "stdout", box).stdout == b"e\ntwo\n"
    alone = logs(shop, "--stream", "stderr", box)
    assert (alone.stdout, alone.stderr) == (b"", b"err\n")
    assert [x["offset"] for x in objects(logs(shop, "--json", "--from", 2, box))] == [2, 4, 8]


def test_since_and_until_are_about_the_time_of_a_line(shop) -> None:
    """Of a running container and of an ended one; with what --timestamps prints, exactly."""
    box = speaker(shop, r"one\n", r"two\n", r"three\n")
    times = [x["time"] for x in objects(logs(shop, "--json", box))]
    for _ in range(2):
        assert logs(shop, "--since", times[1], box).stdout == b"two\nthree\n"
        assert logs(shop, "--since", times[1], "--until", times[1], box).stdout == b"two\n"
        assert logs(shop, "--until", times[1], "-t", box).stdout.count(b"\n") == 2
        assert logs(shop, "--since", "1h", box).stdout == b"one\ntwo\nthree\n"
        assert logs(shop, "--until", "1h", box).stdout == b""
        assert logs(shop, "--since", "2999-01-01", box).stdout == b""
        word(shop, box) if not shop.path(box, "exit.json").exists() else None
        shop.ended(box)


def test_following_until_then_ends_then(shop) -> None:
    """Also when nothing more is said."""
    box = speaker(shop, r"one\n")
    begun = time.time()
    done = logs(shop, "-f", "--until", f"{begun + 0.5:.9f}", box)

    assert done.stdout == b"one\n"
    assert time.time() >= begun + 0.5


def test_following_until_a_time_that_is_over_tells_what_was_before(shop) -> None:
    """However long it takes to read that."""
    box = speaker(shop, r"one\n", r"two\n")
    done = logs(shop, "-f", "--until", f"{time.time():.9f}", box)

    assert done.stdout == b"one\ntwo\n"


def test_following_ends_with_the_container_and_its_last_byte(shop) -> None:
    """Lines come when they are said."""
    box = speaker(shop, r"one\n")
    follower = shop.popen("attachctl", "logs", "-f", "--prefix", box)
    assert follower.stdout.readline() == f"{box} | one\n".encode()
    word(shop, box)

    assert follower.communicate(timeout=PATIENCE) == (b"", b"")
    assert follower.returncode == 0


def test_several_are_merged_by_time(shop) -> None:
    """What they have said comes in the order in which it was said, with their ids."""
    first, second = (
        shop.run("sh", "-c", "while read x; do echo $x; done", options=("-i",))
        for _ in range(2)
    )
    for number in range(4):
        word(shop, (first, second)[number % 2], b"%d\n" % number)
        wait_newest(shop, (first, second)[number % 2], 2 * (number // 2 + 1))
    found = logs(shop, first, second).stdout

    assert found == b"".join(
        b"%s | %d\n" % ((first, second)[n % 2].encode(), n) for n in range(4)
    )
    assert logs(shop, "--no-prefix", second, first, first).stdout == b"0\n1\n2\n3\n"


def test_several_are_followed_at_once(shop) -> None:
    """Each line as it comes, until the last container has ended."""
    first, second = speaker(shop, r"a\n", r"b\n >&2"), speaker(shop, r"c\n")
    follower = shop.popen("attachctl", "logs", "-f", first, second)
    lines = {follower.stdout.readline() for _ in range(2)}
    word(shop, first)
    shop.ended(first)
    assert follower.poll() is None
    word(shop, second)
    out, err = follower.communicate(timeout=PATIENCE)

    width = max(len(first), len(second))
    assert lines == {f"{first:{width}} | a\n".encode(), f"{second:{width}} | c\n".encode()}
    assert (out, err) == (b"", f"{first:{width}} | b\n".encode())
    assert follower.returncode == 0


@pytest.mark.parametrize("several", [False, True])
def test_ctrl_c_ends_following_quietly(shop, several) -> None:
    """130, and no trace of Python."""
    boxes = [speaker(shop, r"one\n") for _ in range(1 + several)]
    follower = shop.popen("attachctl", "logs", "-f", *boxes)
    for _ in boxes:
        follower.stdout.readline()
    follower.send_signal(signal.SIGINT)

    assert follower.communicate(timeout=PATIENCE) == (b"", b"")
    assert follower.returncode == 130


@pytest.mark.parametrize("several", [False, True])
def test_a_reader_that_leaves_ends_it_as_sigpipe_does(shop, several) -> None:
    """141, and nothing on stderr."""
    boxes = [
        shop.run("sh", "-c", "while :; do echo line; sleep 0.01; done")
        for _ in range(1 + several)
    ]
    follower = shop.popen("attachctl", "logs", "-f", *boxes)
    follower.stdout.readline()
    follower.stdout.close()

    assert follower.stderr.read() == b""
    assert follower.wait(PATIENCE) == 141
    follower.stderr.close()


NONSENSE = (
    ("--tail", 1, "--since", "10m"),
    ("--tail", 1, "--from", 1),
    ("--since", "10m", "--from", 1),
    ("--tail", "x"),
    ("--from", -1),
    ("--since", "soon"),
    ("--until", ""),
    ("--stream", "stdin"),
    ("--from", 999),
)


def test_what_makes_no_sense_is_told_in_one_line(shop, ended) -> None:
    """What excludes each other, what is no number or time, an offset in the future."""
    for words in NONSENSE:
        done = logs(shop, *words, ended, code=125)

        assert (done.stdout, done.stderr.count(b"\n")) == (b"", 1), words


def test_a_container_that_is_not_there_is_told_before_anything_is_printed(shop, ended) -> None:
    """Also among several."""
    done = logs(shop, ended, "nobody", code=125)

    assert done.stdout == b""
    assert b"no container 'nobody'" in done.stderr


def test_an_offset_in_the_future_of_a_running_container(shop) -> None:
    """The same line as from files; what came before it in another container is still told."""
    box, other = speaker(shop, r"one\n"), shop.run("echo", "longer than that")
    shop.ended(other)
    done = logs(shop, "--from", 999, box, code=125)
    assert done.stderr == b"attachctl: offset 999 is in the future of 4\n"
    both = logs(shop, "-f", "--from", 8, box, other, code=125)

    assert both.stdout.endswith(b"| han that\n")
    assert both.stderr == f"attachctl: {box}: offset 8 is in the future of 4\n".encode()


def test_colours_are_for_terminals_only(shop, ended) -> None:
    """And not where NO_COLOR is set."""
    seen = []
    for environment in ({}, {"NO_COLOR": "1"}):
        mine, its = pty.openpty()
        shop.call("attachctl", "logs", "--prefix", ended, stdout=its,
                  env=os.environ | {"ATTACHD_ROOT": str(shop.root)} | environment)  # fmt: skip
        seen.append(os.read(mine, 4096))
        os.close(mine)
        os.close(its)

    assert seen[0].startswith(b"\x1b[36m%s | \x1b[mone" % ended.encode())
    assert b"\x1b" not in seen[1]
    assert b"\x1b" not in logs(shop, "--prefix", ended).stdout


def test_raw_logs_and_lost_containers_are_told_from_their_files(shop) -> None:
    """A raw log has no times; a container whose keeper and server are dead has no end."""
    box = shop.run("echo", "x", options=("--linger", "0", "--log", f"raw:{shop.scratch}/raw"))
    shop.ended(box)
    wait_for(lambda: not shop.processes())
    assert logs(shop, "-t", box).stdout == b"- x\n"
    assert objects(logs(shop, "--json", box))[0]["time"] is None

    box = speaker(shop, r"one\n")
    wait_for(lambda: b"one" in shop.log(box))
    server = shop.kill_shim(box)
    wait_for(lambda: not os.path.exists(f"/proc/{server}"))
    for words in ((box,), ("-f", box), ("--prefix", "--no-prefix", box)):
        assert logs(shop, *words).stdout == b"one\n"
    assert [x["text"] for x in objects(logs(shop, "-f", "--json", box))] == ["one"]
