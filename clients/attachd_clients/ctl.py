"""``attachctl``: look after containers under a state root. Its verbs are in `verbs`."""

import argparse
import os
import sys
from typing import NoReturn

from attachd_clients.arguments import Parser, end, parser
from attachd_clients.verbs import Act, acting, follow_all, logs, look, metrics, sending

#: In the order of the help.
GROUPS = (look, metrics, logs, follow_all, acting, sending)


def main() -> NoReturn:
    """Run ``attachctl`` with the arguments of this process; never returns."""
    end("attachctl", lambda: run(sys.argv[1:]))


def run(words: list[str]) -> int:
    """Do what ``words`` say; return the exit code."""
    wish = _parse(words)
    act: Act = wish.act
    return act(wish)


def _parse(words: list[str]) -> argparse.Namespace:
    top = parser("attachctl", "Look after containers that run under attachd.")
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: Act, about: str) -> Parser:
        made = verbs.add_parser(name, help=about, description=about, allow_abbrev=False)
        made.set_defaults(act=act)
        return made

    for group in GROUPS:
        group.add(verb)
    return top.parse_args(words)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
