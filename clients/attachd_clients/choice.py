"""``attach`` without an id: a person chooses among the containers that run."""

import os
import sys

from attachd.errors import UsageError
from attachd_clients import listing


def choose(root: str) -> str:
    """Return the id that was chosen; raises UsageError when nobody can or does choose."""
    if not (os.isatty(0) and os.isatty(2)):
        raise UsageError("which container? name its id: see 'attachctl ls'")
    ids = [row["id"] for row in listing.rows(root) if row["phase"] in ("created", "running")]
    if not ids:
        raise UsageError(f"no container runs under {root}: see 'attachd run --help'")
    for number, container in enumerate(ids, 1):
        print(f"{number:3}  {container}", file=sys.stderr)
    return _ask(ids)


def _ask(ids: list[str]) -> str:
    """Ask until a number or an id is given; the end of input or an empty line gives up."""
    while True:
        print("attach to: ", end="", file=sys.stderr, flush=True)
        try:
            answer = sys.stdin.readline().strip()
        except KeyboardInterrupt:
            answer = ""
        if not answer:
            raise UsageError("nothing was chosen")
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(ids):
            return ids[int(answer) - 1]
        if answer in ids:
            return answer
        print(f"a number from 1 to {len(ids)}, or an id", file=sys.stderr)
