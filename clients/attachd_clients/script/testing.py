"""The containers of one test, for the pytest plugin: made on demand, and gone with the test."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TypeVar, Unpack

from attachd_clients.places import Place
from attachd_clients.removal import remove
from attachd_clients.script import blocking
from attachd_clients.script.making import Made, Wishes
from attachd_clients.script.options import TIMEOUT_SECONDS

T = TypeVar("T")


class Shelf:
    """What one test has made, under a state root of its own."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._made: list[Made] = []
        self._stack = contextlib.ExitStack()

    def container(
        self, command: Sequence[str] = (), **wishes: Unpack[Wishes]
    ) -> blocking.Container:
        """Return a container, as ``open_container`` gives it."""
        wishes.setdefault("root", self.root)
        opened = blocking.open_container(command, **wishes)
        return self.note(self._stack.enter_context(opened))

    def session(
        self,
        command: Sequence[str] = (),
        *,
        timeout: float | None = TIMEOUT_SECONDS,
        **wishes: Unpack[Wishes],
    ) -> blocking.Session:
        """Return a session with a new container."""
        made = self.container(command, **wishes)
        return self._stack.enter_context(made.session(timeout=timeout))

    def note(self, made: T) -> T:
        """Remember what was made, for a failure's report."""
        if isinstance(made, Made):
            self._made.append(made)
        return made

    def told(self) -> Iterator[tuple[str, str]]:
        """Yield a title and a transcript for each session there was."""
        for made in self._made:
            for number, transcript in enumerate(made.transcripts, 1):
                count = f" session {number}" if len(made.transcripts) > 1 else ""
                yield f"attachd {made.id}{count}", str(transcript)

    def close(self) -> None:
        """Remove all of them, also what a crash has left."""
        try:
            self._stack.close()
        finally:
            for place in Place.all(self.root):
                remove(place, force=True)
            shutil.rmtree(self.root, ignore_errors=True)
