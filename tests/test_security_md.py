"""docs/security.md names a test for each claim: it has to be there."""

import ast
import re
from pathlib import Path

from attachd.arguments import parser

HERE = Path(__file__).parent
TEXT = (HERE.parent / "docs" / "security.md").read_text()


def functions() -> set[str]:
    """Return the names of all tests."""
    trees = (ast.parse(path.read_bytes()) for path in HERE.rglob("test_*.py"))
    return {
        node.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def test_each_test_that_is_named_exists() -> None:
    """Files by their path, or by their name after another one; functions by their name."""
    named = set(re.findall(r"`(?:tests/)?([a-z_/]*test_\w+\.py)`", TEXT))
    files = {path.name for path in HERE.rglob("test_*.py")}
    paths = {str(path.relative_to(HERE)) for path in HERE.rglob("test_*.py")}
    assert named
    assert {name for name in named if name not in paths and name not in files} == set()
    claimed = set(re.findall(r"`(test_\w+)`", TEXT))
    assert claimed
    assert claimed - functions() == set()


def test_each_option_that_is_named_exists() -> None:
    """But for those that belong to attachctl."""
    known = {
        word
        for action in parser()._subparsers._group_actions[0].choices["run"]._actions
        for word in action.option_strings
    }
    named = set(re.findall(r"`(--[a-z-]+)[ `]", TEXT))

    assert {"--allow-uid", "--allow-gid", "--viewers-gid"} <= named
    assert named <= known
