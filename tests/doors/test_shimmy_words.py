"""``attachd shimmy``: conman's words, and what they are understood as."""

import os

import pytest

from attachd.doors.shimmy import entrance
from attachd.doors.shimmy.manager import Manager
from attachd.doors.shimmy.options import config_of
from attachd.doors.shimmy.wishes import Wishes
from attachd.doors.shimmy.words import LEVELS, parse
from attachd.errors import UsageError

REQUIRED = {
    "--shimmy-pidfile": "/b/shimmy.pid",
    "--runtime": "/usr/bin/runc",
    "--bundle": "/b",
    "--container-id": "c1",
    "--container-pidfile": "/b/container.pid",
    "--container-logfile": "/logs/c1.log",
    "--container-exitfile": "/exits/c1",
    "--container-attachfile": "/attach/c1",
    "--syncpipe-fd": "3",
}


def said(*more: str, **other: str | None) -> list[str]:
    """Return the words of a whole call; what is ``other`` by its name is left out, or changed."""
    options = REQUIRED | {f"--{name.replace('_', '-')}": word for name, word in other.items()}
    pairs = [(name, word) for name, word in options.items() if word is not None]
    return [word for pair in pairs for word in pair] + list(more)


def test_conmans_call_is_understood_whole() -> None:
    """Every word of it has its place."""
    words = parse(
        [
            "--shimmy-pidfile", "/b/shimmy.pid",
            "--shimmy-log-level", "INFO",
            "--runtime", "/usr/bin/runc",
            "--runtime-arg='--root=/run/conman/runc'",
            "--bundle", "/b",
            "--container-id", "c1",
            "--container-pidfile", "/b/container.pid",
            "--container-logfile", "/logs/c1.log",
            "--container-exitfile", "/exits/c1",
            "--container-attachfile", "/attach/c1",
            "--stdin",
            "--stdin-once",
            "--syncpipe-fd", "3",
        ],
        {},
    )  # fmt: skip

    assert words._asdict() == {
        "shimmy_pidfile": "/b/shimmy.pid",
        "runtime": "/usr/bin/runc",
        "bundle": "/b",
        "container_id": "c1",
        "container_pidfile": "/b/container.pid",
        "container_logfile": "/logs/c1.log",
        "container_exitfile": "/exits/c1",
        "container_attachfile": "/attach/c1",
        "syncpipe_fd": 3,
        "runtime_args": ("--root=/run/conman/runc",),
        "log_level": "info",
        "stdin": True,
        "stdin_once": True,
    }


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ((), ()),
        (("--runtime-arg='--root=/r'",), ("--root=/r",)),
        (("--runtime-arg", "'--root=/r'"), ("--root=/r",)),
        (("--runtime-arg=--root=/r",), ("--root=/r",)),
        (("--runtime-arg", "foobar=123"), ("foobar=123",)),
        (("--runtime-arg='--debug'", "--runtime-arg='--root=/r'"), ("--debug", "--root=/r")),
        (("--runtime-arg", "'--debug'", "'--root=/it's'", "--stdin"), ("--debug", "--root=/it's")),
    ],
)  # fmt: skip
def test_the_runtimes_arguments_lose_conmans_quotes(told, meant) -> None:
    """In either of conman's ways; several may follow one option; a quote inside stays."""
    assert parse(said(*told), {}).runtime_args == meant


def test_an_option_and_its_value_may_be_one_word() -> None:
    """And the value may have another equals sign in it."""
    assert parse(said("--bundle=/a=b", bundle=None), {}).bundle == "/a=b"


def test_the_sync_pipe_may_be_told_by_the_environment() -> None:
    """The option goes before the variable."""
    by_environment = said(syncpipe_fd=None)

    assert parse(by_environment, {"_OCI_SYNCPIPE": "7"}).syncpipe_fd == 7
    assert parse(said(), {"_OCI_SYNCPIPE": "7"}).syncpipe_fd == 3


