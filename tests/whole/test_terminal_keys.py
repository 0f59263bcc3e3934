"""Terminals, requirements 5 to 8: detach keys, exit codes, keys as bytes, and large pastes."""

import hashlib
import os
import signal

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.state.sizes import Size
from attachd.wire import messages as say

pytestmark = pytest.mark.runc


def shell(shop, pane, *options: str, command: str = "sh") -> str:
    """Open a busybox shell in a pane; return the container's id."""
    box = shop.name()
    pane.enter(" ".join(["attachd run -it", *options, box, "--", command, "; echo code $?"]))
    pane.wait_last("/ #")
    return box


# Detach keys


def test_ctrl_p_ctrl_q_leaves_and_attach_comes_back(shop, panes) -> None:
    """The default, with its own code and a line that says how to come back."""
    pane = panes.open()
    box = shell(shop, pane)
    pane.detach()
    pane.wait_line("code 123")
    pane.enter(f"attach {box}; echo code $?")
    pane.wait_last("/ #")
    pane.enter("exit 7")
    pane.wait_line("code 7")


def test_one_ctrl_p_reaches_the_shells_history(shop, panes) -> None:
    """Held back no longer than 300 ms, then passed on."""
    pane = panes.open()
    shell(shop, pane)
    pane.enter("echo first")
    pane.wait_line("first")
    pane.press("C-p")
    pane.wait_last("/ # echo first")
    pane.press("C-c")
    pane.detach()


@pytest.mark.parametrize("where", ["option", "environment", "file", "run"])
def test_other_keys_may_be_chosen(shop, panes, where) -> None:
    """By option, environment, or config file; then ctrl-p ctrl-q are keys like others."""
    pane = panes.open()
    if where == "run":
        shell(shop, pane, "--detach-keys ctrl-x,d")
    else:
        box = shell(shop, pane)
        pane.detach()
        if where == "file":
            path = shop.scratch / "config" / "attachd" / "config.toml"
            path.parent.mkdir(parents=True)
            path.write_text('detach-keys = "ctrl-x,d"\n')
        pane.press("C-l")
        pane.enter({
            "option": f"attach --detach-keys=ctrl-x,d {box}",
            "environment": f"ATTACHD_DETACH_KEYS=ctrl-x,d attach {box}",
            "file": f"XDG_CONFIG_HOME={shop.scratch}/config attach {box}",
        }[where])  # fmt: skip
        pane.wait_last("/ #")
    pane.press("C-p", "C-q")
    pane.enter("echo still $((40 + 2))")
    pane.wait_line("still 42")
    pane.press("C-x", "d")
    pane.wait_line("attach: detached from .*")


def test_none_switches_them_off(shop, panes) -> None:
    """Every byte is the program's."""
    pane = panes.open()
    box = shell(shop, pane, "--detach-keys none")
    pane.press("C-p", "C-q")
    pane.enter("exit 3")
    pane.wait_line("code 3")
    assert shop.ended(box)["exit_code"] == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("--detach-keys", "ctrl-"), b"ctrl-a to ctrl-z"),
        (("--detach-keys", ""), b"ctrl-p,ctrl-q"),
        (("--detach-keys", "ctrl-p,,x"), b"is not a detach key"),
    ],
)
def test_malformed_keys_are_refused(shop, settings, words) -> None:
    """In one line, by attach and by run, which makes nothing."""
    box = shop.run("cat", options=("-t", "-i", "-d"))
    other = shop.name()
    for program, argv in (
        ("attach", [*settings, box]),
        ("attachd", ["run", "-it", *settings, other, "--", "sh"]),
    ):
        done = shop.call(program, *argv, check=False)
        assert done.returncode == 125
        assert words in done.stderr
        assert done.stderr.count(b"\n") == 1
    assert not shop.path(other).exists()


def test_a_broken_config_file_is_named(shop, panes) -> None:
    """With what is wrong in it."""
    box = shop.run("cat", options=("-t", "-i", "-d"))
    path = shop.scratch / "attachd" / "config.toml"
    path.parent.mkdir()
    pane = panes.open(200, 24)
    for text, words in (
        ("detach-keys = 7", 'detach-keys is a text, like "ctrl-p,ctrl-q"'),
        ("detach_keys = 'a'", "there is no setting 'detach_keys'"),
        ("= =", "is not TOML"),
        ("detach-keys = 'ctrl-p,long'", "'long' in 'ctrl-p,long' is not a detach key"),
    ):
        path.write_text(text)
        pane.press("C-l")
        pane.enter(f"XDG_CONFIG_HOME={shop.scratch} attach {box}; echo code $?")
        pane.wait_line("code 125")
        assert words in pane.history
        pane.enter("clear")


