"""What every program stands on: the state root and descriptors 0 to 2."""

import os

import pytest

from attachd.ground import state_root


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No word about roots from outside."""
    for name in ("ATTACHD_ROOT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_attachd_root_comes_first(environment) -> None:
    """It is made absolute where it is read: the clients may change directory later."""
    environment.setenv("ATTACHD_ROOT", "some/root")

    assert state_root() == os.path.abspath("some/root")


def test_an_empty_attachd_root_is_none(environment) -> None:
    """Set to nothing means not set."""
    environment.setenv("ATTACHD_ROOT", "")
    environment.setattr(os, "geteuid", lambda: 0)

    assert state_root() == "/run/attachd"


def test_root_and_others_have_their_own_place(environment) -> None:
    """/run/attachd, $XDG_RUNTIME_DIR/attachd, or a directory that has the user's number."""
    environment.setattr(os, "geteuid", lambda: 0)
    assert state_root() == "/run/attachd"

    environment.setattr(os, "geteuid", lambda: 1000)
    environment.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert state_root() == "/run/user/1000/attachd"

    environment.delenv("XDG_RUNTIME_DIR")
    assert state_root() == "/tmp/attachd-1000/attachd"


@pytest.mark.parametrize("program", ["attachd create", "attach", "attachctl"])
def test_all_programs_take_the_same_root(environment, program) -> None:
    """What one makes, the others find: without an option, whatever the environment."""
    from attachd_clients.arguments import parser as client_parser

    from attachd.arguments import parser

    environment.setenv("ATTACHD_ROOT", "some/root")
    if program == "attachd create":
        root = parser().parse_args(["create", "x"]).root
    else:
        root = client_parser(program, "").parse_args([]).root
    assert root == os.path.abspath("some/root")
