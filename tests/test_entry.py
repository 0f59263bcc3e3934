"""The first word after ``attachd`` may name a door, to which all further words go as they are."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from attachd.doors.conmon.usage import help_text, version_text
from attachd.entry import DOORS

PROGRAM = Path(sys.executable).with_name("attachd")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """``attachd`` with these words; its output is text."""
    return subprocess.run(
        [PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("module", DOORS.values())
def test_every_door_is_there(module) -> None:
    """Though nothing imports it before it is named."""
    assert find_spec(module)


@pytest.mark.parametrize(
    ("words", "text"), [(["--version"], version_text()), (["--help"], help_text())]
)
def test_a_doors_own_version_and_help(words, text) -> None:
    """Not attachd's."""
    done = run("conmon", *words)

    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ([], "Container ID not provided. Use --cid\n"),
        (["--", "-c", "x"], "Container ID not provided. Use --cid\n"),
        (["--runtime-arg", "--", "--root", "x"], "Unknown option --root\n"),
        (["conmon", "-c", "x"], "Container UUID not provided. Use --cuuid\n"),
    ],
)
def test_words_are_not_touched(words, end) -> None:
    """Nothing of attachd's own reads them, neither ``--`` nor ``--root``."""
    done = run("conmon", *words)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(end)


def test_help_tells_of_the_doors() -> None:
    """With the words to try next; and a door's name elsewhere means nothing."""
    done = run("--help")

    assert done.returncode == 0
    for name in DOORS:
        assert f"attachd {name} --help" in " ".join(done.stdout.split())
    assert run("--version", "conmon").returncode == 125


def test_a_door_does_not_load_attachds_own_program() -> None:
    """It would cost more than the door."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "attachd", "conmon", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == version_text()
    assert " attachd.doors.conmon.usage\n" in done.stderr
    for name in ("attachd.cli", "attachd.errors", "argparse"):
        assert f" {name}\n" not in done.stderr
