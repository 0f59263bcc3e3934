"""Scripts that talk to real containers: pexpect's job, on both colours."""

import contextlib
import functools
import inspect
import re
import signal

import pytest
import trio
from attachd_clients import Place
from attachd_clients.script import (
    EOF,
    EXIT,
    ExpectEnded,
    ExpectTimeout,
    ScriptError,
    SendRefused,
    attach,
    blocking,
    open_container,
)
from harness import PATIENCE, wait_for

from attachd.errors import UsageError

pytestmark = pytest.mark.runc


@pytest.fixture
def opened(shop):
    """``open_container`` of the Trio colour under this test's root."""
    return functools.partial(open_container, root=str(shop.root))


@pytest.fixture
def opened_blocking(shop):
    return functools.partial(blocking.open_container, root=str(shop.root))


@contextlib.asynccontextmanager
async def talking(opened, *command: str, timeout: float = 20, **wishes):
    async with opened(list(command), **wishes) as box, box.session(timeout=timeout) as session:
        yield session


async def test_the_example_works(opened) -> None:
    """A shell with a terminal, its prompt, an answer, its end; again and again."""
    for _ in range(5):
        async with opened(["sh", "-i"], terminal=True) as box:
            async with box.session() as s:
                await s.expect("$ ")
                await s.send_line("read x; echo got $x")
                await s.send_line("42")
                m = await s.expect(r"got (\d+)", timeout=5)
                assert (m[1], m.groups(), m.after, m.index) == ("42", ("42",), "got 42", 0)
                assert "echo got $x\r\n" in m.before  # what was typed ahead may follow it
                assert await s.exit(send_eof=True) == 0
            assert box.record["exit_code"] == 0


def test_the_example_works_without_trio(opened_blocking) -> None:
    """The same words."""
    with opened_blocking(["sh", "-i"], terminal=True) as box:
        with box.session() as s:
            s.expect("$ ")
            s.send_line("read x; echo got $x")
            s.send_line("42")
            assert s.expect(r"got (\d+)", timeout=5)[1] == "42"
            assert s.exit(send_eof=True) == 0


def test_both_colours_have_the_same_names() -> None:
    """Whoever knows one knows the other."""
    from attachd_clients import script

    assert script.__all__ == blocking.__all__
    for name in ("Session", "Container"):
        ours, theirs = (
            {
                key: list(inspect.signature(value).parameters)
                for key, value in vars(getattr(colour, name)).items()
                if not key.startswith("_") and callable(value)
            }
            for colour in (script, blocking)
        )
        assert ours == theirs


async def test_a_container_is_gone_whatever_happened(shop, opened) -> None:
    """An error, or a cancel; kill and rm included."""
    ids = []
    with contextlib.suppress(ZeroDivisionError):
        async with opened(["sleep", "1000"]) as box:
            ids.append(box.id)
            raise ZeroDivisionError
    with trio.move_on_after(PATIENCE) as scope:
        async with opened(["sleep", "1000"]) as box, box.session() as session:
            ids.append(box.id)
            scope.cancel()
            await session.expect("never")
    assert not any(Place(str(shop.root), its).exists() for its in ids)
    assert not shop.processes()


def test_what_cannot_be_run_is_told_in_attachd_s_words(shop, opened_blocking) -> None:
    """And leaves nothing."""
    for wrong, told in (
        ({"command": ["/nonesuch"]}, "nonesuch"),
        ({"command": []}, "command or of a bundle"),
        ({"command": "sh"}, "list of words"),
        ({"command": [], "bundle": "/nonesuch"}, "nonesuch"),
        ({"command": [], "bundle": "/x", "env": {}}, "env is for a command"),
    ):
        with pytest.raises(UsageError, match=told):
            with opened_blocking(**wrong):
                pass
    assert not Place.all(str(shop.root))


def test_a_bundle_an_environment_and_a_size(shop, opened_blocking) -> None:
    """What a container is made of."""
    with opened_blocking(bundle=shop.bundle("sh", "-c", "echo from bundle")) as box:
        with box.session() as s:
            s.expect("from bundle$")
    command = ["sh", "-c", "echo $A,$HOME; stty size; cat"]
    with opened_blocking(command, terminal=True, size=(91, 17), env={"A": "b=c"}) as box:
        with box.session() as s:
            s.expect(r"b=c,/root\r\n17 91\r\n")
            s.resize(70, 20)
            assert s.snapshot().size == (70, 20)
            s.send_line("echoed")
            s.expect("echoed$")
            shown = s.expect_screen("echoed")
            assert (shown.size, str(shown).split("\n")[0]) == ((70, 20), "b=c,/root")


