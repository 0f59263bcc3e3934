"""``attachctl record`` and ``play``: files that are whole, a terminal that is given back."""

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path

import pyte
import pytest
from asciinema.asciicast import open_from_url
from harness import PATIENCE, wait_for

from attachd.state.times import parse_rfc3339

pytestmark = pytest.mark.runc

HEADER = '{"version": 2, "width": 80, "height": 24}\n'


def read(path: Path) -> tuple[dict, list[list]]:
    """Return header and events, as asciinema itself reads them."""
    with open_from_url(str(path)) as cast:
        return cast.v2_header, list(cast.events())


def output(events: list[list]) -> str:
    return "".join(data for _, code, data in events if code == "o")


def screen(header: dict, events: list[list]) -> list[str]:
    """Return what a player shows at the end, down to the last row that has something."""
    shown = pyte.Screen(header["width"], header["height"])
    pyte.Stream(shown).feed(output(events))
    return "\n".join(row.rstrip() for row in shown.display).rstrip("\n").split("\n")


def record(shop, box: str, *words: object, name: str = "x.cast") -> tuple[dict, list[list]]:
    path = shop.scratch / name
    shop.ctl("record", box, "-o", path, "--overwrite", *words)
    return read(path)


def wait_recording(path: Path, words: bytes) -> None:
    wait_for(lambda: path.exists() and words in path.read_bytes())


def echoing(shop) -> tuple[str, list[str]]:
    """Return a running container that has said a, b and c, and when each was read."""
    box = shop.run("sh", "-c", "while read x; do echo $x; done", options=("-i",))
    for word in "abc":
        shop.ctl("send", box, word)
        wait_for(lambda word=word: word.encode() in shop.output(box))
    lines = shop.ctl("logs", "--json", box).split(b"\n")[:3]
    return box, [json.loads(line)["time"] for line in lines]


def refused(shop, *words: object, program: str = "attachctl") -> str:
    """Return the one line with which a program fails."""
    done = shop.call(program, *words, check=False)
    assert done.returncode == 125
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode()


# record


@pytest.mark.parametrize("linger", ["0", "30"])
def test_an_ended_container_is_recorded_from_its_start(shop, linger) -> None:
    """From its shim and from its files: both streams, times and the exit."""
    script = "read x; echo out; read x; echo żółw >&2; exit 3"
    box = shop.run("sh", "-c", script, options=("-i", "--linger", linger))
    shop.ctl("send", box, "one")
    wait_for(lambda: b"out" in shop.log(box))
    shop.ctl("send", box, "two")
    shop.ended(box)
    if linger == "0":
        wait_for(lambda: not shop.path(box, "attach.sock").exists())
    header, events = record(shop, box)
    lines = shop.ctl("logs", "--json", box).split(b"\n")[:2]
    first, second = (parse_rfc3339(json.loads(line)["time"]) for line in lines)

    assert [event[1:] for event in events] == [
        ["o", "out\r\n"], ["o", "żółw\r\n"], ["m", "exit 3"],
    ]  # fmt: skip
    assert (header["width"], header["height"], header["title"]) == (80, 24, box)
    assert header["timestamp"] == first // 10**9
    assert events[0][0] == 0
    assert events[1][0] == (second - first) // 1000 / 10**6


