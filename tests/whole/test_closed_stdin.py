"""A container that takes no more stdin."""

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE

from attachd.errors import Refused

pytestmark = pytest.mark.runc


async def test_a_writer_is_told_that_the_container_has_closed_its_stdin(shop) -> None:
    """Even with bytes on the way that will never be delivered."""
    box = shop.run("sh", "-c", "exec 0<&-; sleep 1000", options=("-i",))
    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="live") as client:
            with pytest.raises(Refused, match="closed"):
                await client.send(b"x" * 5_000_000)