async def test_offsets_are_the_container_s_own(opened) -> None:
    """Over characters of several bytes, and bytes that are no text."""
    command = r"printf 'é\377x\0end1'; read x; printf 'é\377x\0end2'; cat"
    async with talking(opened, "sh", "-c", command) as s:
        m = await s.expect("end1")
        assert (m.start, m.end, s.offset) == (5, 9, 9)
        assert m.before == "é\ufffdx\0"
        await s.send_line()
        m = await s.expect(b"end2")
        assert (m.start, m.end, m.before) == (14, 18, "é".encode() + b"\xffx\0")
        assert (s.before, s.after) == (m.before, b"end2")


async def test_several_patterns_and_the_ends(opened) -> None:
    """The earliest wins, then the first; EOF comes after all output, EXIT with the record."""
    async with talking(opened, "sh", "-c", "echo one two; exit 7") as s:
        m = await s.expect(["two", re.compile("one"), b"on", EOF])
        assert (m.index, m.pattern) == (1, re.compile("one"))
        m = await s.expect_exact(["o", EOF, "tw"])
        assert (m.index, m.after) == (2, "tw")
        m = await s.expect(["never", EOF])
        assert (m.index, m.before, m.after, m.pattern) == (1, "o\n", "", EOF)
        m = await s.expect([EXIT])
        assert (m.index, m.start, m[0], m.groups()) == (0, 8, "", ())
        assert s.record["exit_code"] == 7
        assert await s.wait() == 7


async def test_one_stream_alone(opened) -> None:
    """The other is not looked at, and offsets are still over both."""
    async with opened(["sh", "-c", "echo out; read x; echo err >&2; cat >&2"]) as box:
        async with box.session(streams=["stderr"]) as err, box.session() as both:
            await both.expect("out\n")
            await both.send_line()
            m = await err.expect("err")
            assert (m.start, m.before) == (4, "")
            await both.expect("err")
            assert await both.exit(send_eof=True) == 0


async def test_output_that_comes_too_late(opened) -> None:
    """The failure says what was awaited and shows what was there; the output is not lost."""
    async with talking(opened, "sh", "-ic", "echo ready; cat", terminal=True) as s:
        with pytest.raises(
            ExpectTimeout, match=r"(?s)not seen in 0.1 s: never.*runs.*ready.*80x24"
        ):
            await s.expect("never", timeout=0.1)
        await s.expect("ready")


async def test_a_container_that_dies_in_the_middle(opened) -> None:
    """While something is awaited, or sent: the end is told, and nothing hangs."""
    async with talking(opened, "sh", "-c", "echo last words; exit 9") as s:
        with pytest.raises(ExpectEnded, match=r"(?s)never.*exited with 9.*last words"):
            await s.expect("never")
        with pytest.raises(ExpectEnded, match="exited with 9"):
            await s.send_line("hello?")
        with pytest.raises(ExpectEnded, match="exited with 9"):
            await s.signal("TERM")
        assert await s.wait() == 9
    async with talking(opened, "sh", "-c", "sleep 0.2; exit 3") as s:
        with pytest.raises(ExpectEnded, match="exited with 3"):
            await s.send(b"x" * 200_000)  # more than its pipe takes


def test_a_container_that_dies_in_the_middle_without_trio(opened_blocking) -> None:
    """The same."""
    with opened_blocking(["sh", "-c", "sleep 0.2; exit 3"]) as box:
        with box.session() as s:
            with pytest.raises(ExpectEnded, match="exited with 3"):
                s.send(b"x" * 200_000)
            with pytest.raises(ExpectEnded, match="exited with 3"):
                s.expect("never")
            assert s.wait() == 3


async def test_a_shim_that_is_killed_with_its_keeper_is_told(shop, opened) -> None:
    """Nobody knows the end then."""
    async with talking(opened, "sh", "-c", "echo x; sleep 1000") as s:
        box = s.client.place.id
        await s.expect("x")
        shop.kill_shim(box)
        with pytest.raises(ScriptError):
            await s.expect("never", timeout=5)


async def test_a_server_that_is_killed_is_a_pause(shop, opened) -> None:
    """Offsets go on, nothing is matched twice."""
    import os

    async with talking(opened, "cat") as s:
        await s.send_line("one")
        await s.expect("one\n")
        os.kill(shop.server(s.client.place.id), signal.SIGKILL)
        await s.send_line("two")
        m = await s.expect("two")
        assert (m.start, m.before) == (4, "")
        assert await s.exit(send_eof=True) == 0


