"""A client of at most 80 lines, standard library and msgpack only, written from protocol.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE

CLIENT = Path(__file__).parent / "minimal_client.py"


def test_it_is_short_and_needs_nothing_of_ours() -> None:
    """At most 80 lines; msgpack and the standard library."""
    text = CLIENT.read_text()
    imported = {
        n.names[0].name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import)
    }
    assert text.count("\n") <= 80
    assert imported <= sys.stdlib_module_names | {"msgpack"}


@pytest.mark.runc
def test_it_feeds_stdin_shows_both_streams_and_ends_with_the_code(shop) -> None:
    """A real container, attached before its start."""
    box = shop.create("sh", "-c", "cat; echo err >&2; exit 7", options=("-i",))
    data = bytes(range(256)) * 9000
    client = subprocess.Popen(
        [sys.executable, str(CLIENT), str(shop.path(box))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    shop.call("attachd", "start", box)
    out, err = client.communicate(data, timeout=PATIENCE)

    assert (client.returncode, err) == (7, b"err\n")
    assert out == data
