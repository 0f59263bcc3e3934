"""Hypothesis profiles, and the fixture that every end-to-end test stands on."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Shop
from hypothesis import HealthCheck, settings
from managing import Manager
from panes import Panes

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "fast",
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.register_profile(
    "deep", max_examples=3000, deadline=None, suppress_health_check=_SLOW_IS_FINE
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A state root of this test alone, and the programs; afterwards nothing is left."""
    if os.geteuid() != 0 or shutil.which("runc") is None:
        pytest.skip("needs root and a real runc")
    made = Shop(tmp_path / "root", tmp_path)
    yield made
    made.close()


@pytest.fixture
def passable() -> Iterator[Path]:
    """A directory of this test alone that others can get to, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="attachd-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
def panes(shop: Shop) -> Iterator[Panes]:
    """Real terminals: a tmux of this test alone."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux")
    made = Panes(shop)
    yield made
    made.close()


@pytest.fixture
def manager(shop: Shop) -> Iterator[Manager]:
    """A player of conmon's caller; afterwards its containers are deleted."""
    made = Manager(shop)
    yield made
    made.close()
