"""``attachctl send``: 0 only when all was written, otherwise one line that tells how much was."""

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from attachd_clients import attach_blocking
from harness import PATIENCE, wait_for

from attachd.live.stdin import FILE_BYTES, WINDOW

pytestmark = pytest.mark.runc


def told(shop, box: str) -> dict:
    """Return what the shim reports of stdin."""
    return json.loads(shop.ctl("stats", box))["stdin"]


def refused(shop, *words: object, code: int = 125, **options: object) -> str:
    """Send, and be refused in one line; return it."""
    done = shop.call("attachctl", "send", *words, check=False, **options)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1), done
    return done.stderr.decode()


TEXTS = [
    (("hello",), b"hello\n"),
    (("-n", "hello"), b"hello"),
    (("hello", "--no-newline"), b"hello"),
    (("",), b"\n"),
    (("-n", ""), b""),
    (("two words\nand lines",), b"two words\nand lines\n"),
    (("--", "--eof"), b"--eof\n"),
    ((b"\xff\xfe\xc3".decode(errors="surrogateescape"),), b"\xff\xfe\xc3\n"),
]


def test_a_text_is_sent_as_echo_would_and_eof_ends_it(shop) -> None:
    """Byte for byte, and it is in the container when we end."""
    box = shop.run("cat", options=("-i",))
    read = b""
    for words, expected in TEXTS:
        done = shop.call("attachctl", "send", box, *words)
        read += expected
        assert (done.stdout, done.stderr) == (b"", b"")
        assert told(shop, box)["delivered"] == len(read)
    shop.ctl("send", box, "--eof")

    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == read


def test_text_and_end_in_one_call(shop) -> None:
    """In this order."""
    box = shop.run("wc", "-c", options=("-i",))
    shop.ctl("send", "--eof", box, "hello")

    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"6\n"


@pytest.mark.parametrize("words", [(), ("-",)])
def test_our_stdin_is_sent_as_it_is(shop, words) -> None:
    """Without a word or with -, from a pipe; it is not closed unless that is asked for."""
    data = random.Random(8).randbytes(3_000_000)
    box = shop.run("sh", "-c", "head -c 3000000 >/sum; md5sum /sum; cat", options=("-i",))
    shop.call("attachctl", "send", box, *words, input=data)
    shop.call("attachctl", "send", box, "-", "--eof", input=b"rest")
    shop.ended(box)
    digest = subprocess.run(["md5sum"], input=data, capture_output=True, check=True).stdout

    assert shop.output(box) == digest.replace(b"-", b"/sum") + b"rest"


def test_a_file_as_our_stdin(shop) -> None:
    """epoll takes no files; an empty one sends nothing, and works."""
    path = shop.scratch / "file"
    path.write_bytes(b"from a file\n")
    box = shop.run("cat", options=("-i",))
    for name in (path, "/dev/null"):
        with open(name, "rb") as file:
            shop.call("attachctl", "send", box, "-", stdin=file)
    shop.ctl("send", box, "--eof")
    shop.ended(box)

    assert shop.output(box) == b"from a file\n"


def test_enter_is_a_key_at_a_terminal(shop) -> None:
    """What a person would type: a program in raw mode gets a carriage return."""
    box = shop.run(
        "sh", "-c", "stty raw -echo; echo up; head -c 3 | od -An -tx1", options=("-it", "-d")
    )
    wait_for(lambda: b"up" in shop.output(box))
    shop.ctl("send", box, "ls")
    shop.ended(box)

    assert b"6c 73 0d" in shop.output(box)


def test_the_end_at_a_terminal_is_typed(shop) -> None:
    """As everywhere."""
    box = shop.run("cat", options=("-it", "-d"))
    shop.ctl("send", box, "--eof", "last")

    assert shop.ended(box)["exit_code"] == 0
    assert b"last" in shop.output(box)


# Refusals: one line, 125, and how many bytes were written


def test_a_closed_stdin_is_told(shop) -> None:
    """Whatever was to be sent, also nothing."""
    box = shop.run("sleep", "1000")
    for words in (("x",), ("--eof",), ("-",), ("--eof", "x")):
        assert "stdin is closed" in refused(shop, box, *words)


