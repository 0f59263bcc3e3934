"""The pytest plugin, in pytest runs of its own."""

import json
import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]

HEADER = """
import os
import pytest
from attachd_clients import Place
"""

TRIO = "[pytest]\ntrio_mode = true\n"


@pytest.fixture
def inner(pytester, shop):
    """Run tests in a directory of their own; ``shop`` skips where there can be no container."""
    pytester.makeini(TRIO)

    def run(code: str, *words: str):
        pytester.makepyfile(HEADER + code)
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *words)

    return run


def left(pytester) -> set[str]:
    """Return what the runtime still knows of the tests' containers."""
    known = subprocess.run(["runc", "list", "-q"], capture_output=True, text=True, check=False)
    ids = (pytester.path / "ids").read_text().split()
    assert ids
    return set(ids) & set(known.stdout.split())


@pytest.mark.runc
def test_containers_and_sessions_in_both_colours(inner, pytester) -> None:
    """Blocking in a plain test, awaited in a Trio test; all gone afterwards."""
    done = inner(
        """
        def note(*made):
            with open("ids", "a") as file:
                print(*(its.id for its in made), file=file)

        def test_plain(container, session):
            box = container(["sh", "-c", "echo hello; exit 3"])
            with box.session() as s:
                s.expect("hello")
                assert s.wait() == 3
            shell = session(["sh", "-i"], terminal=True, timeout=20)
            shell.expect("$ ")
            assert shell.timeout == 20
            note(box, shell.client.place)

        async def test_trio(container, session):
            box = await container(["sh", "-c", "echo hello; exit 3"])
            async with box.session() as s:
                await s.expect("hello")
                assert await s.wait() == 3
            shell = await session(["sh", "-i"], terminal=True, timeout=20)
            await shell.expect("$ ")
            note(box, shell.client.place)

        def test_left_running(session):
            note(session(["sleep", "1000"]).client.place)
        """.replace("\n        ", "\n")
    )

    done.assert_outcomes(passed=3)
    assert not left(pytester)


@pytest.mark.runc
def test_a_failure_shows_what_was_said(inner, pytester) -> None:
    """In a section of the report, and nothing is left; other tests show nothing."""
    done = inner(
        """
        def note(made):
            with open("ids", "a") as file:
                print(made.id, file=file)

        def test_plain(session):
            s = session(["sh", "-c", "echo ready; cat"])
            note(s.client.place)
            s.expect("ready")
            s.send_line("one thing")
            s.expect("another thing", timeout=0.5)

        async def test_trio(session):
            s = await session(["cat"])
            note(s.client.place)
            await s.send_line("said in trio")
            await s.expect("in trio")
            assert 1 == 2

        def test_good(session):
            note(session(["cat"]).client.place)

        @pytest.fixture
        def ending(session):
            s = session(["cat"])
            note(s.client.place)
            yield s
            assert s.exit(send_eof=True) == 3

        def test_teardown(ending):
            ending.send_line("said before the end")
        """.replace("\n        ", "\n")
    )

    done.assert_outcomes(failed=2, passed=2, errors=1)
    done.stdout.fnmatch_lines(
        [
            "* sent     said before the end^J",
            "*not seen in 0.5 s: another thing",
            "* container  runs",
            "*- attachd script-* -*",
            "* matched  *ready*",
            "* sent     one thing^J",
            "* failed   not seen in 0.5 s: another thing",
            "*- attachd script-* -*",
            "* sent     said in trio^J",
        ]
    )
    assert done.stdout.str().count("- attachd script-") == 3
    assert "plans.py" not in done.stdout.str()  # the traceback ends in the test
    assert "session.py" not in done.stdout.str()
    assert not left(pytester)