# Keys as bytes


def test_control_keys_are_the_terminals_own_signals(shop, panes) -> None:
    """ctrl-C interrupts, ctrl-Z stops, ctrl-D ends: inside, and nothing here."""
    pane = panes.open()
    shell(shop, pane)
    pane.enter("sleep 1000")
    pane.press("C-c")
    pane.wait_last("/ #")
    pane.enter("echo $?")
    pane.wait_line("130")
    pane.enter("sleep 1001")
    pane.press("C-z")
    pane.wait(lambda rows: any("Stopped" in row for row in rows))
    pane.enter("cat; echo over")
    pane.enter("line")
    pane.press("C-d")
    pane.wait_line("over")
    pane.enter("fg")
    pane.wait(lambda rows: rows.count("sleep 1001") >= 1)
    pane.press("C-c")
    pane.wait_last("/ #")
    pane.press("C-d")
    pane.wait_line("code .*")


def test_ctrl_c_leaves_a_container_without_a_terminal(shop, panes) -> None:
    """The container goes on, and the line says how to come back to the byte."""
    pane = panes.open()
    box = shop.run("sh", "-c", "echo up; sleep 1000")
    pane.enter(f"attach {box}; echo code $?")
    pane.wait_line("up")
    pane.press("C-c")
    pane.wait_line("code 123")

    assert f"come back with: attach --from offset:3 {box}" in pane.history.replace("\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_sig_proxy_passes_signals_on(shop, number) -> None:
    """And attach ends as the container does."""
    name = signal.Signals(number).name.removeprefix("SIG")
    box = shop.create(
        "sh",
        "-c",
        f"trap 'echo got {name}; exit 9' {name}; echo up; while :; do sleep 0.1; done",
    )
    process = shop.popen("attach", "--sig-proxy", "--from", "start", box)
    shop.ctl("start", box)
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)

    assert (out, err, process.returncode) == (f"got {name}\n".encode(), b"", 9)


def test_sigterm_leaves_without_sig_proxy(shop) -> None:
    """With the signal's code; the container goes on."""
    box = shop.run("sh", "-c", "echo up; sleep 1000")
    process = shop.popen("attach", "--from", "start", box)
    assert process.stdout.readline() == b"up\n"
    process.terminate()
    _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 143
    assert b"come back with" in err
    assert b"running" in shop.ctl("ls")


# Pastes


def test_a_megabyte_pasted_into_cat_arrives_whole(shop) -> None:
    """In canonical mode, with lines that the kernel takes; echo and all."""
    lines = b"".join(b"%07d the quick brown fox jumps\n" % i for i in range(28_000))[: 1 << 20]
    lines = lines[: lines.rfind(b"\n") + 1]
    box = shop.run(
        "sh", "-c", "cat > /tmp/file; md5sum < /tmp/file", options=("-t", "-i", "-d")
    )
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(lines, PATIENCE)
        client.send_eof(PATIENCE)
    record = shop.ended(box)

    assert record["exit_code"] == 0
    assert hashlib.md5(lines).hexdigest().encode() in shop.output(box).splitlines()[-1]


def test_a_megabyte_pasted_into_a_raw_program_arrives_whole(shop) -> None:
    """Any bytes, no line ends; the program starts to read late."""
    data = os.urandom(1 << 20)
    box = shop.run(
        "sh", "-c", "stty raw -echo; echo ready; sleep 1; head -c 1048576 | md5sum",
        options=("-t", "-i", "-d"),
    )  # fmt: skip
    wait_for(lambda: b"ready" in shop.output(box))
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(data, PATIENCE)
    shop.ended(box)

    assert hashlib.md5(data).hexdigest().encode() in shop.output(box)


