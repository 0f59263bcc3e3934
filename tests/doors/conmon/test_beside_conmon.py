"""The same words, to conmon and to us: the same exit code, and the same refusal.

conmon's parser tells its errors on stdout before 2.1.7, and its own checks have two prefixes of
which ours is one; the rest of the line must be equal.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(sys.executable).with_name("attachd-conmon")
ID = "0123456789abcdef"
GOOD = ["-c", ID, "-u", "u", "-r", "/bin/true"]

pytestmark = pytest.mark.skipif(shutil.which("conmon") is None, reason="needs conmon")


def told(program: str | Path, words: list[str]) -> tuple[int, bytes]:
    """The exit code, and all output with the prefix in one form."""
    done = subprocess.run(
        [program, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.replace(b"[conmon:e] ", b"[conmon:e]: ")


PARSER = [
    ["--bogus"], ["--foo=bar"], ["--log-lev", "x"], ["--version-x"], ["--="], ["--help="],
    ["--help-conmon"], ["-x"], ["-tx"], ["-t=1"], ["-v"], ["-cx", "y"], ["--\u00e9"],
    ["-T5"], ["-T"], ["-tT"], ["--bundle"], ["-b"], ["--runtime-arg"], ["--restore-arg"],
    ["-TP", "5"], ["-PT", "x", "5"], ["-cu", "x", "y"], ["-TP", "x", "y"],
    ["-T", ""], ["-T", " "], ["-T", "08"], ["-T", "0x"], ["-T", "5 "], ["-T", "1_0"],
    ["-T", "2147483648"], ["-T", "-2147483649"], ["--timeout=2147483648x"],
    ["--timeout", "9" * 5000], ["--exit-delay", "x"],
    ["--log-size-max", "9223372036854775808"], ["--log-size-max=-9223372036854775809"],
    ["--log-size-max", "0x10q"], ["--log-global-size-max", "x"],
    ["--version", "--bogus"],
]  # fmt: skip

CHECKS = [
    [], ["-"], ["--"], ["--", "-c", "x"], ["stray"], ["-ti"], ["--terminal=no"],
    ["-T", " +0x7fffffff"], ["-T", "-2147483648"], ["-T", "010"],
    ["--log-size-max", "9223372036854775807"], ["--log-size-max", "\t-9223372036854775808"],
    ["--runtime-arg", "--help"], ["--runtime-arg=--", "--exit-command-arg", ""],
    ["--pidfile", "x", "--restore-arg", "y", "-0", "z"],
    ["-c", ""], ["-c", "x"], ["-c", "x", "--log-level", "loud"], ["-c", "x", "--log-level", ""],
    ["-c", "x", "--log-level", "WARN"], ["-c", "x", "--log-level", "panic"],
    ["-c", "x", "-e", "--restore", "y"], ["-c", "x", "--exec-attach"],
    ["-c", "x", "-e", "--exec-attach"], ["-c", "x", "-e", "--api-version"],
    ["-c", "x", "-e", "--exec-attach", "--api-version=0"],
    ["-c", "x", "-u", ""], ["-c", "x", "-e"], ["-c", "x", "-e", "-r", "/bin/true"],
    ["-c", "x", "-u", "x", "-r", "/nowhere/runc"], ["-c", "x", "-u", "x", "-r", "/etc/passwd"],
    ["-c", "x", "-u", "x", "-r", "/etc/passwd/runc"], ["-c", "x", "-u", "x", "-r", "/"],
    [*GOOD, "-e"], GOOD, [*GOOD, "--exit-delay", "-1"], [*GOOD, "-l", "bad:", "-e"],
    *[[*GOOD, "-l", path] for path in (
        "", ":", "::", "k8s-file", "k8s-file:", "json-file:/x", "bad:", "K8S-FILE:/x",
        ":bad:/x", "/nowhere/x:y", ":/nowhere/x:y")],
    [*GOOD, "-l", "none", "-l", ""], [*GOOD, "-l", "journald", "-l", "bad:"],
    [*GOOD, "-l", "k8s-file", "-l", "bad:"], [*GOOD, "-l", "/dev/null", "--log-tag", "x"],
    ["-c", ID[:12], *GOOD[2:], "-l", "journald"],
    ["-c", "\u00e9" * 6, *GOOD[2:], "-l", "journald:"],
]  # fmt: skip


@pytest.mark.parametrize("words", PARSER + CHECKS, ids=" ".join)
def test_the_same_refusal(words) -> None:
    """To the letter, but for the prefix."""
    code, text = told(PROGRAM, words)

    assert (code, text) == told("conmon", words)
    assert code == 1
    assert text.count(b"\n") == 1


@pytest.mark.parametrize(
    "words",
    [["--version"], ["--version=x"], ["--terminal=no", "--version"], ["-h", "--bogus"],
     ["--version", "--", "--bogus"], ["--help-all"], ["-?"], ["-tx?"], ["-t?x"],
     ["-c", "--version"]],
)  # fmt: skip
def test_the_same_exit_code(words) -> None:
    """Where the words must differ; what comes first wins in both."""
    ours, theirs = told(PROGRAM, words), told("conmon", words)

    assert ours[0] == theirs[0]
    assert ours[1].split()[0] == theirs[1].split()[0]
