"""What can be had from attachd_clients itself, and what that costs."""

import importlib
import subprocess
import sys

import attachd_clients
import attachd_clients.attach_cmd
import pytest
from attachd_clients import ctl
from attachd_clients.arguments import Parser


def loaded(code: str) -> set[str]:
    """Return the modules that a fresh Python has loaded after ``code``."""
    told = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return set(told.stdout.decode().split())


class Adding:
    """What a module of verbs is given, to add its own."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str, act: object, about: str) -> Parser:
        self.names.append(name)
        return Parser()


@pytest.mark.parametrize("name", attachd_clients.__all__)
def test_every_name_is_there(name) -> None:
    """Each is what it says, also the function that has a program's name."""
    assert getattr(attachd_clients, name).__name__ == name


def test_the_blocking_client_comes_without_trio() -> None:
    """Who only wants that does not wait for the other."""
    assert "trio" not in loaded("from attachd_clients import attach_blocking")


def test_another_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'attached'"):
        attachd_clients.attached  # noqa: B018


def test_the_verbs_of_each_group_are_known_without_loading_it() -> None:
    """The table in ctl.py is what the modules add."""
    for name, verbs in ctl.GROUPS.items():
        adding = Adding()
        importlib.import_module(f"attachd_clients.verbs.{name}").add(adding)
        assert tuple(adding.names) == verbs


def test_a_verb_does_not_load_what_another_one_needs() -> None:
    """Pictures, metrics and Trio are for those who ask for them."""
    code = (
        "from attachd_clients import ctl\ntry: ctl._parse(['--root', '/x', 'ls'])\nfinally: 0"
    )
    assert not loaded(code) & {"trio", "pyte", "prometheus_client", "PIL"}