async def test_a_pattern_that_never_ends_ends_at_the_timeout(opened) -> None:
    """It is told as that; meanwhile Trio's loop goes on."""
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await trio.sleep(0.01)
            beats += 1

    async with talking(opened, "sh", "-c", f"echo '{'a' * 200}?!'; cat") as s:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beat)
            with pytest.raises(ExpectTimeout, match=r"longer than 1 s"):
                await s.expect("(a|aa)+!", timeout=1)
            assert beats > 10
            nursery.cancel_scope.cancel()
        await s.expect(r"a\?!\n")


def test_a_pattern_that_never_ends_without_trio(opened_blocking) -> None:
    """The same."""
    with opened_blocking(["sh", "-c", f"echo '{'a' * 200}?!'; cat"]) as box:
        with box.session() as s:
            with pytest.raises(ExpectTimeout, match=r"longer than 0.5 s"):
                s.expect("(a|aa)+!", timeout=0.5)


async def test_stdin_that_is_closed_or_somebody_else_s_is_told(shop, opened) -> None:
    """In a few words, by its own error."""
    async with talking(opened, "sh", "-c", "exec <&-; echo x; sleep 1000", stdin=False) as s:
        await s.expect("x")
        with pytest.raises(SendRefused, match=r"(?s)stdin of 1 bytes: .*closed.*runs"):
            await s.send("y")
    async with opened(["cat"]) as box:
        async with box.session() as s, box.session() as other:
            await other.client.lease("take")
            with pytest.raises(SendRefused, match="stdin of 2 bytes"):
                await s.send_line("y")
            await other.send_line("z")
            await s.expect("z")


async def test_a_container_that_does_not_read_is_a_timeout(opened) -> None:
    """Of ``send``."""
    async with talking(opened, "sleep", "1000") as s:
        with pytest.raises(ExpectTimeout, match=r"not taken in 0.5 s: stdin of 3000000 bytes"):
            await s.send(b"x" * 3_000_000, timeout=0.5)


async def test_keys_signals_and_the_end_of_a_terminal_s_input(opened) -> None:
    """ctrl-C interrupts, ctrl-D ends one program, and the shell goes on."""
    async with talking(opened, "sh", "-i", terminal=True) as s:
        await s.expect("$ ")
        await s.send_line("echo rea''dy; cat; echo over $((1 + 1))")
        await s.expect("ready")  # the shell has given the terminal its ordinary mode
        await s.send_line("hello")
        await s.expect("hello\r\nhello\r\n")
        await s.send_eof()
        await s.expect("over 2")
        await s.send_line("echo rea''dy; cat")
        await s.expect("ready")
        await s.send_line("hello")
        await s.expect("hello\r\nhello\r\n")  # cat is there to be interrupted
        await s.send_control("c")
        await s.expect("$ ")
        with pytest.raises(UsageError):
            await s.send_control("ctrl-c")
        with pytest.raises(UsageError):
            await s.signal("NOPE")
        await s.signal("kill")
        assert await s.wait() == 137


async def test_a_screen_is_waited_for_and_seen(opened) -> None:
    """As a person would; also what was drawn before we came."""
    async with opened(["sh", "-c", "printf '\\033[2;3Hmenu'; read x; printf '\\033[2;3Hdone'; cat"],
                      terminal=True) as box:  # fmt: skip
        async with box.session() as s:
            shown = await s.expect_screen(r"^\s+menu$|never", timeout=PATIENCE)
            assert shown.rows[1] == "  menu"
            async with attach(box.id, root=box.root, timeout=PATIENCE) as late:
                assert "menu" in str(await late.snapshot())
                with pytest.raises(ExpectTimeout):
                    await late.expect("menu", timeout=0.1)
                await s.send_line()
                await late.expect("done")
                assert "done" in str(await late.snapshot())
                with pytest.raises(ExpectTimeout, match="not on the screen"):
                    await late.expect_screen("menu", timeout=0.1)
                with pytest.raises(UsageError, match="screen is text"):
                    await late.expect_screen(b"menu")
    async with talking(opened, "cat") as s:
        with pytest.raises(UsageError, match="no terminal"):
            await s.snapshot()
        with pytest.raises(UsageError, match="no terminal"):
            await s.expect_screen("x")


async def test_wrong_words_are_refused_before_anything_happens(opened) -> None:
    """An empty list, a broken pattern, a stream that there is not."""
    async with opened(["cat"]) as box:
        with pytest.raises(UsageError, match="streams"):
            async with box.session(streams=["stdin"]):
                pass
        async with box.session() as s:
            for wrong in ([], "(", None, [3]):
                with pytest.raises(UsageError):
                    await s.expect(wrong)


