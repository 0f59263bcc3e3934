"""The containers of one Trio test, for the pytest plugin."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar, Unpack

import trio

from attachd_clients.script import containers
from attachd_clients.script.making import Wishes
from attachd_clients.script.options import TIMEOUT_SECONDS
from attachd_clients.script.session import Session
from attachd_clients.script.testing import Shelf

T = TypeVar("T")


class TrioShelf:
    """As `Shelf`; what is made lives in tasks, until the test is over."""

    def __init__(self, shelf: Shelf, nursery: trio.Nursery) -> None:
        self._shelf = shelf
        self._nursery = nursery
        self._leaving = trio.Event()

    async def container(
        self, command: Sequence[str] = (), **wishes: Unpack[Wishes]
    ) -> containers.Container:
        """Return a container, as ``open_container`` gives it."""
        wishes.setdefault("root", self._shelf.root)
        return await self._keep(containers.open_container(command, **wishes))

    async def session(
        self,
        command: Sequence[str] = (),
        *,
        timeout: float | None = TIMEOUT_SECONDS,
        **wishes: Unpack[Wishes],
    ) -> Session:
        """Return a session with a new container."""
        wishes.setdefault("root", self._shelf.root)
        return await self._keep(self._opened(command, timeout, wishes))

    def leave(self) -> None:
        """Let all of them go."""
        self._leaving.set()

    @contextlib.asynccontextmanager
    async def _opened(
        self, command: Sequence[str], timeout: float | None, wishes: Wishes
    ) -> AsyncIterator[Session]:
        async with containers.open_container(command, **wishes) as made:
            self._shelf.note(made)
            async with made.session(timeout=timeout) as session:
                yield session

    async def _keep(self, opened: contextlib.AbstractAsyncContextManager[T]) -> T:
        found: list[T] = []

        async def keep(task_status: trio.TaskStatus[None]) -> None:
            """Ends when the test leaves, or when it is cancelled."""
            async with opened as it:
                found.append(self._shelf.note(it))
                task_status.started()
                await self._leaving.wait()

        await self._nursery.start(keep)
        return found[0]
