"""What managers read in --version and --help is there."""

import re
from pathlib import Path

import pytest

from attachd import __version__
from attachd.doors.conmon import usage
from attachd.doors.conmon.options import TABLE
from attachd.doors.conmon.usage import help_text, version_text

HIDDEN = {"pidfile", "restore-arg"}


def test_the_version_as_podman_reads_it() -> None:
    """Podman up to 4.3 wants 2.0.1 or later at the beginning of the first line."""
    found = re.match(r"^conmon version (\d+)\.(\d+)\.(\d+)\n", version_text())

    assert found
    assert tuple(map(int, found.groups())) >= (2, 2, 0)


def test_the_version_as_crio_reads_it() -> None:
    """CRI-O takes the third word as a strict semantic version, with nothing after it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+", version_text().split()[2])


def test_the_version_says_what_this_is() -> None:
    """Two lines, as conmon's; the second is shown by ``podman info``."""
    assert version_text().splitlines()[1:] == [f"commit: attachd {__version__}"]


def test_the_program_that_answers_by_itself_says_the_same() -> None:
    """The shell's words for the version are those of Python."""
    program = Path(usage.__file__).with_name("attachd-conmon").read_text()
    (line,) = re.findall(r"printf '(.*)'", program)

    assert line.replace(r"\n", "\n") == version_text()


@pytest.mark.parametrize("option", TABLE, ids=lambda option: option.long)
def test_help_tells_of_every_option(option) -> None:
    """With its letter; hidden names are not told."""
    letter = f"-{option.short}, " if option.short else ""
    told = re.search(rf"^ +{re.escape(letter)}--{option.long} ", help_text(), re.MULTILINE)

    assert bool(told) == (option.long not in HIDDEN)


def test_help_fits_a_terminal() -> None:
    """Of a hundred columns; and names no option that there is not."""
    names = {option.long for option in TABLE} | {"help"}

    assert max(map(len, help_text().splitlines())) <= 100
    assert set(re.findall(r"^ .*?--([a-z-]+)", help_text(), re.MULTILINE)) <= names
    assert "journald" in help_text()