def test_a_running_container_is_recorded_from_now_to_its_end(shop) -> None:
    """What was before is not in it; the pause before the first word is."""
    box = shop.run("sh", "-c", "echo before; read x; echo after", options=("-i",))
    wait_for(lambda: b"before" in shop.log(box))
    path = shop.scratch / "x.cast"
    with shop.popen("attachctl", "record", box, "-o", path, "--size", "100x30") as recorder:
        wait_recording(path, b"}\n")
        shop.ctl("send", box, "go")
        assert recorder.wait(PATIENCE) == 0
    header, events = read(path)

    assert (header["width"], header["height"]) == (100, 30)
    assert [event[1:] for event in events] == [["o", "after\r\n"], ["m", "exit 0"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_that_is_stopped_is_whole(shop, number) -> None:
    """ctrl-C is how a person ends one: that is no failure."""
    box = shop.run("sh", "-c", "while echo line; do :; done")
    path = shop.scratch / "x.cast"
    with shop.popen("attachctl", "record", box, "-o", path) as recorder:
        wait_recording(path, b"line")
        recorder.send_signal(number)
        code = recorder.wait(PATIENCE)
        assert recorder.stderr.read() == b""

    assert code == (0 if number == signal.SIGINT else 128 + number)
    assert "line" in output(read(path)[1])


def test_a_recording_that_is_killed_is_whole_lines(shop) -> None:
    """But for the one that was being written at that moment."""
    box = shop.run("sh", "-c", "while echo line; do :; done")
    path = shop.scratch / "x.cast"
    with shop.popen("attachctl", "record", box, "-o", path) as recorder:
        wait_for(lambda: path.exists() and path.stat().st_size > 1 << 20)
        recorder.kill()
    lines = path.read_bytes().split(b"\n")[:-1]

    assert json.loads(lines[0])["version"] == 2
    assert all(len(json.loads(line)) == 3 for line in lines[1:])


def test_a_recording_ends_after_so_many_seconds_or_at_a_moment(shop) -> None:
    """Of silence, and of what is long over: by the times of the output."""
    box, times = echoing(shop)
    assert output(record(shop, box, "--for", "0.3")[1]) == ""
    first, second = map(parse_rfc3339, times[:2])
    seconds = f"{(second - first + 1) / 10**9:.9f}"

    for words in (("--for", seconds), ("--until", times[1])):
        assert output(record(shop, box, "--from", "start", *words)[1]) == "a\r\nb\r\n"
    assert output(record(shop, box, "--from", "start", "--until", "2001-01-01")[1]) == ""


def test_a_terminal_in_the_middle_of_its_life_begins_as_it_was(shop) -> None:
    """Now, from a line on, and from an offset on; with its sizes, and to the same end."""
    draw = r"printf 'top\r\n\033[3;5H\033[31mred\033[m\r\n'; read x; printf '\033[1;1Hnew'; exit 2"
    box = shop.run("sh", "-c", f"stty -echo; {draw}", options=("-itd", "--size", "40x10"))
    wait_for(lambda: b"red" in shop.log(box))
    path = shop.scratch / "live.cast"
    with shop.popen("attachctl", "record", box, "-o", path) as recorder:
        wait_recording(path, b"red")
        shop.ctl("resize", box, "50x12")
        wait_recording(path, b'"r", "50x12"')
        shop.ctl("send", box, "")
        assert recorder.wait(PATIENCE) == 0
    header, events = read(path)
    assert (header["width"], header["height"]) == (40, 10)
    assert events[0][:2] == [0, "o"]
    assert [e[1:] for e in events[1:]] == [
        ["r", "50x12"],
        ["o", "\x1b[1;1Hnew"],
        ["m", "exit 2"],
    ]
    last = screen(header, events)

    assert last == ["new", "", "    red"]
    shop.ended(box)
    beyond = ("-o", shop.scratch / "none.cast", "--from", "offset:300000")
    assert "offset 300000 is in the future" in refused(shop, "record", box, *beyond)
    for where in ("start", "tail:1", "offset:9", "live"):
        assert screen(*record(shop, box, "--from", where)) == last
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    assert "offset 300000 is in the future" in refused(shop, "record", box, *beyond)
    assert not beyond[1].exists()
    for where in ("start", "tail:1", "offset:9", "live"):
        again = record(shop, box, "--from", where)
        assert screen(*again) == last
        told = [e[2] for e in again[1] if e[1] == "r"]
        sizes = [f"{again[0]['width']}x{again[0]['height']}", *told]
        assert sizes == ["40x10", "50x12"][where in ("tail:1", "live") :]


def test_a_recording_begins_at_a_moment(shop) -> None:
    """``--since``, as ``attachctl logs`` has it."""
    box, times = echoing(shop)
    assert output(record(shop, box, "--since", times[0], "--for", "0.1")[1]).startswith(
        "a\r\n"
    )
    assert (
        output(record(shop, box, "--since", times[1], "--until", times[2])[1]) == "b\r\nc\r\n"
    )


def test_what_is_typed_is_recorded_where_that_is_asked_for(shop) -> None:
    """It may be a password: nobody records it by accident."""
    box = shop.run("sh", "-c", "stty -echo; echo up; read x; echo ok", options=("-itd",))
    paths = [shop.scratch / name for name in ("typed.cast", "plain.cast")]
    with (
        shop.popen("attachctl", "record", box, "--input", "-o", paths[0]) as typed,
        shop.popen("attachctl", "record", box, "-o", paths[1]) as plain,
    ):
        for path in paths:
            wait_recording(path, b"up")
        shop.ctl("send", box, "secret")
        assert [typed.wait(PATIENCE), plain.wait(PATIENCE)] == [0, 0]

    assert [event[1:] for event in read(paths[0])[1] if event[1] == "i"] == [["i", "secret\r"]]
    assert "secret" not in paths[1].read_text()


def test_a_recording_goes_on_when_the_server_was_killed(shop) -> None:
    """It is a pause, and nothing else: every line is there once."""
    count = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i; done"
    box = shop.create("sh", "-c", count)
    path = shop.scratch / "x.cast"
    with shop.popen("attachctl", "record", box, "-o", path) as recorder:
        wait_recording(path, b"}\n")
        shop.ctl("start", box)
        wait_recording(path, b"line 100")
        os.kill(shop.server(box), signal.SIGKILL)
        assert recorder.wait(PATIENCE) == 0
    _, events = read(path)

    assert output(events) == "".join(f"line {i}\r\n" for i in range(1, 30_001))
    assert events[-1][1:] == ["m", "exit 0"]


def test_output_that_is_gone_is_a_marker(shop) -> None:
    """In its place, at the time of what came before."""
    box = shop.run(
        "sh", "-c", "head -c 400000 /dev/zero | tr '\\0' x; echo; echo end; read x",
        options=("-i", "--log", "none", "--ring-size", "65536"),
    )  # fmt: skip
    path = shop.scratch / "x.cast"
    with shop.popen("attachctl", "record", box, "--from", "start", "-o", path) as recorder:
        wait_recording(path, b"end")
        recorder.send_signal(signal.SIGINT)
    _, events = read(path)

    assert events[0][1] == "m"
    assert events[0][2].startswith("gap: ")
    assert events[0][2].endswith(" bytes from offset 0: no longer there")


def test_a_recording_goes_to_our_stdout(shop) -> None:
    """For a pipe; who reads no more ends it."""
    box = shop.run("sh", "-c", "while echo line; do :; done")
    with shop.popen("attachctl", "record", box, "-o", "-") as recorder:
        assert json.loads(recorder.stdout.readline())["version"] == 2
        recorder.stdout.close()
        assert recorder.wait(PATIENCE) == 141


def test_a_file_that_is_there_is_not_overwritten_by_accident(shop) -> None:
    """Nor by a recording that comes to nothing."""
    box, path = shop.run("true"), shop.scratch / "x.cast"
    shop.ended(box)
    path.write_text("mine")

    assert "is there already: add --overwrite" in refused(shop, "record", box, "-o", path)
    assert path.read_text() == "mine"
    assert "no container" in refused(shop, "record", "none", "-o", path, "--overwrite")
    assert path.read_text() == "mine"
    assert [e[1:] for e in record(shop, box)[1]] == [["m", "exit 0"]]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-o", "/nowhere/x.cast"), "cannot write /nowhere/x.cast: No such file"),
        (("-o", "/"), "/ is there already"),
        (("-o", "x", "--from", "yesterday"), "is none of start, live"),
        (("-o", "x", "--from", "none"), "nothing is to be recorded"),
        (("-o", "x", "--from", "offset:9"), "offset 9 is in the future of 2"),
        (("-o", "x", "--since", "never"), "is no time"),
        (("-o", "x", "--for", "-1"), "no positive number"),
        (("-o", "x", "--size", "big"), "is not a size"),
        (("-o", "/dev/full"), "cannot write /dev/full: "),
        ((), "required"),
    ],
)  # fmt: skip
def test_what_cannot_be_recorded_is_told_in_one_line(shop, words, told) -> None:
    """Nothing is left of it."""
    box = shop.run("echo", "x")
    shop.ended(box)
    assert told in refused(shop, "record", box, *words)


