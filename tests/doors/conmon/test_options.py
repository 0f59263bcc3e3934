"""Each option of conmon fills the field of its name, and nothing else."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.options import TABLE, Options, parse_options
from attachd.doors.conmon.words import FLAG, INT32, INT64, MANY, TEXT
from attachd.errors import ConmonError

#: A word for an option of the kind, and the value that it is.
WORDS = {
    FLAG: ("", True),
    TEXT: ("-x y", "-x y"),
    INT32: ("0x11", 17),
    INT64: ("4294967296", 1 << 32),
    MANY: ("--z", ("--z",)),
}

every_option = pytest.mark.parametrize("option", TABLE, ids=lambda option: option.long)


def test_every_field_has_an_option() -> None:
    """And every option a field."""
    assert {option.field for option in TABLE} | {"help"} == set(Options._fields)


def test_no_two_options_are_called_the_same() -> None:
    """Neither in full nor by their letter; -h and -? are help's."""
    longs = [option.long for option in TABLE]
    shorts = [option.short for option in TABLE if option.short] + ["h", "?"]

    assert len(set(longs)) == len(longs)
    assert len(set(shorts)) == len(shorts)


@every_option
def test_an_option_fills_its_own_field(option) -> None:
    """By its long name and by its letter; everything else stays at its default."""
    word, value = WORDS[option.kind]
    for name in [f"--{option.long}"] + ([f"-{option.short}"] if option.short else []):
        words = [name, word] if option.kind != FLAG else [name]
        assert parse_options(words) == Options()._replace(**{option.field: value})


def test_what_is_given_twice() -> None:
    """Lists grow, by their hidden name too; of all others the last counts."""
    words = "-p a --pidfile b --runtime-opt 1 --restore-arg 2 -T 3 -T 4 -l c -l d"
    options = parse_options(words.split())

    assert options == Options(
        container_pidfile="b", runtime_opt=("1", "2"), timeout=4, log_path=("c", "d")
    )


def test_ids_that_are_empty_were_given() -> None:
    """conmon refuses a missing id, and takes an empty one."""
    assert (Options().cid, Options().cuuid) == (None, None)
    given_empty = parse_options(["--cid", "", "-u", ""])
    assert (given_empty.cid, given_empty.cuuid) == ("", "")


def test_podmans_creation() -> None:
    """As podman 4.3.1 calls for ``podman run -it``."""
    words = (
        "--api-version 1 -c ID -u ID -r /usr/bin/runc -b /u -p /r/pidfile -n capd"
        " --exit-dir /x --full-attach -l k8s-file:/u/ctr.log --log-level warning"
        " --runtime-arg --log-format=json --runtime-arg --log --runtime-arg=/r/oci-log"
        " -t --conmon-pidfile /r/conmon.pid --exit-command /usr/bin/podman"
        " --exit-command-arg --root --exit-command-arg /s --exit-command-arg"
    )

    assert parse_options([*words.split(), "", "--exit-command-arg", "ID"]) == Options(
        api_version=True,
        cid="ID",
        cuuid="ID",
        runtime="/usr/bin/runc",
        bundle="/u",
        container_pidfile="/r/pidfile",
        name="capd",
        exit_dir="/x",
        full_attach=True,
        log_path=("k8s-file:/u/ctr.log",),
        log_level="warning",
        runtime_arg=("--log-format=json", "--log", "/r/oci-log"),
        terminal=True,
        conmon_pidfile="/r/conmon.pid",
        exit_command="/usr/bin/podman",
        exit_command_arg=("--root", "/s", "", "ID"),
    )


def test_crios_exec() -> None:
    """As CRI-O calls for exec-sync, in the old protocol."""
    words = (
        "-c ID -n NAME -r /runc -p /tmp/pid -e -l /tmp/log --socket-dir-path /s"
        " --log-level info --sync --log-global-size-max 16777216 -t -T 10 -s"
        " --exec-process-spec /f --runtime-arg --root=/run/runc"
    )

    assert parse_options(words.split()) == Options(
        cid="ID",
        name="NAME",
        runtime="/runc",
        container_pidfile="/tmp/pid",
        exec=True,
        log_path=("/tmp/log",),
        socket_dir_path="/s",
        log_level="info",
        sync=True,
        log_global_size_max=16777216,
        terminal=True,
        timeout=10,
        systemd_cgroup=True,
        exec_process_spec="/f",
        runtime_arg=("--root=/run/runc",),
    )


def test_removed_options_are_unknown() -> None:
    """As in conmon since 2.2.1."""
    for name in ("--seccomp-notify-socket", "--seccomp-notify-plugins"):
        with pytest.raises(ConmonError, match=re.escape(f"Unknown option {name}")):
            parse_options([name, "x"])


known = st.sampled_from(
    [f"--{option.long}" for option in TABLE]
    + [f"--{option.long}=" for option in TABLE]
    + [f"-{option.short}" for option in TABLE if option.short]
)


@given(st.lists(known | st.integers().map(str) | st.text(max_size=5)))
def test_any_words_are_options_or_refused(words) -> None:
    """Whatever the words, each field has a value of its default's kind."""
    try:
        options = parse_options(words)
    except ConmonError:
        return
    for field, default in Options()._asdict().items():
        kinds = (str, type(None)) if default is None else type(default)
        assert isinstance(getattr(options, field), kinds)
