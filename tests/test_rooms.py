"""Architecture as a test: who may import whom, and what is not on the birth path."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
PACKAGE = PROJECT / "attachd"
CLIENTS = PROJECT / "clients" / "attachd_clients"

PURE_ROOMS = ("wire", "state")

#: The pure modules of rooms that are not pure as a whole.
PURE_MODULES = (
    "doors/conmon/words.py",
    "doors/conmon/options.py",
    "doors/conmon/drivers.py",
    "doors/conmon/usage.py",
)

#: What a pure room must not know: the world, and the means of waiting for it.
WORLD = {"os", "socket", "time", "trio", "subprocess", "logging", "asyncio", "select"}


class Room(NamedTuple):
    """What the modules of one room may import."""

    ours: frozenset[str]  #: rooms of attachd, or modules right below it
    others: frozenset[str]  #: packages that are not in the standard library


def _room(ours: str, others: str = "") -> Room:
    return Room(frozenset(ours.split()), frozenset(others.split()))


ROOMS = {
    "errors": _room(""),
    "ground": _room(""),
    "wire": _room("errors wire", "attrs msgpack"),
    "state": _room("errors state"),
    "history": _room("errors state history"),
    "keeper": _room("errors state keeper"),
    "live": _room("errors wire state history keeper live __version__", "trio attrs"),
    "recovery": _room("errors state history keeper recovery"),
    "doors": _room(
        "errors ground wire state history keeper live doors __version__", "trio attrs"
    ),
    "cli": _room(
        "errors ground wire state keeper recovery live doors cli arguments __version__"
    ),
    "arguments": _room("errors ground wire state keeper live doors cli arguments __version__"),
    "entry": _room("cli"),
    "__main__": _room("entry"),
    "__init__": _room(""),
}

CLIENTS_MAY_IMPORT = (
    "attachd.wire",
    "attachd.errors",
    "attachd.ground",
    "attachd.history",  # what a shim that is gone would have told
    "attachd.state.faults",  # which exit code a program that did not run has
    "attachd.state.asciicast",  # the same recording, from a server and from a client
    "attachd.state.journal",  # the name of a log that is no file
    "attachd.state.keys",
    "attachd.state.ring",  # the names of the streams
    "attachd.state.modes",  # the same terminal, seen from both sides
    "attachd.state.sizes",
    "attachd.state.timeline",  # the sizes that a terminal had, read from its file
    "attachd.state.times",  # a log's times, read from its file
)
CLIENTS_MAY_USE = {
    "trio",
    "attrs",
    "pyte",
    "inotify_simple",
    "prometheus_client",
    "regex",  # of what is still to come: partial matches, and a search that ends in time
    "pytest",  # the plugin, which nothing but pytest loads
    "PIL",  # for a PNG alone: `attachd[pictures]`
    "attachd",
    "attachd_clients",
}


def _modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in it: ``from a import b`` is ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides which wall it crosses"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _top(name: str) -> str:
    return name.partition(".")[0]


def _is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


every_module = pytest.mark.parametrize("path", _modules(PACKAGE), ids=_name)
pure_module = pytest.mark.parametrize(
    "path",
    [path for room in PURE_ROOMS for path in _modules(PACKAGE / room)]
    + [PACKAGE / name for name in PURE_MODULES],
    ids=_name,
)
client_module = pytest.mark.parametrize("path", _modules(CLIENTS), ids=_name)


@every_module
def test_imports_go_down_only(path: Path) -> None:
    """A module of attachd imports from its own room and from those below it."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    ours = {name.split(".")[1] for name in _imports(path) if _is_below(name, "attachd")}

    assert ours <= ROOMS[room].ours


@every_module
def test_each_room_uses_only_its_own_foreign_packages(path: Path) -> None:
    """Trio is live's and the doors' alone, msgpack wire's; the keeper has none of them."""
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    foreign = {_top(name) for name in _imports(path)} - sys.stdlib_module_names - {"attachd"}

    assert foreign <= ROOMS[room].others


@every_module
def test_nobody_imports_the_clients(path: Path) -> None:
    """The server's side can be installed and run without knowing any client."""
    assert "attachd_clients" not in {_top(name) for name in _imports(path)}


@pure_module
def test_pure_rooms_do_not_touch_the_world(path: Path) -> None:
    """wire, state and their like import no clock, no descriptor, no process, no log."""
    assert not {_top(name) for name in _imports(path)} & WORLD


@pure_module
def test_pure_rooms_never_wait(path: Path) -> None:
    """wire, state and their like contain no ``async`` and no ``await``."""
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)

    assert not [n for n in ast.walk(ast.parse(path.read_bytes())) if isinstance(n, waiting)]


@pure_module
def test_each_pure_module_has_its_own_test_file(path: Path) -> None:
    """attachd/wire/frames.py is tested by tests/wire/test_frames.py."""
    if path.name != "__init__.py":
        assert (HERE / path.relative_to(PACKAGE).with_name(f"test_{path.name}")).is_file()


@client_module
def test_clients_know_the_protocol_and_not_the_server(path: Path) -> None:
    """Clients import what is said, its errors, and the detach keys; of attachd, its version."""
    for name in _imports(path):
        if _is_below(name, "attachd") and name != "attachd.__version__":
            assert any(_is_below(name, allowed) for allowed in CLIENTS_MAY_IMPORT), name


@client_module
def test_clients_use_trio_and_attrs_and_nothing_else(path: Path) -> None:
    """A client needs what attachd needs, and no more."""
    foreign = {_top(name) for name in _imports(path)} - sys.stdlib_module_names

    assert foreign <= CLIENTS_MAY_USE


def test_only_messages_knows_msgpack() -> None:
    """One file turns untyped msgpack into typed messages; it is the one mypy exempts."""
    users = [
        path
        for path in _modules(PACKAGE) + _modules(CLIENTS)
        if "msgpack" in {_top(name) for name in _imports(path)}
    ]

    assert users == [PACKAGE / "wire" / "messages.py"]


SLOW = {"trio", "attrs", "attr", "msgpack", "asyncio", "subprocess"}


@pytest.mark.parametrize(
    ("modules", "slow"),
    [
        ("attachd.cli, attachd.keeper.birth, attachd.arguments", SLOW),
        (
            "attachd.entry, attachd.doors.conmon.main, attachd.doors.conmon.checks",
            SLOW | {"argparse", "json", "socket", "logging", "attachd.cli"},
        ),
        ("attachd.entry, attachd.doors.conmon.main", {"typing", "re", "enum", "collections"}),
        (
            "attachd.entry, attachd.doors.shimmy.main",
            SLOW | {"argparse", "logging", "attachd.cli"},
        ),
    ],
    ids=["birth", "conmon-words", "conmon-version", "shimmy"],
)
def test_birth_loads_nothing_slow(modules: str, slow: set[str]) -> None:
    """A container is not kept waiting for Trio, attrs, msgpack, asyncio or subprocess.

    Nor is a manager that only asks for a version kept waiting for what reads a command line.
    """
    code = (
        "import sys; before = set(sys.modules)\n"
        f"import {modules}\n"
        f"print(sorted({slow!r} & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
