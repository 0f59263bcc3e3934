"""``attachctl``: look after containers under a state root. Its verbs are in `verbs`.

What a verb needs is loaded when it is the one that was asked for: most are run from scripts,
again and again, and Trio alone is half of the time that they take.
"""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from attachd_clients.arguments import Parser, end, parser
from attachd_clients.verbs import Act

#: Each module of `verbs` with its verbs, in the order of the help.
GROUPS = {
    "look": ("ls", "inspect", "stats"),
    "metrics": ("metrics",),
    "logs": ("logs",),
    "follow_all": ("follow-all",),
    "recording": ("record", "play", "snapshot"),
    "execute": ("exec",),
    "acting": ("wait", "kill", "start", "resize", "rotate", "reopen", "rm"),
    "sending": ("send",),
    "upgrading": ("upgrade",),
}


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

    for name in _groups_of(words):
        importlib.import_module(f"attachd_clients.verbs.{name}").add(verb)
    return top.parse_args(words)


def _groups_of(words: list[str]) -> list[str]:
    """Return the modules that are needed to understand ``words``: one, or for help all."""
    first = words[2:] if words[:1] == ["--root"] else words
    found = [name for name, verbs in GROUPS.items() if first[:1] and first[0] in verbs]
    return found or list(GROUPS)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