def test_a_terminal_has_a_size_of_its_own(shop) -> None:
    """And what keeps no log has no past, once it has ended."""
    box = shop.run("true", options=("-td", "--log", "none", "--linger", "0"))
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    assert "has a terminal" in refused(shop, "record", box, "-o", "-", "--size", "80x24")
    assert "keeps no log" in refused(shop, "record", box, "-o", shop.scratch / "x")


# play


def cast(shop, text: str, name: str = "x.cast") -> Path:
    path = shop.scratch / name
    path.write_text(text)
    return path


def test_a_recording_is_played_as_it_was(shop) -> None:
    """Only its output; from a file and from our stdin."""
    text = (
        HEADER
        + '[0.1, "o", "żółw\\r\\n"]\n[0.2, "i", "x"]\n[0.2, "m", "y"]\n[0.3, "o", "z"]\n'
    )
    path = cast(shop, text)

    assert shop.ctl("play", path) == "żółw\r\nz".encode()
    done = shop.call("attachctl", "play", "-s", "9", "-", input=text.encode())
    assert done.stdout == "żółw\r\nz".encode()


def test_pauses_are_cut(shop) -> None:
    """By a word of ours, or of the file."""
    words = '[1000, "o", "a"]\n[5000, "o", "b"]\n'
    assert shop.ctl("play", "-i", "0.01", cast(shop, HEADER + words)) == b"ab"
    header = HEADER.replace("}", ', "idle_time_limit": 0.01}')
    assert shop.ctl("play", cast(shop, header + words)) == b"ab"
    assert shop.ctl("play", "-s", "100000", cast(shop, HEADER + words)) == b"ab"