@pytest.mark.parametrize("level", ["OFF", "warn", "WARNING", "Panic", "TRACE"])
def test_levels_of_both_sides_are_known(level) -> None:
    """conman passes on logrus's, which has two more than shimmy knows."""
    assert parse(said(shimmy_log_level=level), {}).log_level == level.lower()


@pytest.mark.parametrize("option", sorted(REQUIRED))
def test_what_is_missing_is_named(option) -> None:
    """Each option but the flags, the level and the runtime's arguments is needed."""
    words = said(**{option[2:].replace("-", "_"): None})
    with pytest.raises(UsageError, match=f"what is needed, too: {option}"):
        parse(words, {})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--bundle"], "--bundle needs a value"),
        (["--bundle", "--stdin"], "--bundle needs a value"),
        (["--runtime-arg"], "--runtime-arg needs a value"),
        (["--runtime-arg", "--root"], "--runtime-arg needs a value"),
        ([*said(), "--bundle", "/c"], "--bundle is there twice"),
        ([*said(), "--tty"], "'--tty' is no option"),
        ([*said(), "--stdin=yes"], "'--stdin=yes' is no option"),
        ([*said(), "--bund=/b"], "'--bund=/b' is no option"),
        ([*said(), "stray"], "'stray' is no option"),
        (said(shimmy_log_level="loud"), "no --shimmy-log-level 'loud'"),
        (said(syncpipe_fd="two"), "--syncpipe-fd 'two' is no descriptor"),
        (said(syncpipe_fd="2"), "--syncpipe-fd '2' is no descriptor"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(words, why) -> None:
    """Nothing is guessed, and nothing passed over."""
    with pytest.raises(UsageError, match=why) as told:
        parse(words, {})

    assert "\n" not in str(told.value)


def test_the_words_become_a_config() -> None:
    """Paths become absolute; what the server half needs to know is told with the door."""
    words = parse(said("--runtime-arg='--root=/r'", bundle="b", shimmy_log_level="DEBUG"), {})
    config = config_of(words, "/state")

    assert (config.id, config.root, config.bundle) == ("c1", "/state", os.path.abspath("b"))
    assert (config.runtime, config.runtime_args) == ("/usr/bin/runc", ("--root=/r",))
    assert [tuple(log) for log in config.logs] == [("shimmy", "/logs/c1.log", 0)]
    assert (config.pid_file, config.start) == ("/b/container.pid", False)
    assert config.door.kind == "shimmy"
    assert Wishes.of_json(config.door.wishes) == Wishes("/attach/c1", "/exits/c1", "debug")


@pytest.mark.parametrize(
    ("flags", "stdin", "policy"),
    [
        ((), False, "any"),
        (("--stdin-once",), False, "any"),
        (("--stdin",), True, "never"),
        (("--stdin", "--stdin-once"), True, "once"),
    ],
)
def test_stdin_stays_open_unless_it_is_for_once(flags, stdin, policy) -> None:
    """``--stdin-once`` without ``--stdin`` is about nothing, and no error: conman may say it."""
    config = config_of(parse(said(*flags), {}), "/state")

    assert (config.stdin, config.stdin_eof) == (stdin, policy)


def test_an_empty_path_is_none() -> None:
    """It would mean the directory that we happen to be in."""
    with pytest.raises(UsageError, match="--container-exitfile is empty"):
        config_of(parse(said(container_exitfile=""), {}), "/state")


@pytest.mark.parametrize("fd", [999, 1 << 40])
def test_a_pipe_that_is_not_open_is_refused(fd) -> None:
    """Nobody would hear the report."""
    with pytest.raises(UsageError, match=f"the sync pipe {fd} is not an open descriptor"):
        Manager(fd, "/b/shimmy.pid", "/attach/c1", "/exits/c1")


def test_every_level_means_something_to_the_server() -> None:
    """None is read and then passed over."""
    assert set(LEVELS) == set(entrance.LEVELS)
