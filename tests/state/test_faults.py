"""What runc's words say of a program that did not run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.faults import SHELL_CODES, fault_of

START = "exec failed: unable to start container process: "


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ('exec: "nope": executable file not found in $PATH', "no_program"),
        ('exec: "nope": executable file not found in $PATH: unknown', "no_program"),
        ('exec: "a b": executable file not found in $PATH', "no_program"),
        ('exec: "/x/y": stat /x/y: no such file or directory', "no_program"),
        ("exec /bin/script: no such file or directory", "no_program"),
        ('exec: "/etc": is a directory', "not_executable"),
        ('exec: "/etc/passwd": permission denied', "not_executable"),
        ("exec /bin/data: exec format error", "not_executable"),
        ("exec /bin/secret: permission denied", "not_executable"),
        (
            'chdir to cwd ("/x") set in config.json failed: no such file or directory',
            "runtime",
        ),
        ("cannot exec in a stopped container", "runtime"),
        ("open /proc/self/exe: permission denied", "runtime"),
        ("", "runtime"),
    ],
)
def test_a_missing_program_is_told_from_a_runtime_that_failed(words, fault) -> None:
    """By what runc and the kernel say, on however many lines."""
    assert fault_of(words) == fault
    assert fault_of(START + words) == fault
    assert fault_of((START + words).replace(": ", ":\n  ")) == fault


@given(st.text())
def test_any_words_have_a_fault(words) -> None:
    """Runtimes may say what they like."""
    assert fault_of(words) in {*SHELL_CODES, "runtime"}
