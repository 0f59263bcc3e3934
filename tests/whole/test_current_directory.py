"""Whoever runs attachd in somebody's directory runs nothing of that somebody's."""

import pytest

pytestmark = pytest.mark.runc


@pytest.mark.parametrize("words", [("run", "--attach"), ("run", "-t"), ("start",)])
def test_modules_in_the_current_directory_are_not_ours(shop, tmp_path, words) -> None:
    """A trio.py there is not imported by the programs that attachd becomes."""
    for name in ("trio", "attrs", "attachd_clients", "pyte"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    box = shop.create("true") if words == ("start",) else shop.name()
    command = () if words == ("start",) else ("--", "true")
    done = shop.call("attachd", *words, box, *command, cwd=tmp_path, check=False)

    assert b"not ours" not in done.stderr
    assert done.returncode == 0