def test_a_stdin_that_the_container_closes_is_told_while_we_have_nothing_to_send(shop) -> None:
    """Our own stdin is silent; we do not wait for it to speak."""
    box = shop.run("sh", "-c", "read x; exec <&-; echo $x; sleep 1000", options=("-i",))
    sender = shop.popen("attachctl", "send", box, "-", stdin=subprocess.PIPE)
    sender.stdin.write(b"line\n")
    wait_for(lambda: told(shop, box)["delivered"] == 5)
    assert sender.poll() is None
    server = shop.server(box)
    # A pipe without a reader is noticed by writing.
    shop.call("attachctl", "send", box, "x", check=False)
    sender.wait(PATIENCE)
    line = sender.stderr.read()
    sender.communicate()

    assert (sender.returncode, line.count(b"\n")) == (125, 1)
    assert b"stdin is closed; 5 bytes were written to it\n" in line
    assert shop.server(box) == server


def test_a_container_that_takes_all_and_ends_is_no_failure(shop) -> None:
    """All was written: what it does then is its own business."""
    for _ in range(3):
        box = shop.run("head", "-c", "100000", options=("-i",))
        shop.call("attachctl", "send", box, "-", input=b"x" * 100_000)
        assert shop.ended(box)["exit_code"] == 0


def test_a_container_that_ends_in_the_middle_is_told(shop) -> None:
    """Not all was written; what was is counted."""
    box = shop.run("head", "-c", "100000", options=("-i",))
    line = refused(shop, box, "-", input=b"x" * 5_000_000)
    assert "closed" in line or "ended" in line
    assert "bytes were written" in line


def test_an_ended_container_is_told(shop) -> None:
    """With and without a shim."""
    box = shop.run("true", options=("-i", "--linger", "60"))
    shop.ended(box)
    assert "closed" in refused(shop, box, "x")
    other = shop.run("true", options=("-i", "--linger", "0"))
    shop.ended(other)
    wait_for(lambda: not shop.server(other))
    assert "has ended" in refused(shop, other, "x")


def test_somebody_elses_lease_is_told(shop) -> None:
    """By the holder's name; nothing was written."""
    box = shop.run("cat", options=("-i",))
    with attach_blocking(box, root=str(shop.root), since="none", name="bob") as holder:
        holder.lease("take", PATIENCE)
        for words in (("x",), ("-",), ("--eof",)):
            line = refused(shop, box, *words, input=b"data")
            assert "bob is the only one who may write; 0 bytes were written" in line
    assert told(shop, box)["accepted"] == 0


@pytest.mark.parametrize("policy", ["never", "owner"])
def test_an_end_that_is_denied_is_told(shop, policy) -> None:
    """What came before it was written, and is counted."""
    box = shop.run("cat", options=("-i", "--stdin-eof", policy))
    assert f"(--stdin-eof {policy}); 0 bytes" in refused(shop, box, "--eof")
    assert f"(--stdin-eof {policy}); 6 bytes" in refused(shop, box, "--eof", "hello")
    assert f"(--stdin-eof {policy}); 4 bytes" in refused(
        shop, box, "-", "--eof", input=b"abcd"
    )
    shop.ctl("send", box, "and on")
    wait_for(lambda: shop.output(box) == b"hello\nabcdand on\n")


def test_no_more_is_read_than_the_window_and_a_timeout_tells_how_much_was_written(
    shop,
) -> None:
    """A container that does not read; what it holds in its pipe was written, the rest not."""
    box = shop.run("sleep", "1000", options=("-i",))
    path = shop.scratch / "much"
    path.write_bytes(b"x" * 10_000_000)
    with path.open("rb") as file:
        line = refused(shop, box, "-", "--timeout", "0.7", stdin=file)
        # The position is the descriptor's, which the two of us share.
        read = file.seek(0, os.SEEK_CUR)
    delivered = told(shop, box)["delivered"]

    assert 0 < delivered < 1 << 20
    assert read <= delivered + WINDOW
    assert f"not all was written in 0.7 seconds; {delivered} bytes were written to it" in line
    assert f"{read - delivered} more are on their way" in line


