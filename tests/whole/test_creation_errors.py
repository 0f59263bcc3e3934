"""Requirement 2: a typo is told at creation, and nothing is left of it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import PATIENCE, wait_for

pytestmark = pytest.mark.runc


def nothing_is_left(shop, box: str) -> None:
    """No process, socket, directory, log or container."""
    wait_for(lambda: not shop.processes())
    assert not shop.path(box).exists()
    listed = subprocess.run(["runc", "list", "-q"], capture_output=True, timeout=PATIENCE)
    assert box not in listed.stdout.decode().split()


def refused(shop, *words: object, code: int = 125) -> str:
    """Call attachd, expect ``code`` and one line on stderr; return it."""
    done = shop.call("attachd", *words, check=False)
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert text.startswith("attachd: ")
    assert text.count("\n") == 1
    return text


def report_of(shop, *words: object) -> dict:
    """Call attachd with --sync-fd; return the report."""
    read, write = os.pipe()
    shop.call(
        "attachd", words[0], "--sync-fd", write, *words[1:], check=False, pass_fds=(write,)
    )
    os.close(write)
    with open(read) as file:
        lines = file.read().splitlines()
    assert len(lines) == 1
    return json.loads(lines[0])


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_misspelt_program_is_127_in_the_runtimes_words(shop, verb) -> None:
    """runc's words are on stderr; nothing is left."""
    box = shop.name()
    text = refused(shop, verb, box, "--", "bahs", code=127)

    assert "executable file not found in $PATH" in text
    nothing_is_left(shop, box)


def test_a_program_that_is_not_executable_is_126(shop) -> None:
    """As shells have it."""
    box = shop.name()
    refused(shop, "run", box, "--", "/etc/passwd", code=126)
    nothing_is_left(shop, box)


def test_the_report_tells_the_error_and_the_runtimes_stderr(shop) -> None:
    """--sync-fd: one JSON line."""
    box = shop.name()
    error = report_of(shop, "run", box, "--", "bahs")["error"]

    assert "executable file not found in $PATH" in error["message"]
    assert "executable file not found in $PATH" in error["runtime_stderr"]
    assert error["code"] == "runtime"
    nothing_is_left(shop, box)


def test_the_report_tells_the_pid(shop) -> None:
    """--sync-fd: {"pid": N} when creation worked."""
    box = shop.name()
    report = report_of(shop, "run", box, "--", "sleep", "1000")

    assert report == {"pid": shop.state(box)["pid"]}


def test_a_missing_bundle_is_refused(shop) -> None:
    """Before anything was made; the report tells it as well."""
    box = shop.name()
    assert "no such directory" in refused(shop, "run", "--bundle", "/nowhere", box)
    assert (
        "no such directory"
        in report_of(shop, "run", "--bundle", "/nowhere", box)["error"]["message"]
    )
    nothing_is_left(shop, box)


@pytest.mark.parametrize(
    "text", ["{bad", "[]", '{"process": 3}', '{"ociVersion": 7}', "{}", ""]
)
def test_a_broken_configuration_is_refused(shop, text) -> None:
    """By us when it is not JSON, by the runtime when it is not OCI."""
    box = shop.name()
    bundle = shop.scratch / "broken"
    bundle.mkdir()
    (bundle / "config.json").write_text(text)
    refused(shop, "run", "--bundle", bundle, box)
    nothing_is_left(shop, box)


def test_a_missing_runtime_is_refused(shop) -> None:
    """With a word on how to name another."""
    box = shop.name()
    assert "--runtime" in refused(shop, "run", "--runtime", "/no/runc", box, "--", "true")
    nothing_is_left(shop, box)


def test_an_id_in_use_is_refused_and_its_container_unharmed(shop) -> None:
    """The first container runs on."""
    box = shop.run("sleep", "1000")
    assert "in use" in refused(shop, "run", box, "--", "true")
    assert json.loads(shop.ctl("stats", box))["phase"] == "running"


def test_an_id_that_the_runtime_has_is_refused_and_left_alone(shop) -> None:
    """A container that another manager made under the same id is not deleted."""
    box = shop.run("sleep", "1000")
    other = shop.root / "other"
    done = shop.call("attachd", "run", "--root", other, box, "--", "true", check=False)

    assert done.returncode == 125
    assert not (other / box).exists()
    assert json.loads(shop.ctl("stats", box))["phase"] == "running"


