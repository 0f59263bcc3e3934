"""A server that cannot start: the container waits, ``inspect`` says why, a mended one takes up."""

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest
from copies import Copy
from harness import PATIENCE, Shop, wait_for

pytestmark = pytest.mark.runc

#: Says the numbers up to N, and then ends with 7.
COUNTS = "i=0; while [ $i -lt $0 ]; do i=$((i+1)); echo $i; done; exit 7"


@pytest.fixture
def code(tmp_path: Path) -> Copy:
    """An attachd of our own, to be broken."""
    return Copy(tmp_path / "code")


def run(shop: Shop, code: Copy, *command: str, options: tuple[object, ...] = ()) -> str:
    box = shop.name()
    code.call(shop, "attachd", "run", *options, box, "--", *command)
    return box


def break_and_kill(shop: Shop, code: Copy, box: str) -> None:
    """Have no server start any more; return when two have tried."""
    server = wait_for(lambda: shop.ctl("stats", box) and shop.server(box))
    code.edit("attachd/live/shim.py", "import os\n", "import os\nimport no_such_module\n")
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: trouble(shop, box).get("failures", 0) >= 2)


def trouble(shop: Shop, box: str) -> dict:
    try:
        return json.loads(shop.path(box, "trouble.json").read_text())
    except FileNotFoundError:
        return {}


def mend(code: Copy) -> None:
    code.edit("attachd/live/shim.py", "import os\nimport no_such_module\n", "import os\n")


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % i for i in range(1, count + 1))


def test_the_container_waits_and_a_mended_server_takes_up_everything(shop, code) -> None:
    """More than a pipe's worth of output comes while there is no server: not a byte is lost."""
    count = 300_000
    script = f"read x; {COUNTS}"
    box = run(shop, code, "sh", "-c", script, str(count), options=("-i",))
    break_and_kill(shop, code, box)
    init = shop.state(box)["pid"]
    Path(f"/proc/{init}/fd/0").write_text("go\n")
    waits = f"/proc/{init}/wchan"
    wait_for(lambda: "pipe_write" in Path(waits).read_text())
    mend(code)

    record = shop.ended(box)
    assert (record["exit_code"], record["drained"]) == (7, True)
    said = hashlib.sha256(shop.output(box)).digest()
    assert said == hashlib.sha256(numbers(count)).digest()


def test_inspect_says_why_and_forgets_it_when_it_is_over(shop, code) -> None:
    """How often, how it ended, when it is tried again, and what Python has said."""
    box = run(shop, code, "sleep", "1000")
    break_and_kill(shop, code, box)

    told = json.loads(shop.ctl("inspect", box))
    assert "shim" not in told
    assert told["trouble"]["why"] == "the server ended with code 1"
    assert told["trouble"]["failures"] >= 2
    assert 0 < told["trouble"]["next_try_seconds"] <= 5
    last = "ModuleNotFoundError: No module named 'no_such_module'"
    assert told["trouble"]["last_words"][-1] == last
    assert told["state"]["phase"] == "running"

    mend(code)
    wait_for(lambda: "shim" in json.loads(shop.ctl("inspect", box)))
    wait_for(lambda: not trouble(shop, box))
    assert "trouble" not in json.loads(shop.ctl("inspect", box))


def test_the_wait_grows_while_it_is_broken_and_not_when_one_is_killed(shop, code) -> None:
    """A broken one doubles its wait; one that worked and was killed comes back at once."""
    box = run(shop, code, "sleep", "1000")
    for _ in range(4):
        before = json.loads(shop.ctl("stats", box))["server_pid"]
        os.kill(before, signal.SIGKILL)
        wait_for(lambda before=before: shop.server(box) not in (0, before))
        assert not trouble(shop, box)
    break_and_kill(shop, code, box)
    first = trouble(shop, box)
    later = wait_for(lambda: (t := trouble(shop, box))["failures"] > first["failures"] and t)
    mend(code)
    ratio = 2 ** (later["failures"] - first["failures"])
    assert later["next_try_seconds"] == first["next_try_seconds"] * ratio


def test_who_does_not_start_can_be_upgraded_to_what_does(shop, code) -> None:
    """``attachctl upgrade`` needs no server: the keeper does it."""
    box = run(shop, code, "cat", options=("-i",))
    break_and_kill(shop, code, box)

    shop.ctl("upgrade", box)

    shop.ctl("send", "--eof", box, "here")
    assert shop.ended(box)["exit_code"] == 0
    assert shop.output(box) == b"here\n"


def test_the_exit_is_known_however_long_there_is_no_server(shop, code) -> None:
    """The keeper has noted it."""
    box = run(shop, code, "sh", "-c", "read x; exit 7", options=("-i",))
    break_and_kill(shop, code, box)
    init = shop.state(box)["pid"]
    Path(f"/proc/{init}/fd/0").write_text("go\n")
    wait_for(lambda: not Path(f"/proc/{init}").exists())
    mend(code)

    assert shop.ended(box)["exit_code"] == 7


def test_shim_log_does_not_grow_for_ever(shop, code) -> None:
    """What servers have said is begun anew when it is too long; the last one's words are there."""
    box = run(shop, code, "sleep", "1000")
    wait_for(lambda: shop.ctl("stats", box))
    log = shop.path(box, "shim.log")
    with log.open("ab") as file:
        file.write(b"old words\n" * 100_000)
    break_and_kill(shop, code, box)

    wait_for(lambda: log.stat().st_size < 256 * 1024)
    wait_for(lambda: b"no_such_module" in log.read_bytes())
    mend(code)


def test_it_can_be_removed_by_force(shop, code) -> None:
    """A shim that cannot even say goodbye goes, its container with it."""
    box = run(shop, code, "sleep", "1000")
    break_and_kill(shop, code, box)

    refused = shop.call("attachctl", "rm", box, check=False)
    shop.ctl("rm", "--force", box)

    assert refused.returncode == 125
    assert not shop.path(box).exists()
    assert not shop.processes()


def test_who_waits_for_it_is_told_why(shop, code) -> None:
    """At once when a program waits as long as it takes, otherwise when its time is over."""
    box = run(shop, code, "cat", options=("-i",))
    break_and_kill(shop, code, box)
    wait_for(lambda: trouble(shop, box)["failures"] >= 3)
    why = f"see 'attachctl inspect {box}'\n".encode()
    waiting = [
        shop.popen("attach", "--no-stdin", box),
        shop.popen("attachctl", "exec", box, "true"),
        shop.popen("attachctl", "send", box, "x"),
    ]
    late = shop.popen("attachctl", "kill", box, "CONT")
    for program in waiting:
        assert program.stderr.readline().endswith(why)
    _, words = late.communicate(timeout=PATIENCE)
    assert b"did not answer in time, and its server does not stay" in words
    assert words.endswith(why)

    mend(code)
    attached, *others = waiting
    for program in others:
        program.communicate(timeout=PATIENCE)
        assert program.returncode == 0
    shop.ctl("send", "--eof", box, "")
    assert attached.communicate(timeout=PATIENCE)[0].startswith(b"x\n")
