"""The verbs of ``attachctl``: one module for each group, each adds its own words.

A verb's function takes the parsed words and returns the exit code; it raises AttachdError or
TimeoutError for what becomes one line on stderr.
"""

import argparse
import contextlib
from collections.abc import Callable

from attachd_clients.arguments import Parser
from attachd_clients.blocking import BlockingClient, attach_blocking
from attachd_clients.places import Place

#: A request is answered at once, or something is wrong with the shim.
ANSWER_SECONDS = 30.0

Act = Callable[[argparse.Namespace], int]
Add = Callable[[str, Act, str], Parser]


def control(
    place: Place, role: str = "full", execution: str = ""
) -> contextlib.AbstractContextManager[BlockingClient]:
    """Return a client that asks for things and sees no output; of an exec, if one is named."""
    return attach_blocking(
        place.id, root=place.root, since="none", role=role, name="attachctl", exec=execution
    )