@pytest.mark.parametrize("box", ["a/b", "..", ".", "-x", "a b", "x" * 129, "a\nb", ""])
def test_an_invalid_id_is_refused(shop, box) -> None:
    """Whatever could be a path, an option, or no id of runc's."""
    refused(shop, "run", "--", "true") if not box else refused(
        shop, "run", "--log=none", "--", "x"
    )
    before = sorted(shop.root.parent.iterdir())
    done = shop.call("attachd", "run", "--log", "none", box, "--", "true", check=False)
    assert done.returncode == 125
    assert sorted(shop.root.parent.iterdir()) == before


def test_an_unwritable_log_directory_is_refused(shop) -> None:
    """And the state directory is gone again."""
    box = shop.name()
    assert "cannot" in refused(shop, "run", "--log", "/proc/nope/x.log", box, "--", "true")
    assert "cannot" in refused(shop, "run", "--log", f"cri:{shop.scratch}", box, "--", "true")
    nothing_is_left(shop, box)


def test_a_log_that_was_made_for_a_failed_container_is_gone(shop) -> None:
    """Its directory, too."""
    box = shop.name()
    path = shop.scratch / "a" / "b" / "x.log"
    refused(shop, "run", "--log", path, box, "--", "bahs", code=127)

    assert not (shop.scratch / "a").exists()


def test_a_socket_path_over_107_bytes_works(shop, tmp_path: Path) -> None:
    """Bound and reached by way of /proc/self/fd."""
    shop.root = tmp_path / ("long" * 40) / "root"
    box = shop.run("sh", "-c", "sleep 0.2; echo far")
    done = shop.call("attach", "--from", "start", box)

    assert len(str(shop.path(box, "attach.sock"))) > 107
    assert done.stdout == b"far\n"


@pytest.mark.parametrize(
    "words",
    [
        ("run", "x"),
        ("run", "--bundle", "/b", "x", "--", "y"),
        ("run", "--log", "xml:/p", "x", "--", "y"),
        ("run", "--log", "cri:", "x", "--", "y"),
        ("run", "--ring-size", "1", "x", "--", "y"),
        ("run", "--timeout", "-1", "x", "--", "y"),
        ("run", "--timeout", "nan", "x", "--", "y"),
        ("run", "--sync-fd", "99", "x", "--", "y"),
        ("run", "--stdin-once", "x", "--", "y"),
        ("run", "--exit-command-arg", "z", "x", "--", "y"),
        ("run", "--oom-score-adj", "5000", "x", "--", "y"),
        ("run", "--no-such-option", "x", "--", "y"),
        ("frobnicate",),
        (),
    ],
)
def test_bad_words_get_one_line_and_125(shop, words) -> None:
    """And nothing is made."""
    refused(shop, *words)
    assert not shop.root.exists()


def test_a_runtime_that_says_yes_and_does_nothing_is_told(shop) -> None:
    """It ends with 0 and writes no pid: an error like any other, and nothing is left."""
    box = shop.name()
    mute = shop.scratch / "mute"
    mute.write_text("#!/bin/sh\nexit 0\n")
    mute.chmod(0o755)
    assert "wrote no pid" in refused(shop, "run", "--runtime", mute, box, "--", "true")
    nothing_is_left(shop, box)


def test_a_pid_file_that_cannot_be_written_undoes_the_creation(shop) -> None:
    """The container that was made already is deleted again."""
    box = shop.name()
    path = shop.scratch / "missing" / "pid"
    assert "missing/pid" in refused(shop, "run", "--pid-file", path, box, "--", "sleep", "99")
    nothing_is_left(shop, box)


def test_a_runtime_that_hangs_is_given_up(shop) -> None:
    """--create-timeout: the runtime is killed, everything is cleaned up."""
    box = shop.name()
    slow = shop.scratch / "slow"
    slow.write_text('#!/bin/sh\ncase "$*" in *create*) exec sleep 1000;; esac\n')
    slow.chmod(0o755)
    text = refused(
        shop, "run", "--runtime", slow, "--create-timeout", "0.3", box, "--", "true"
    )
    assert "0.3 seconds" in text
    nothing_is_left(shop, box)


