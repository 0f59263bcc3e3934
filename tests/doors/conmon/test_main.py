"""The installed program: what it says where, how it ends, and what it does not load."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attachd.doors.conmon.usage import help_text, version_text

PROGRAM = Path(sys.executable).with_name("attachd-conmon")
ID = "0123456789abcdef"
GOOD = ["-c", ID, "-u", "u", "-r", "/bin/true", "-l", "none"]

#: The same program without the shell in front of it.
PYTHON = "from attachd.doors.conmon.main import main; main()"

#: Stands in for the launcher: says what it was called with, and returns 7.
LAUNCH = """
import os, sys, types
def launch(options, drivers):
    os.umask(umask := os.umask(0))
    print(repr(options), repr(drivers), oct(umask), flush=True)
    return 7
sys.modules["attachd.doors.conmon.launcher"] = types.SimpleNamespace(launch=launch)
from attachd.doors.conmon.main import main
main()
"""


def run(*words: str, **how) -> subprocess.CompletedProcess[str]:
    """The program with these words; its output is text."""
    return subprocess.run(
        [PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False, **how
    )


def launched(*words: str, **how) -> subprocess.CompletedProcess[str]:
    """The same, with another launcher."""
    command = [sys.executable, "-I", "-c", LAUNCH, *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **how
    )


def loaded(*words: str) -> set[str]:
    """The names of all modules that the program loads for these words, in Python."""
    command = [sys.executable, "-X", "importtime", "-c", PYTHON, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize(
    "words", [["--version"], ["-t", "--version", "-c", "x"], ["--version=x", "stray"]]
)
def test_version(words) -> None:
    """On stdout, whatever else is asked for; the exit code is 0."""
    done = run(*words)

    assert (done.returncode, done.stdout, done.stderr) == (0, version_text(), "")


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["-?"], ["--help-all"], ["-t?", "-x"]])
def test_help(words) -> None:
    """On stdout; what comes after it is not looked at."""
    done = run(*words)

    assert (done.returncode, done.stdout, done.stderr) == (0, help_text(), "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--version", "--termin"],
         "conmon: option parsing failed: Unknown option --termin"),
        (["-T", "5q"],
         "conmon: option parsing failed: Cannot parse integer value “5q” for -T"),
        ([], "conmon: Container ID not provided. Use --cid"),
        (["-c", "x", "--log-level", "loud"], "[conmon:e]: No such log level loud"),
        (["--syslog", *GOOD, "-l", "json-file:/x"],
         "[conmon:e]: No such log driver json-file"),
    ],
)  # fmt: skip
def test_refusals(words, line) -> None:
    """One line on stderr, nothing on stdout; the exit code is 1."""
    done = run(*words)

    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{line}\n")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_words_that_are_no_text(locale) -> None:
    """Come back byte by byte, in every locale."""
    done = subprocess.run(
        [PROGRAM, b"--\xff\xc3\xa9"],
        env={**os.environ, "LC_ALL": locale},
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == b"conmon: option parsing failed: Unknown option --\xff\xc3\xa9\n"


@pytest.mark.parametrize("how", [">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
@pytest.mark.parametrize(
    ("words", "code"), [(["--version"], 0), (["-h"], 0), (["-x"], 1), (["-c", "x"], 1)]
)
def test_nobody_to_tell(how, words, code) -> None:
    """Closed descriptors and full ones change neither the exit code nor anything else."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {how}', PROGRAM, *words],
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_a_reader_that_has_gone() -> None:
    """A broken pipe is no error either."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [PROGRAM, "--help"], stdout=write, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (0, b"")


def test_what_the_launcher_gets() -> None:
    """Checked options and logs, and umask 022; its result is the exit code."""
    words = [*GOOD, "-b", "/b", "-p", "/p", "-l", "/x", "--log-level", "PANIC"]
    done = launched(*words, umask=0o077)

    assert done.returncode == 7
    assert "bundle='/b'" in done.stdout
    assert "log_level='error'" in done.stdout
    assert done.stdout.endswith(" (Driver(driver='k8s-file', path='/x'),) 0o22\n")
    assert done.stderr == ""


def test_a_warning_does_not_keep_the_launcher() -> None:
    """It is told, and the rest goes on."""
    done = launched(*GOOD, "--no-container-partial-message")

    assert done.returncode == 7
    assert done.stderr.startswith("[conmon:w]: --no-container-partial-message has no effect")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("errors.ConmonError('[conmon:e]: as it is')", "[conmon:e]: as it is\n"),
        ("errors.UsageError('no such bundle')", "[conmon:e]: no such bundle\n"),
        ("OSError('no descriptors')", "[conmon:e]: no descriptors\n"),
    ],
)
def test_what_the_launcher_refuses(error, line) -> None:
    """Is told as conmon tells it; other errors get its prefix; none is a traceback."""
    failing = LAUNCH.replace("return 7", f"from attachd import errors; raise {error}")
    done = subprocess.run(
        [sys.executable, "-I", "-c", failing, *GOOD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, line)


def test_standard_descriptors_are_open_for_the_launcher() -> None:
    """Nothing that it opens may get the number of one that the manager has closed."""
    opened = LAUNCH.replace("return 7", "return os.open('/', os.O_RDONLY)")
    command = 'exec "$0" "$@" <&- >&- 2>&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, "-I", "-c", opened, *GOOD],
        timeout=60,
        check=False,
    )

    assert done.returncode == 3


def test_the_version_loads_nothing() -> None:
    """Where Python answers: nothing but the interpreter and the door."""
    ours = {name for name in loaded("--version") if name.startswith("attachd")}
    bare = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", ""],
        capture_output=True, text=True, timeout=60, check=True,
    ).stderr  # fmt: skip

    assert ours == {
        "attachd",
        "attachd.doors",
        "attachd.doors.conmon",
        "attachd.doors.conmon.main",
        "attachd.doors.conmon.telling",
        "attachd.doors.conmon.usage",
    }
    assert {n for n in loaded("--version") if f" {n}\n" not in f"{bare}\n"} == ours


def test_a_refusal_loads_nothing_slow() -> None:
    """What reads and checks a command line is on the way of every container."""
    slow = {"trio", "attr", "attrs", "msgpack", "argparse", "subprocess", "asyncio", "json"}

    assert not loaded(*GOOD, "-l", "bad:") & (slow | {"attachd.cli", "socket", "logging"})


def test_the_version_needs_no_python(tmp_path: Path) -> None:
    """Podman up to 4.3 asks for it before everything it does, and waits for it."""
    alone = shutil.copy(PROGRAM, tmp_path)
    done = subprocess.run([alone, "--version"], capture_output=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, version_text().encode(), b"")
    done = subprocess.run([alone, "-x"], capture_output=True, timeout=60, check=False)
    assert done.returncode == 127
    assert str(tmp_path / "attachd").encode() in done.stderr


def test_links_to_the_program(tmp_path: Path) -> None:
    """Where managers look for conmon a link is enough, also to another and from a name alone."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "conmon").symlink_to(PROGRAM)
    (tmp_path / "conmon").symlink_to("bin/conmon")

    for program in (tmp_path / "bin" / "conmon", tmp_path / "conmon"):
        done = subprocess.run([program, "-x"], capture_output=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.splitlines()) == (
            1,
            [b"conmon: option parsing failed: Unknown option -x"],
        )


def test_a_program_that_the_current_directory_has() -> None:
    """As an empty part of PATH has it: then its name has no directory."""
    done = subprocess.run(
        [PROGRAM.name, "-x"],
        cwd=PROGRAM.parent,
        env={"PATH": ""},
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert done.stderr == b"conmon: option parsing failed: Unknown option -x\n"


@pytest.mark.parametrize(
    "words", [["--version", ""], ["--version", "--", ""], ["", "--version"]]
)
def test_more_words_than_the_version(words) -> None:
    """Are read as all others are."""
    assert (run(*words).returncode, run(*words).stdout) == (0, version_text())


def test_words_reach_python_as_they_are() -> None:
    """Through the shell in front of it: spaces, quotes, patterns and empty words."""
    word = "--a b*\n'\"$(id)`id`\\"

    assert run("-n", "", word).stderr.endswith(f": Unknown option {word}\n")


def test_modules_in_the_current_directory_are_not_ours(tmp_path: Path) -> None:
    """Whatever is there, and wherever the manager was started."""
    for name in ("attachd", "typing", "re", "os"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')")

    assert run("--version", cwd=tmp_path).stdout == version_text()
    assert run("-x", cwd=tmp_path).stderr.endswith("Unknown option -x\n")
