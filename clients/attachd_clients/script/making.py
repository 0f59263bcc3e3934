"""Making a container for a script, and having it gone again. Blocking; both colours use it.

``attachd`` is run as a program: clients do not know the server's rooms.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import TypedDict, TypeVar

import attrs

from attachd.errors import UsageError
from attachd.ground import state_root
from attachd.state.sizes import Size
from attachd_clients.places import NoSuchContainer, Place
from attachd_clients.removal import remove
from attachd_clients.script.transcript import Transcript

#: A shell in a terminal shows this prompt unless ``env`` has another: that of most shells
#: depends on who runs them, and on where.
PROMPT = {"PS1": "$ "}


class Wishes(TypedDict, total=False):
    """What can be wished for besides a command."""

    terminal: bool  #: it has a terminal; otherwise pipes
    stdin: bool  #: its stdin is open, which is the default
    size: tuple[int, int]  #: columns and rows of its terminal
    env: Mapping[str, str]  #: set for the command; without it PS1 at a terminal
    bundle: str | os.PathLike[str]  #: an OCI bundle, instead of a command
    options: Sequence[str]  #: more options of ``attachd run``
    root: str | None  #: the state root; without one, that of ``attachd``


@attrs.frozen(kw_only=True)
class Wish:
    """What container is wanted. Raises UsageError for what does not go together."""

    command: tuple[str, ...] = ()
    terminal: bool = False
    stdin: bool = True
    size: tuple[int, int] | None = None
    env: Mapping[str, str] | None = None
    bundle: str | os.PathLike[str] | None = None
    options: Sequence[str] = ()
    root: str | None = None

    @classmethod
    def of(cls, command: Sequence[str], wishes: Wishes) -> "Wish":
        """Return what a caller wants."""
        if isinstance(command, str):
            raise UsageError("a command is a list of words, like ['sh', '-c', 'echo hello']")
        return cls(command=tuple(command), **wishes)

    def __attrs_post_init__(self) -> None:
        if bool(self.command) == (self.bundle is not None):
            raise UsageError("a container is made of a command or of a bundle")
        if self.bundle is not None and self.env is not None:
            raise UsageError("env is for a command: a bundle has its own")

    @property
    def environment(self) -> dict[str, str]:
        """What is set besides what the default bundle has."""
        usual = PROMPT if self.terminal and self.command else {}
        return dict(usual if self.env is None else self.env)


@attrs.define(eq=False)
class Made:
    """A container that was made here: ``id``, and where its state is."""

    id: str
    root: str
    transcripts: list[Transcript] = attrs.field(factory=list)  #: of its sessions
    _scratch: str = ""  #: the bundle, when it is one of ours

    @property
    def place(self) -> Place:
        """Where its state is."""
        return Place(self.root, self.id)

    @property
    def record(self) -> Mapping[str, object] | None:
        """The exit record, or None while it has not ended."""
        return self.place.exit_record()


M = TypeVar("M", bound=Made)


def new_id() -> str:
    """Return an id that nobody else has: a runtime's ids are global, and tests run at once."""
    return f"script-{os.getpid()}-{secrets.token_hex(4)}"


def make(made: Made, wish: Wish) -> None:
    """Run it. Raises UsageError with attachd's own words; what was begun is for ``unmake``."""
    words = ["run", "--root", made.root, *wish.options]
    words += ["--stdin"] if wish.stdin else []
    words += ["--tty", "--detach"] if wish.terminal else []
    words += ["--size", str(Size(*wish.size))] if wish.size is not None else []
    bundle = wish.bundle
    if wish.environment:
        made._scratch = tempfile.mkdtemp(prefix="attachd-script-")
        bundle = _bundle(made, wish)
    if bundle is not None:
        _attachd(*words, "--bundle", os.fspath(bundle), made.id)
    else:
        _attachd(*words, made.id, "--", *wish.command)


def begin(kind: type[M], wish: Wish) -> M:
    """Return what is not there yet: a name, and a place."""
    return kind(new_id(), os.path.abspath(wish.root or state_root()))


def unmake(made: Made) -> None:
    """Kill and remove it, if it is there. Raises UsageError when its shim does not go."""
    try:
        with contextlib.suppress(NoSuchContainer):
            remove(Place.find(made.id, made.root), force=True)
    finally:
        if made._scratch:
            shutil.rmtree(made._scratch, ignore_errors=True)


def _bundle(made: Made, wish: Wish) -> str:
    """Write a bundle for the command, with its environment; return its path."""
    path = os.path.join(made._scratch, made.id)
    _attachd("spec", path, "--", *wish.command)
    config = os.path.join(path, "config.json")
    with open(config, encoding="utf-8") as file:
        spec = json.load(file)
    spec["process"]["terminal"] = wish.terminal
    told = dict(line.split("=", 1) for line in spec["process"]["env"]) | wish.environment
    spec["process"]["env"] = [f"{name}={value}" for name, value in told.items()]
    with open(config, "w", encoding="utf-8") as file:
        json.dump(spec, file)
    return path


def _attachd(*words: str) -> None:
    # -P: an attachd.py in the caller's directory is not ours.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "attachd", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().removeprefix("attachd: ")
        raise UsageError(told or f"attachd {words[0]} ended with {done.returncode}")
