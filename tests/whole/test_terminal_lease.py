"""Terminals, requirement 9: one writer when somebody wants that, and shared typing otherwise."""

import os
import signal

import pytest
import trio
from attachd_clients import attach
from harness import PATIENCE, wait_for

from attachd.errors import Refused
from attachd.state.sizes import Size
from attachd.wire import messages as say

pytestmark = pytest.mark.runc


@pytest.fixture
def box(shop) -> str:
    return shop.run("cat", options=("-t", "-i", "-d"))


async def next_writer(client) -> say.Writer:
    while True:
        event = await client.receive()
        if isinstance(event, say.Writer):
            return event


async def test_exclusive_refuses_waits_and_is_stolen(shop, box) -> None:
    """take refuses, wait is granted when the holder leaves, steal makes the loser a viewer."""
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with (
            attach(box, root=root, name="one") as one,
            attach(box, root=root, name="two") as two,
            attach(box, root=root, name="three") as three,
        ):
            await one.lease("take")
            assert await next_writer(two) == say.Writer(name="one", you=False)
            with pytest.raises(Refused, match="one is the only one who may write"):
                await two.lease("take")
            with pytest.raises(Refused, match="one is the only one"):
                await two.send(b"not taken")
            await two.ask_lease()
            await one.lease("free")
            while (told := await next_writer(two)).name != "two":
                pass
            assert told.you
            await two.send(b"taken")
            await three.lease("steal")
            assert await next_writer(two) == say.Writer(name="three", you=False)
            with pytest.raises(Refused, match="three is the only one"):
                await two.send(b"not taken")
            await three.lease("free")
            with pytest.raises(Refused, match="stolen"):
                await two.send(b"a viewer now")
            await one.send(b" shared\n")
    wait_for(lambda: b"taken shared" in shop.output(box))

    assert b"not" not in shop.output(box)
    assert b"viewer" not in shop.output(box)


async def test_what_is_typed_after_a_refusal_is_not_lost(shop, box) -> None:
    """Refused bytes are told; the next ones arrive exactly, whatever crossed on the way."""
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root) as one, attach(box, root=root) as two:
            await one.lease("take")
            for _ in range(5):
                await two.post(b"lost ")
            await two.ping()
            await one.lease("free")
            while not (await next_writer(two)).you:
                pass
            await two.ping()
            await two.send(b"kept\n")
    wait_for(lambda: b"kept" in shop.output(box))

    assert shop.output(box) == b"kept\r\nkept\r\n"


async def test_a_holder_that_dies_frees_it_at_once(shop, box) -> None:
    """A connection that is lost is a client that has gone."""
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root) as other:
            async with attach(box, root=root, name="holder") as holder:
                await holder.lease("take")
                assert not (await next_writer(other)).you
            assert await next_writer(other) == say.Writer(name="", you=True)
            await other.send(b"free\n")


async def test_the_lease_outlives_the_server(shop, box) -> None:
    """kill -9: nobody else can slip in before the holder is back."""
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root, name="holder") as one, attach(box, root=root) as two:
            await one.lease("take")
            server = shop.server(box)
            os.kill(server, signal.SIGKILL)
            refused = 0
            for _ in range(20):
                with pytest.raises(Refused, match="only one"):
                    await two.send(b"no")
                refused += 1
            await one.send(b"mine\n")
            assert refused == 20
    wait_for(lambda: b"mine\r\nmine" in shop.output(box))

    assert b"no" not in shop.output(box)


async def test_only_the_holders_size_counts(shop, box) -> None:
    """Who may not write is a viewer in this, too."""
    root = str(shop.root)
    with trio.fail_after(PATIENCE):
        async with attach(box, root=root, size=Size(50, 20)) as one:
            await one.lease("take")
            async with attach(box, root=root, size=Size(70, 30)) as two:
                told = (await two.status())["terminal"]
                assert (told["columns"], told["rows"]) == (50, 20)
                await one.lease("free")
                told = (await two.status())["terminal"]
                assert (told["columns"], told["rows"]) == (70, 30)


async def test_shared_typing_never_splits_one_clients_write(shop) -> None:
    """Two clients at once: each write is whole, in whatever order."""
    box = shop.run("sh", "-c", "stty raw -echo; echo ready; cat", options=("-t", "-i", "-d"))
    wait_for(lambda: b"ready" in shop.output(box))
    root = str(shop.root)

    async def write(letter: bytes) -> None:
        async with attach(box, root=root, since="none") as client:
            for _ in range(50):
                await client.post(letter * 999 + b"\n")
            await client.send(b"")
            while client.pending:
                await client.ping()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(write, letter)
    wait_for(lambda: shop.output(box).count(b"\n") == 151)

    lines = shop.output(box).split(b"\n")[1:-1]
    assert {line[:1] for line in lines} == {b"a", b"b", b"c"}
    assert all(line == line[:1] * 999 for line in lines)


def test_at_the_command_line(shop, box, panes) -> None:
    """--exclusive, --wait, --steal: the refused is told why, the loser at once."""
    one, two = panes.open(100, 24), panes.open(100, 24)
    one.enter(f"attach --exclusive {box}")
    one.enter("first")
    one.wait(lambda rows: rows.count("first") >= 2)
    two.enter(f"attach --exclusive {box}; echo code $?")
    two.wait_line("code 125")
    assert "attach: tester on" in two.history
    assert "is the only one who may write" in two.history
    two.enter(f"attach --steal {box}")
    one.wait(lambda rows: any("alone may type now; you are looking on" in r for r in rows))
    two.enter("second")
    one.wait(lambda rows: rows.count("second") >= 2)
    one.type("nothing")
    two.press("C-p", "C-q")
    two.wait_line("attach: detached.*")
    one.press("C-p", "C-q")
    one.wait_line("attach: detached.*")

    assert b"nothing" not in shop.output(box)


def test_who_comes_under_a_lease_is_told_so(shop, box, panes) -> None:
    """At once, and by the bell at each key that goes nowhere; with --wait when it is our turn."""
    one, two = panes.open(100, 24), panes.open(100, 24)
    one.enter(f"attach --exclusive {box}")
    one.enter("first")
    one.wait(lambda rows: rows.count("first") >= 2)
    two.enter(f"attach --exclusive --wait {box}")
    two.wait(lambda rows: any("alone may type now; you are looking on" in r for r in rows))
    two.type("nothing")
    one.detach()
    two.wait(lambda rows: any("you alone may type now" in row for row in rows))
    two.enter("mine")
    two.wait(lambda rows: rows.count("mine") >= 2)
    two.detach()

    assert b"nothing" not in shop.output(box)


def test_read_only_looks_and_ctrl_c_leaves(shop, box, panes) -> None:
    """Over somebody's shoulder: keys go nowhere."""
    one, two = panes.open(), panes.open()
    one.enter(f"attach {box}")
    two.enter(f"attach --read-only {box}; echo code $?")
    one.enter("hello")
    two.wait(lambda rows: rows.count("hello") >= 2)
    two.enter("nothing")
    two.press("C-c")
    two.wait_line("code 123")
    one.detach()

    assert b"nothing" not in shop.output(box)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--wait",), b"--wait needs --exclusive"),
        (("--steal", "--exclusive", "--wait"), b"either --steal or --wait"),
        (("--steal", "--read-only"), b"not for --read-only"),
        (("--exclusive", "--no-stdin"), b"--no-stdin"),
    ],
)
def test_options_that_contradict_are_refused(shop, box, options, words) -> None:
    """In one line."""
    done = shop.call("attach", *options, box, check=False)

    assert done.returncode == 125
    assert words in done.stderr