async def test_a_paste_that_waits_blocks_nobody(shop) -> None:
    """While a program does not read: resize, detach, a ping and other clients go on."""
    box = shop.run(
        "sh", "-c",
        "stty raw -echo; trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done",
        options=("-t", "-i", "-d"),
    )  # fmt: skip
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root, since="start", size=Size(80, 24)) as client:
            while b"ready" not in getattr(await client.receive(), "data", b""):
                pass
            await client.post(b"x" * (1 << 20))
            assert client.pending > 1 << 19
            await client.set_size(Size(77, 33))
            seen = b""
            while b"33 77" not in seen:
                seen += getattr(await client.receive(), "data", b"")
            async with attach(box, root=root, since="live") as other:
                await other.ping()
                await other.resize(Size(66, 22))
                seen = b""
                while b"22 66" not in seen:
                    seen += getattr(await other.receive(), "data", b"")


def test_a_person_leaves_behind_a_paste_that_waits(shop, panes) -> None:
    """The detach keys are seen, and what may not have arrived is told."""
    pane = panes.open()
    box = shop.name()
    pane.enter(f"attachd run -it {box} -- sh -c 'stty raw -echo; echo ready; sleep 1000'")
    pane.wait_line("ready")
    path = shop.scratch / "paste"
    path.write_text("x" * 300_000)
    panes.call("load-buffer", path)
    panes.call("paste-buffer", "-t", "w1")
    pane.press("C-p", "C-q")
    pane.wait(lambda rows: any("detached from" in row for row in rows))
    pane.wait(lambda rows: any("may not have reached it" in row for row in rows))


def test_a_line_that_the_kernel_cuts_is_told_to_who_typed_it(shop) -> None:
    """Over 4095 bytes in canonical mode; nobody else is told."""
    box = shop.run("sh", "-c", "wc -c", options=("-t", "-i", "-d"))
    root = str(shop.root)
    with (
        attach_blocking(box, root=root, since="live") as writer,
        attach_blocking(box, root=root, since="live") as other,
    ):
        writer.send(b"x" * 4095 + b"\n", PATIENCE)
        writer.send(b"y" * 5000 + b"\n", PATIENCE)
        writer.send_eof(PATIENCE)
        told = [e for e in writer if isinstance(e, say.Notice)]
        heard = [e for e in other if isinstance(e, say.Notice)]

    assert [(e.code, "4095 bytes" in e.text) for e in told] == [("line_too_long", True)]
    assert heard == []
    assert b"8192" in shop.output(box)


def test_a_filter_through_a_terminal_gets_its_end(shop) -> None:
    """Without a person: what is piped in is typed, and its end is ctrl-D, also in a line."""
    box = shop.name()
    done = shop.call(
        "attachd", "run", "-it", box, "--", "sh", "-c", "cat | od -c", input=b"two\nlines"
    )

    assert done.returncode == 0
    assert b"t   w   o  \\n   l   i   n   e   s" in done.stdout


# Choosing


def test_attach_without_an_id_offers_what_runs(shop, panes) -> None:
    """By number or by id; what has ended is not offered."""
    ended = shop.run("true")
    shop.ended(ended)
    boxes = sorted(shop.run("sh", "-c", f"echo {n}; cat", options=("-t", "-i", "-d"))
        for n in ("one", "two"))  # fmt: skip
    pane = panes.open()
    pane.enter("attach")
    rows = pane.wait(lambda rows: any(row.startswith("attach to:") for row in rows))
    assert ended not in "\n".join(rows)
    assert [r.split() for r in rows if r.startswith("  ")] == [
        ["1", boxes[0]],
        ["2", boxes[1]],
    ]
    pane.enter("3")
    pane.wait(lambda rows: any("a number from 1 to 2" in row for row in rows))
    pane.enter("2")
    pane.wait(lambda rows: "one" in rows or "two" in rows)
    pane.press("C-p", "C-q")
    pane.wait_line(f"attach: detached from {boxes[1]}.*")


def test_attach_without_an_id_and_a_terminal_says_what_to_do(shop) -> None:
    """It cannot ask."""
    done = shop.call("attach", check=False)

    assert done.returncode == 125
    assert b"attachctl ls" in done.stderr


def test_no_color_is_heeded(shop, panes) -> None:
    """Our own words are dim, and plain when NO_COLOR is set."""
    box = shop.run("sh", "-c", "echo up; cat", options=("-t", "-i", "-d"))
    for setting, dim in (("", True), ("NO_COLOR=1 ", False)):
        pane = panes.open()
        pane.enter(f"{setting}attach {box}")
        pane.wait_line("up")
        pane.detach()
        line = next(row for row in pane.coloured.splitlines() if "detached from" in row)
        assert ("\x1b[2m" in line) is dim
