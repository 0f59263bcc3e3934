"""The first thing that is wrong is told, in conmon's order and words; nothing is made."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.checks import Checked, check
from attachd.doors.conmon.drivers import Driver
from attachd.doors.conmon.options import TABLE, Options, parse_options
from attachd.errors import ConmonError

ID = "0123456789abcdef"

#: What passes all checks.
GOOD = Options(
    cid=ID,
    cuuid="u",
    runtime="/bin/true",
    bundle="/b",
    container_pidfile="/p",
    log_path=("none",),
)

#: In conmon's order: what is wrong, and the line for it. Each also has all that comes after it.
ORDER = [
    ({"log_max_files": -1}, "conmon: log-max-files must be non-negative"),
    ({"log_max_files": 0, "log_rotate": True},
     "conmon: log-max-files must be at least 1 when log-rotate is enabled"),
    ({"cid": None}, "conmon: Container ID not provided. Use --cid"),
    ({"log_level": "loud"}, "[conmon:e]: No such log level loud"),
    ({"exec": True, "restore": "/r"},
     "[conmon:e]: Cannot use 'exec' and 'restore' at the same time"),
    ({"exec": False, "exec_attach": True, "restore": ""},
     "[conmon:e]: Attach can only be specified with exec"),
    ({"exec": True, "exec_attach": True, "restore": "", "api_version": False},
     "[conmon:e]: Attach can only be specified for a non-legacy exec session"),
    ({"exec": True, "restore": "", "api_version": True, "cuuid": None},
     "[conmon:e]: Container UUID not provided. Use --cuuid"),
    ({"exec": True, "restore": "", "exec_attach": False, "runtime": ""},
     "[conmon:e]: Runtime path not provided. Use --runtime"),
    ({"exec": True, "restore": "", "exec_attach": False, "runtime": "/nowhere/runc"},
     "[conmon:e]: Runtime path /nowhere/runc is not valid No such file or directory"),
    ({"exec": True, "restore": "", "exec_attach": False, "exec_process_spec": ""},
     "[conmon:e]: Exec process spec path not provided. Use --exec-process-spec"),
    ({"exit_delay": -1},
     "[conmon:e]: Delay before invoking exit command must be greater than or equal to 0"),
    ({"log_path": ()}, "[conmon:e]: Log driver not provided. Use --log-path"),
    ({"log_path": ("bad:",)}, "[conmon:e]: No such log driver bad"),
    ({"log_path": ("/x",), "log_tag": "t"},
     "[conmon:e]: k8s-file doesn't support --log-tag"),
]  # fmt: skip


@pytest.mark.parametrize("at", range(len(ORDER)), ids=lambda at: ORDER[at][1])
def test_each_check_comes_before_those_after_it(at) -> None:
    """Whatever else is wrong further on."""
    later = GOOD
    for wrong, _ in reversed(ORDER[at:]):
        later = later._replace(**wrong)

    for options in (later, GOOD._replace(**ORDER[at][0])):
        with pytest.raises(ConmonError) as refusal:
            check(options)
        assert str(refusal.value) == ORDER[at][1]


def test_what_passes() -> None:
    """Comes back as it was, with its logs and no warning."""
    assert check(GOOD) == Checked(GOOD, (Driver("none"),), ())


def test_no_files_are_kept_without_rotation() -> None:
    """The number then means nothing, as long as it is one."""
    assert check(GOOD._replace(log_max_files=0))


def test_ids_may_be_empty() -> None:
    """What was given counts as given."""
    assert check(GOOD._replace(cid="", cuuid="")).options.cid == ""


def test_an_exec_of_old_needs_no_unique_id() -> None:
    """CRI-O gives none."""
    options = GOOD._replace(exec=True, exec_process_spec="/s", cuuid=None)

    assert check(options).options == options


@pytest.mark.parametrize(
    ("given_level", "level"),
    [("error", "error"), ("FATAL", "error"), ("panic", "error"), ("warn", "warning"),
     ("Warning", "warning"), ("info", "info"), ("debug", "debug"), ("trace", "trace")],
)  # fmt: skip
def test_levels(given_level, level) -> None:
    """In any case; logrus's names for ours become ours."""
    assert check(GOOD._replace(log_level=given_level)).options.log_level == level


def test_an_empty_level_is_none() -> None:
    """As in conmon."""
    with pytest.raises(ConmonError, match=r"No such log level $"):
        check(GOOD._replace(log_level=""))


def test_what_the_current_directory_gives(tmp_path: Path, monkeypatch) -> None:
    """The bundle, except of an exec, and where the container's pid is written."""
    monkeypatch.chdir(tmp_path)
    options = GOOD._replace(bundle="", container_pidfile="")

    made = check(options).options
    assert (made.bundle, made.container_pidfile) == (f"{tmp_path}", f"{tmp_path}/pidfile-{ID}")
    made = check(options._replace(exec=True, exec_process_spec="/s")).options
    assert (made.bundle, made.container_pidfile) == ("", f"{tmp_path}/pidfile-{ID}")
    assert not list(tmp_path.iterdir())


def test_a_current_directory_that_is_gone(tmp_path: Path, monkeypatch) -> None:
    """Matters only to whoever needs it."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    assert check(GOOD).options == GOOD
    with pytest.raises(ConmonError, match=r"^\[conmon:e\]: Failed to get working directory$"):
        check(GOOD._replace(bundle=""))


def test_runtimes(tmp_path: Path) -> None:
    """What may be executed passes, a directory too; the system says what is wrong."""
    plain = tmp_path / "plain"
    plain.touch(mode=0o644)

    assert check(GOOD._replace(runtime=str(tmp_path)))
    with pytest.raises(ConmonError, match=r"plain is not valid Permission denied$"):
        check(GOOD._replace(runtime=str(plain)))
    with pytest.raises(ConmonError, match=r"/runc is not valid Not a directory$"):
        check(GOOD._replace(runtime=f"{plain}/runc"))


def test_partial_messages_are_journalds() -> None:
    """Elsewhere the option does nothing, and that is told, if warnings are."""
    options = GOOD._replace(no_container_partial_message=True)
    line = (
        "[conmon:w]: --no-container-partial-message has no effect without journald log driver"
    )

    assert check(options).warnings == (line,)
    assert check(options._replace(log_level="fatal")).warnings == ()
    assert check(options._replace(log_path=("/x", "journald"))).warnings == ()


#: What can be a word of a command line: no NUL, and bytes that are no text as their surrogates.
letters = st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from(
    "\udc80\udcff"
)
names = st.sampled_from([f"--{option.long}" for option in TABLE if option.long != "version"])
good = ["-c", ID, "-u", "u", "-r", "/bin/true", "-l", "none"]


@given(st.lists(names | st.text(letters, max_size=5)))
def test_any_command_line_passes_or_is_refused_in_a_line_of_ours(words) -> None:
    """Never another exception."""
    try:
        checked = check(parse_options([*good, *words]))
    except ConmonError as error:
        refusal = str(error)
    else:
        refusal = "[conmon:e]: none"
        assert checked.drivers
        assert checked.options.container_pidfile
    assert refusal.startswith(("conmon: ", "[conmon:e]: "))
