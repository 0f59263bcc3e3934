"""Small blocks, so that small files have many."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from attachd.history import reading, unpack


@pytest.fixture(autouse=True)
def small_blocks() -> Iterator[None]:
    """Blocks are smaller than most records, and nobody waits for a file that is gone."""
    with patch.object(unpack, "BLOCK_BYTES", 100), patch.object(reading, "_PAUSE", 0):
        yield
