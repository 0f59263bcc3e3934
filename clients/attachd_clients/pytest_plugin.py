"""The pytest plugin ``attachd``: containers for tests, gone after them whatever happened.

    def test_greeting(session):
        with_shell = session(["sh", "-i"], terminal=True)
        with_shell.expect("$ ")

    async def test_greeting_in_trio(session):
        with_shell = await session(["sh", "-i"], terminal=True)
        await with_shell.expect("$ ")

What a session has said and heard is attached to the report of a test that fails. Nothing of
attachd's is imported before a test asks for a container.
"""

import gc
import os
import shutil
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from attachd_clients.script.testing import Shelf
    from attachd_clients.script.testing_trio import TrioShelf

_SHELF = pytest.StashKey["Shelf"]()


@pytest.fixture
def container(request: pytest.FixtureRequest) -> object:
    """A factory of containers: ``container(["cat"])``, ``container(bundle=path)``.

    Takes what `attachd_clients.script.open_container` takes. To be awaited in a Trio test.
    """
    return request.getfixturevalue(_inner(request, "container"))


@pytest.fixture
def session(request: pytest.FixtureRequest) -> object:
    """A factory of sessions, each with a container of its own: ``session(["sh"])``.

    Takes what ``container`` takes, and the session's ``timeout``. To be awaited in a Trio test.
    """
    return request.getfixturevalue(_inner(request, "session"))


def _inner(request: pytest.FixtureRequest, name: str) -> str:
    trio = request.node.get_closest_marker("trio") is not None
    return f"_attachd_{'trio_' if trio else ''}{name}"


@pytest.fixture
def _attachd_shelf(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Shelf"]:
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("containers need root and the OCI runtime runc")
    from attachd_clients.script.testing import Shelf

    shelf = Shelf(str(tmp_path_factory.mktemp("attachd")))
    request.node.stash[_SHELF] = shelf
    yield shelf
    shelf.close()


@pytest.fixture
def _attachd_container(_attachd_shelf: "Shelf") -> object:
    return _attachd_shelf.container


@pytest.fixture
def _attachd_session(_attachd_shelf: "Shelf") -> object:
    return _attachd_shelf.session


@pytest.fixture
async def _attachd_trio_shelf(_attachd_shelf: "Shelf") -> AsyncIterator["TrioShelf"]:
    import trio

    from attachd_clients.script.testing_trio import TrioShelf

    async with trio.open_nursery() as nursery:
        shelf = TrioShelf(_attachd_shelf, nursery)
        yield shelf
        shelf.leave()


@pytest.fixture
def _attachd_trio_container(_attachd_trio_shelf: "TrioShelf") -> object:
    return _attachd_trio_shelf.container


@pytest.fixture
def _attachd_trio_session(_attachd_trio_shelf: "TrioShelf") -> object:
    return _attachd_trio_shelf.session


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the transcripts of a failed test to its report, the first one that fails."""
    shelf = item.stash.get(_SHELF, None)
    if shelf is not None and call.excinfo is not None:
        # A timeout's signal may have torn Trio's loop down. Its ruins are collected now, not while
        # pytest parses the test's source: that ends the whole run (pytest-dev/pytest#10763).
        gc.collect()
    report = yield
    if shelf is not None and report.failed:
        report.sections.extend(shelf.told())
        del item.stash[_SHELF]
    return report
