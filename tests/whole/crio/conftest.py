"""One CRI-O for each test, with attachd's monitor, and where it applies with conmon's own."""

import shutil
from collections.abc import Iterator

import pytest
from crio import OURS, Crio
from harness import BIN, Shop, wait_for


@pytest.fixture
def crio(shop: Shop, request: pytest.FixtureRequest) -> Iterator[Crio]:
    """CRI-O with ``attachd-conmon``, or with the monitor that a parameter names."""
    name = getattr(request, "param", OURS)
    found = str(BIN / name) if name == OURS else shutil.which(name)
    made = Crio(shop, str(found))
    yield made
    try:
        made.close()
        if name == OURS:
            wait_for(lambda: not made.left())
    finally:
        made.forget()