def test_a_runtime_that_floods_stderr_is_bounded(shop) -> None:
    """10 MB of errors become a bounded report that keeps both ends."""
    box = shop.name()
    loud = shop.scratch / "loud"
    loud.write_text(
        '#!/bin/sh\ncase "$*" in *create*) echo first >&2;'
        " dd if=/dev/zero bs=1M count=10 2>/dev/null | tr '\\0' x >&2;"
        " echo >&2; echo last >&2; exit 3;; esac\n"
    )
    loud.chmod(0o755)
    error = report_of(shop, "run", "--runtime", loud, box, "--", "true")["error"]

    assert error["message"].endswith("last")
    assert error["runtime_stderr"].startswith("first")
    assert len(error["runtime_stderr"]) < 64 * 1024
    nothing_is_left(shop, box)


# Every mistake, three ways: the exit code and stderr, the report, and what is left.


def _spec_without(key: str):
    def make(shop) -> tuple[object, ...]:
        bundle = shop.bundle("true")
        shop.patch(bundle, lambda spec: spec.pop(key))
        return ("--bundle", bundle)

    return make


def _patched(change):
    def make(shop) -> tuple[object, ...]:
        bundle = shop.bundle("true")
        shop.patch(bundle, change)
        return ("--bundle", bundle)

    return make


def _no_config(shop) -> tuple[object, ...]:
    (shop.scratch / "empty").mkdir()
    return ("--bundle", shop.scratch / "empty")


def _broken_config(shop) -> tuple[object, ...]:
    bundle = shop.bundle("true")
    (bundle / "config.json").write_text('{"ociVersion": "1.0.2", "process": {')
    return ("--bundle", bundle)


def _log_below_a_file(shop) -> tuple[object, ...]:
    (shop.scratch / "file").write_text("")
    return ("--log", shop.scratch / "file" / "x.log", "--", "true")


def _runtime(body: str):
    """Return words that name a runtime that is runc but for what ``body`` does."""

    def make(shop) -> tuple[object, ...]:
        path = shop.scratch / "runtime"
        path.write_text(f'#!/bin/sh\n{body}\nexec runc "$@"\n')
        path.chmod(0o755)
        return ("--runtime", path, "--", "true")

    return make


def _not_executable(shop) -> tuple[object, ...]:
    path = shop.scratch / "runtime"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)
    return ("--runtime", path, "--", "true")


FAILS_AT = 'case " $* " in *" {} "*) echo "not {} today" >&2; exit 3;; esac'

#: name -> (words after the id's place, exit code, what is said)
MISTAKES = {
    "a misspelt program": (
        lambda _: ("--", "bahs"), 127, "executable file not found in $PATH",
    ),
    "a path that is not there": (lambda _: ("--", "/no/such"), 127, "no such file"),
    "a program without x": (lambda _: ("--", "/etc/passwd"), 126, "permission denied"),
    "a missing bundle": (lambda _: ("--bundle", "/nowhere"), 125, "no such directory"),
    "a bundle without config.json": (_no_config, 125, "no config.json"),
    "a broken config.json": (_broken_config, 125, "broken"),
    "a config.json without a root": (_spec_without("root"), 125, ""),
    "a root that is not there": (
        _patched(lambda spec: spec["root"].update(path="nowhere")), 125, "",
    ),
    "a hook that fails": (
        _patched(
            lambda spec: spec.update(hooks={"createRuntime": [{"path": "/bin/false"}]})
        ), 125, "hook",
    ),
    "a missing runtime": (lambda _: ("--runtime", "/no/runc", "--", "true"), 125, "/no/runc"),
    "a runtime that is not executable": (_not_executable, 125, "runtime"),
    "a runtime that fails to create": (
        _runtime(FAILS_AT.format("create", "create")), 125, "not create today",
    ),
    "a runtime that fails to start": (
        _runtime(FAILS_AT.format("start", "start")), 125, "not start today",
    ),
    "a log below a file": (_log_below_a_file, 125, "cannot"),
    "a log in /proc": (lambda _: ("--log", "/proc/nope/x.log", "--", "true"), 125, "cannot"),
    "a log that is a directory": (
        lambda shop: ("--log", f"raw:{shop.scratch}", "--", "true"), 125, "cannot",
    ),
    "a pid file nowhere": (
        lambda _: ("--pid-file", "/proc/nope/pid", "--", "true"), 125, "/proc/nope/pid",
    ),
}  # fmt: skip