@pytest.mark.runc
@pytest.mark.parametrize("method", ["signal"])
def test_a_test_that_times_out_leaves_nothing(inner, pytester, method) -> None:
    """Nor does one whose other fixture fails."""
    done = inner(
        """
        def note(made):
            with open("ids", "a") as file:
                print(made.id, file=file)
            return made

        @pytest.fixture
        def broken(container):
            note(container(["sleep", "1000"]))
            raise RuntimeError("broken")

        def test_setup(broken):
            pass

        def test_plain(session):
            s = session(["cat"])
            note(s.client.place)
            s.expect("never", timeout=None)

        async def test_trio(session):
            s = await session(["cat"])
            note(s.client.place)
            await s.expect("never", timeout=None)

        def test_after(session):
            note(session(["cat"]).client.place)
        """.replace("\n        ", "\n"),
        "--timeout=4",
        f"--timeout-method={method}",
    )

    assert done.parseoutcomes()["errors"] >= 1
    assert done.parseoutcomes()["failed"] == 2
    assert done.parseoutcomes()["passed"] == 1
    assert not left(pytester)


@pytest.mark.runc
def test_ruins_are_collected_before_a_failure_is_told(inner, pytester) -> None:
    """A timeout leaves Trio's; pytest does not survive them while it parses source."""
    inner(
        """
        import gc

        def note(what):
            with open("order", "a") as file:
                print(what, file=file)

        class Ruin:
            def __del__(self):
                note("collected")

        class Failing(Exception):
            def __str__(self):
                note("told")
                return "failing"

        def test_it(session):
            gc.disable()
            ruin = Ruin()
            ruin.itself = ruin
            del ruin
            raise Failing
        """.replace("\n        ", "\n")
    ).assert_outcomes(failed=1)

    assert (pytester.path / "order").read_text().split()[:2] == ["collected", "told"]


@pytest.mark.runc
def test_workers_do_not_disturb_each_other(inner, pytester) -> None:
    """Ids are unique over processes."""
    pytest.importorskip("xdist")
    done = inner(
        """
        @pytest.mark.parametrize("number", range(6))
        def test_it(session, number):
            s = session(["cat"])
            with open("ids", "a") as file:
                print(s.client.place.id, file=file)
            s.send_line(f"number {number}")
            s.expect(f"number {number}")
        """.replace("\n        ", "\n"),
        "-n2",
    )

    done.assert_outcomes(passed=6)
    assert not left(pytester)


def test_without_a_runtime_tests_are_skipped_with_a_reason(pytester, monkeypatch) -> None:
    """They do not fail."""
    monkeypatch.setenv("PATH", "/nonesuch")
    pytester.makepyfile("def test_it(container): pass")
    done = pytester.runpytest_subprocess("-rs")

    done.assert_outcomes(skipped=1)
    done.stdout.fnmatch_lines(["*containers need root and the OCI runtime runc*"])


def test_who_does_not_use_it_sees_and_loads_nothing(pytester) -> None:
    """Of ours nothing but the plugin is there; no option, no marker."""
    pytester.makepyfile(
        """
        import json, sys

        def test_it():
            names = [n for n in sys.modules if n.startswith("attachd_clients.")]
            print("loaded", json.dumps(sorted(names)))
        """
    )
    done = pytester.runpytest_subprocess("-s", "-p", "no:trio")
    line = next(x for x in done.outlines if "loaded" in x)
    loaded = set(json.loads(line.partition("loaded ")[2].rstrip(".")))

    done.assert_outcomes(passed=1)
    assert not {name for name in loaded if name.startswith("attachd_clients.script")}
    help_text = pytester.runpytest_subprocess("--help").stdout.str()
    assert "attachd" not in help_text.replace("attachd-", "")


@pytest.mark.parametrize(
    ("module", "light"),
    [
        ("attachd_clients.pytest_plugin", {"trio", "attr", "msgpack", "regex", "pyte"}),
        ("attachd_clients.script.testing", {"trio"}),
        ("attachd_clients.script.blocking", {"trio"}),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(module, light) -> None:
    """The plugin waits with what is heavy, the blocking colour does without Trio."""
    code = (
        "import sys, pytest; before = set(sys.modules)\n"
        f"import {module}\n"
        f"print(sorted({light!r} & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