def test_ctrl_c_leaves_with_130_and_tells_how_much_was_written(shop) -> None:
    """While it waits for our stdin, and while it waits for the container."""
    box = shop.run("cat", options=("-i",))
    idle = shop.popen("attachctl", "send", box, "-", stdin=subprocess.PIPE)
    idle.stdin.write(b"12345")
    wait_for(lambda: told(shop, box)["delivered"] == 5)
    idle.send_signal(signal.SIGINT)
    assert idle.communicate(timeout=PATIENCE)[1].endswith(b"; 5 bytes were written to it\n")
    assert idle.returncode == 130

    deaf = shop.run("sleep", "1000", options=("-i",))
    stuck = shop.popen("attachctl", "send", deaf, "-", stdin=subprocess.PIPE)
    os.set_blocking(stuck.stdin.fileno(), False)
    rest = memoryview(b"x" * (1 << 20))

    def feed() -> bool:
        nonlocal rest
        rest = rest[stuck.stdin.write(rest) or 0 :]
        stdin = told(shop, deaf)
        return stdin["accepted"] > stdin["delivered"] > 0

    wait_for(feed)
    stuck.send_signal(signal.SIGINT)
    _, line = stuck.communicate(timeout=PATIENCE)
    assert stuck.returncode == 130
    delivered = told(shop, deaf)["delivered"]
    assert f"interrupted; {delivered} bytes were written to it, and ".encode() in line
    assert line.count(b"\n") == 1


def test_a_shim_that_is_gone_is_told(shop) -> None:
    """Keeper and server were killed."""
    box = shop.run("cat", options=("-i",))
    server = shop.kill_shim(box)
    wait_for(lambda: not Path(f"/proc/{server}").exists())
    assert "does not answer" in refused(shop, box, "x")


MISTAKES = [
    (("nope", "x"), "no container 'nope'"),
    (("BOX", "x", "y"), "unrecognized arguments: y"),
    (("BOX", "-n"), "--no-newline is for TEXT"),
    (("BOX", "-n", "-"), "--no-newline is for TEXT"),
    (("BOX", "-n", "--eof"), "--no-newline is for TEXT"),
    (("BOX", "--timeout", "0", "x"), "not a positive number"),
    (("BOX", "--timeout", "nan", "x"), "not a positive number"),
    (("BOX", "--timeout", "soon", "x"), "invalid float value"),
    ((), "required: id"),
]


def test_bad_words_are_one_line(shop) -> None:
    """And nothing is sent."""
    box = shop.run("cat", options=("-i",))
    for words, text in MISTAKES:
        assert text in refused(shop, *[box if word == "BOX" else word for word in words])
    assert told(shop, box)["accepted"] == 0


def test_without_a_text_at_a_terminal_there_is_nothing_to_send(shop, panes) -> None:
    """Instead of waiting for keys in silence; with - they are read to ctrl-D."""
    box = shop.run("cat", options=("-i",))
    pane = panes.open()
    pane.enter(f"attachctl send {box}; echo ended with $?")
    pane.wait(lambda rows: any("ended with 125" in row for row in rows))
    assert any("nothing to send" in row for row in pane.screen)
    pane.enter(f"attachctl send {box} -")
    pane.enter("typed")
    pane.press("C-d")
    wait_for(lambda: shop.output(box) == b"typed\n")


# A full pipe pushes back on who fills it, and on nobody else


def test_a_full_pipe_is_its_senders_business_alone(shop) -> None:
    """10 MB for a container that does not read: another's pings, stdin and output go on."""
    script = "read x; echo got $x; while sleep 0.05; do echo tick; done"
    box = shop.run("sh", "-c", script, options=("-i",))
    root = str(shop.root)
    with attach_blocking(box, root=root, since="start") as other:
        other.send(b"line\n", PATIENCE)
        path, seen = shop.scratch / "much", b""
        path.write_bytes(b"x" * 10_000_000)
        with path.open("rb") as file:
            sender = shop.popen("attachctl", "send", box, "-", stdin=file)
            wait_for(lambda: told(shop, box)["accepted"] > told(shop, box)["delivered"] > 5)
            goal = other.ping(PATIENCE) + 10 * len(b"tick\n")
            while other.offset < goal:
                seen += getattr(other.receive(PATIENCE), "data", b"")
            assert other.ping(PATIENCE) >= goal
            stdin = told(shop, box)
            assert stdin["accepted"] - stdin["delivered"] + stdin["queued"] <= (
                FILE_BYTES + WINDOW
            )
            assert file.seek(0, os.SEEK_CUR) <= stdin["delivered"] + WINDOW
            assert sender.poll() is None
        sender.send_signal(signal.SIGINT)
        sender.communicate(timeout=PATIENCE)
    assert sender.returncode == 130
    assert seen.startswith(b"got line\n")