def test_a_recording_that_is_cut_short_is_played_as_far_as_it_goes(shop) -> None:
    """Then one line says so."""
    path = cast(shop, HEADER + '[0, "o", "whole"]\n[0.1, "o", "cu')
    done = shop.call("attachctl", "play", path, check=False)

    assert (done.returncode, done.stdout) == (125, b"whole")
    told = f"attachctl: {path} is cut short: line 3, its last one, is not whole\n"
    assert done.stderr.decode() == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is no asciicast: its first line is no header"),
        ("hello\n", "is no asciicast: its first line is no header"),
        ('{"version": 1, "stdout": []}\n', "is asciicast 1: only 2 and 3 are known"),
        (HEADER + "[]\n[]\n", "is damaged: line 2 is no event"),
    ],
)
def test_what_is_no_recording_is_told_in_one_line(shop, text, told) -> None:
    """And so is a file that is not there, or is none."""
    assert told in refused(shop, "play", cast(shop, text))
    assert "No such file" in refused(shop, "play", shop.scratch / "none")
    assert "Is a directory" in refused(shop, "play", shop.scratch)
    assert "no positive number" in refused(shop, "play", "-s", "0", "x")


@pytest.mark.parametrize("how", ["ctrl-C", "end"])
def test_the_terminal_is_given_back_after_playing(shop, panes, how) -> None:
    """Its modes and its settings; questions of the program are not asked again."""
    modes = "\\u001b[?1049h\\u001b[?1000h\\u001b[?25l\\u001b[6n\\u001b[cplaying"
    last = '[1000, "o", "x"]\n' if how == "ctrl-C" else ""
    path = cast(shop, HEADER + f'[0, "o", "{modes}"]\n{last}')
    pane = panes.open()
    before = pane.stty(), pane.modes
    line = f"attachctl play {shlex.quote(str(path))}; echo code $?"
    pane.enter(line)
    if how == "ctrl-C":
        pane.wait_line("playing")
        assert pane.stty() != before[0]
        pane.type("keys that nobody wants")
        pane.press("C-c")
    pane.wait_line("code 130" if how == "ctrl-C" else "code 0")
    pane.wait_last(r"\$")

    assert (pane.stty(), pane.modes) == before
    assert pane.screen[0].endswith("echo code $?") or "code" in pane.screen[1]


def test_ctrl_c_ends_the_wait_for_a_pipe(shop) -> None:
    """Whoever writes there may never write again."""
    with shop.popen("attachctl", "play", "-", stdin=subprocess.PIPE) as player:
        player.stdin.write(HEADER.encode() + b'[0, "o", "shown"]\n')
        assert player.stdout.read(5) == b"shown"
        player.send_signal(signal.SIGINT)
        assert player.wait(PATIENCE) == 130
        assert player.stderr.read() == b""


def test_what_is_recorded_can_be_seen_at_once(shop) -> None:
    """One program's stdout is the other one's stdin."""
    box = shop.run("sh", "-c", "read x; echo seen", options=("-i",))
    with (
        shop.popen("attachctl", "record", box, "-o", "-") as recorder,
        shop.popen("attachctl", "play", "-", stdin=recorder.stdout) as player,
    ):
        wait_for(lambda: len(json.loads(shop.ctl("stats", box))["clients"]) == 2)
        shop.ctl("send", box, "go")
        assert player.stdout.read() == b"seen\r\n"
        assert [recorder.wait(PATIENCE), player.wait(PATIENCE)] == [0, 0]


def test_who_looks_no_more_ends_it(shop) -> None:
    """As any program at the head of a pipe."""
    words = "".join(f'[{i / 1000}, "o", "line\\r\\n"]\n' for i in range(100_000))
    with shop.popen("attachctl", "play", cast(shop, HEADER + words)) as player:
        assert player.stdout.readline() == b"line\r\n"
        player.stdout.close()
        assert player.wait(PATIENCE) == 141


def test_a_long_recording_costs_no_memory(shop) -> None:
    """It is read as it is shown: twenty times as much takes no more."""
    line, found = '[0, "o", "' + "x" * (1 << 16) + '"]\n', []
    for count in (100, 2000):
        path = cast(shop, HEADER)
        with open(path, "a") as file:
            file.writelines([line] * count)
        with open(os.devnull, "wb") as null:
            player = shop.popen("attachctl", "play", path, stdout=null)
        _, status, usage = os.wait4(player.pid, 0)
        player.returncode = os.waitstatus_to_exitcode(status)
        player.stderr.close()
        assert player.returncode == 0
        found.append(usage.ru_maxrss)

    assert found[1] < found[0] + 20_000  # kB; the file is 130,000