async def test_an_ended_container_can_still_be_read(shop) -> None:
    """Its files answer."""
    box = shop.run("sh", "-c", "echo history; exit 4")
    shop.ended(box)
    wait_for(lambda: not shop.server(box))
    async with attach(box, root=str(shop.root), since="start") as s:
        await s.expect("history")
        await s.expect(EXIT)
        assert await s.exit() == 4


def test_all_of_it_without_trio(opened_blocking) -> None:
    """Keys, sizes, screens, signals and ends, in the other colour."""
    with opened_blocking(["sh", "-i"], terminal=True) as box:
        with box.session(timeout=20) as s:
            s.expect("$ ")
            s.send_line("echo rea''dy; cat; stty size")
            s.expect_exact(["never", "ready"])
            s.send_line(b"hello")
            m = s.expect("(?P<word>hello)\r\nhello\r\n")
            assert (m.groupdict(), m["word"], m.group(0, 1)) == (
                {"word": "hello"}, "hello", (m.after, "hello"),
            )  # fmt: skip
            s.resize(91, 17)
            s.send_eof()
            s.expect("17 91")
            assert s.snapshot().size == (91, 17)
            with pytest.raises(ExpectTimeout, match="on the screen"):
                s.expect_screen("never", timeout=0.1)
            s.send_control("c")
            with blocking.attach(box.id, root=box.root, timeout=20) as late:
                assert "17 91" in str(late.snapshot())
                with pytest.raises(ExpectTimeout):
                    late.expect("17 91", timeout=0.1)
            s.signal("KILL")
            assert s.expect([EXIT]).groups() == ()
            with pytest.raises(IndexError):
                s.match[1]
            assert s.wait() == 137
    with opened_blocking(["cat"]) as box:
        with box.session(timeout=20) as s:
            s.send("no newline")
            s.send_eof()
            with pytest.raises(ExpectEnded, match="exited with 0"):
                s.send("more")
            assert s.expect("newline$").end == 10
            assert s.exit(send_eof=True) == 0
    with opened_blocking(["sleep", "1000"]) as box, box.session() as s:
        with pytest.raises(ExpectTimeout, match=r"not taken in 0.5 s"):
            s.send(b"x" * 3_000_000, timeout=0.5)
        with pytest.raises(UsageError, match="no terminal"):
            s.snapshot()
        with pytest.raises(SendRefused, match="no terminal"):
            s.resize(80, 24)


async def test_a_flood_without_the_word_ends_at_the_timeout(opened, opened_blocking) -> None:
    """However fast it comes; what was too old is told."""
    told = r"(?s)not seen in 0.5 s: never.*runs.*dropped    the oldest \d+ bytes"
    async with opened(["yes"]) as box, box.session(limit=100_000) as s:
        with pytest.raises(ExpectTimeout, match=told):
            await s.expect("never", timeout=0.5)
        with blocking.attach(box.id, root=box.root, since="start", limit=100_000) as plain:
            with pytest.raises(ExpectTimeout, match=told):
                plain.expect("never", timeout=0.5)
            assert plain.expect(r"y\ny").before == ""


async def test_a_cancelled_expectation_loses_no_output(opened) -> None:
    """Nor does one that was cancelled while its pattern was at work in a thread."""
    async with talking(opened, "sh", "-c", f"echo first '{'a' * 200}?!'; cat") as s:
        for pattern in ("never", "(a|aa)+!"):
            with trio.move_on_after(0.3) as scope:
                await s.expect(pattern, timeout=1)
            assert scope.cancelled_caught
        assert (await s.expect("first")).start == 0
        await s.send_line("second")
        await s.expect("second")


async def test_another_program_in_the_container(opened) -> None:
    """An exec is a session like the container's own, with an end of its own."""
    spec = {"argv": ["sh", "-i"], "terminal": True, "stdin": True, "env": ["PS1=in> "]}
    async with opened(["sleep", "1000"]) as box:
        async with box.session(exec="probe", spec=spec, timeout=20) as s:
            await s.expect("in> ")
            async with attach(box.id, root=box.root, exec="probe", timeout=20) as late:
                assert "in>" in str(await late.snapshot())
            await s.send_line("echo pid $$; exit 5")
            assert (await s.expect(r"pid (\d+)"))[1] != "1"
            assert await s.exit() == 5
        assert box.record is None


async def test_output_that_nobody_waits_for_is_not_lost(opened) -> None:
    """More than the ring holds comes from the log: no gap."""
    command = "yes 0123456789 | head -c 11000000; echo end; cat"
    async with talking(opened, "sh", "-c", command) as s:
        await s.send_line("go")
        m = await s.expect("end\n")
        assert (m.start, len(m.before)) == (11_000_000, 11_000_000)
        await s.expect("go")
