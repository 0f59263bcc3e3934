"""stdin while the server is killed again and again: nothing is lost or doubled on its way.

The long form is ``scripts/storm stdin``.
"""

import hashlib
import random

import pytest
from storming import storm

pytestmark = [pytest.mark.runc, pytest.mark.slow]

SEED = 20


def test_a_storm_of_deaths_loses_and_doubles_nothing(shop) -> None:
    """20 MB each into files and into sha256sum, 25 kills: exact, with exit code 0."""
    print(f"seed {SEED}")
    data = random.Random(SEED).randbytes(20_000_000)
    fed = storm(shop, data, [7, 6, 6, 6], SEED)

    assert [(told.code, told.words) for told in fed] == [(0, b"")] * 4
    assert [told.record["exit_code"] for told in fed] == [0] * 4
    assert {told.digest for told in fed} == {hashlib.sha256(data).hexdigest()}
    # The last death, at the end of stdin, may come after the record, or not at all.
    assert sum(told.kills for told in fed) >= 25 - 4
    assert sum(told.record["restarts"] for told in fed) >= 25 - 4