def everything_below(path: Path) -> list[Path]:
    return sorted(path.rglob("*"))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_and_nothing_is_left_of_it(shop, mistake) -> None:
    """Exit code and one line on stderr; the same words in the JSON report; no trace."""
    make, code, words = MISTAKES[mistake]
    box = shop.name()
    made = list(make(shop))
    cut = made.index("--") if "--" in made else len(made)
    files = ("--keeper-pid-file", shop.scratch / "keeper.pid")
    if "--pid-file" not in made:
        files += ("--pid-file", shop.scratch / "container.pid")
    line = [*made[:cut], *files, box, *made[cut:]]
    shop.root.mkdir(mode=0o700, exist_ok=True)
    before = everything_below(shop.scratch)

    assert words in refused(shop, "run", *line, code=code)
    nothing_is_left(shop, box)
    assert everything_below(shop.scratch) == before

    error = report_of(shop, "run", *line)["error"]
    assert set(error) == {"code", "message", "runtime_stderr"}
    assert words in error["message"]
    nothing_is_left(shop, box)
    assert everything_below(shop.scratch) == before

    shop.call("attachd", "run", box, "--", "echo", "fine")  # the id is free
    assert shop.ended(box)["exit_code"] == 0


def test_an_id_in_use_is_told_in_the_report(shop) -> None:
    """Running, created, or ended and not removed."""
    running, created, ended = shop.run("sleep", "1000"), shop.create("true"), shop.run("true")
    shop.ended(ended)
    for box in (running, created, ended):
        before = everything_below(shop.path(box))
        error = report_of(shop, "run", box, "--", "true")["error"]
        assert "in use" in error["message"]
        assert set(before) - {shop.path(box, "attach.sock")} <= {
            *everything_below(shop.path(box))
        }
    assert json.loads(shop.ctl("stats", running))["phase"] == "running"
    assert json.loads(shop.ctl("stats", created))["phase"] == "created"


def test_an_invalid_id_is_told_in_the_report(shop) -> None:
    """Before anything was made."""
    error = report_of(shop, "run", "no/slashes", "--", "true")["error"]

    assert "no/slashes" in error["message"]
    assert not shop.root.exists()


def test_of_two_that_want_the_same_id_one_gets_it(shop) -> None:
    """At the same moment: one container, one refusal, and the container is whole."""
    box = shop.name()
    rivals = [shop.popen("attachd", "run", box, "--", "sleep", "1000") for _ in range(6)]
    ends = [(rival.communicate(timeout=PATIENCE), rival.returncode) for rival in rivals]

    assert sorted(code for _, code in ends) == [0] + [125] * 5
    assert all(b"in use" in err for (_, err), code in ends if code)
    assert wait_for(lambda: shop.server(box))
    assert json.loads(shop.ctl("stats", box))["phase"] == "running"


def test_with_a_sync_descriptor_the_launcher_returns_at_once(shop) -> None:
    """While the runtime still works; the report comes when it is done."""
    box = shop.name()
    go = shop.scratch / "go"
    words = _runtime(
        f'case " $* " in *" create "*) until [ -e {go} ]; do sleep 0.02; done;; esac'
    )(shop)
    read, write = os.pipe()
    line = ("run", "--sync-fd", write, *words[:-2], box, *words[-2:])
    done = shop.call("attachd", *line, pass_fds=(write,))
    os.close(write)
    os.set_blocking(read, False)
    with open(read, "rb", buffering=0) as file:
        assert done.returncode == 0
        assert file.read() is None
        go.touch()
        os.set_blocking(read, True)
        report = json.loads(file.readall())

    assert report == {"pid": shop.state(box)["pid"]}


def test_every_program_works_under_a_root_over_107_bytes(shop, tmp_path: Path) -> None:
    """create, start, attach, ls, stats, kill, logs, wait, rm."""
    shop.root = tmp_path / ("deep" * 30) / ("deeper" * 20)
    box = shop.create("sh", "-c", "echo far; sleep 1000")
    early = shop.popen("attach", "--from", "start", box)
    shop.call("attachd", "start", box)

    assert early.stdout.readline() == b"far\n"
    assert box in shop.ctl("ls").decode()
    assert json.loads(shop.ctl("stats", box))["id"] == box
    shop.ctl("kill", box)
    assert early.communicate(timeout=PATIENCE)[0] == b""
    assert early.returncode == 137
    assert shop.ctl("wait", box) == b"137\n"
    assert shop.ctl("logs", box) == b"far\n"
    shop.ctl("rm", box)
    assert not shop.path(box).exists()
