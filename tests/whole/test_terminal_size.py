"""Terminals, requirements 1 and 2: the size is right before the program starts, and whose wins."""

import itertools
import re
from functools import partial

import pytest
import trio
from attachd_clients import attach, attach_blocking
from harness import PATIENCE, wait_for

from attachd.errors import Refused
from attachd.state.sizes import Size
from attachd.wire import messages as say

pytestmark = pytest.mark.runc


def terminal_bundle(shop, *command: str, **size: int):
    bundle = shop.bundle(*command)
    shop.patch(bundle, lambda spec: spec["process"].update(terminal=True))
    if size:
        shop.patch(bundle, lambda spec: spec["process"].update(consoleSize=size))
    return bundle


def size_of(shop, box: str) -> Size:
    with attach_blocking(box, root=str(shop.root), since="none", role="viewer") as client:
        told = client.status(PATIENCE)["terminal"]
    return Size(told["columns"], told["rows"])


def test_the_first_command_finds_the_size_that_was_asked_for(shop) -> None:
    """--size COLSxROWS; stty size is the container's first command."""
    box = shop.run("stty", "size", options=("-t", "-d", "--size", "101x33"))
    shop.ended(box)

    assert shop.output(box) == b"33 101\r\n"


def test_the_bundle_may_tell_the_size(shop) -> None:
    """process.consoleSize, unless --size says otherwise."""
    bundle = terminal_bundle(shop, "stty", "size", width=99, height=44)
    told, asked = shop.name(), shop.name()
    shop.call("attachd", "run", "--bundle", bundle, told)
    shop.call("attachd", "run", "--size", "50x10", "--bundle", bundle, asked)
    for box in (told, asked):
        shop.ended(box)

    assert shop.output(told) == b"44 99\r\n"
    assert shop.output(asked) == b"10 50\r\n"


def test_a_bundle_that_is_attached_to_at_once_gets_our_size_too(shop, panes) -> None:
    """Also without -t: the bundle says that there is a terminal."""
    pane = panes.open(97, 29)
    box, bundle = shop.name(), terminal_bundle(shop, "sh", "-c", "stty size; cat")
    pane.enter(f"attachd run --attach -i --bundle {bundle} {box}")
    pane.wait_line("29 97")
    pane.detach()


def test_without_any_wish_it_is_80x24(shop) -> None:
    """Not 0x0, which programs take for anything."""
    box = shop.run("stty", "size", options=("-t", "-d"))
    shop.ended(box)

    assert shop.output(box) == b"24 80\r\n"


def test_run_it_takes_the_size_of_our_terminal_and_follows_it(shop, panes) -> None:
    """The first command finds it; SIGWINCH follows at once when it changes."""
    pane = panes.open(93, 31)
    box = shop.name()
    script = "stty size; trap 'stty size' WINCH; while :; do sleep 0.1; done"
    pane.enter(f'attachd run -it {box} -- sh -c "{script}"')
    pane.wait_line("31 93")
    pane.resize(70, 20)
    pane.wait_line("20 70")
    pane.detach()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-t", "--size", "0x24"), b"like 80x24"),
        (("-t", "--size", "80"), b"COLSxROWS"),
        (("-t", "--size", "99999x1"), b"COLSxROWS"),
        (("--size", "80x24"), b"add -t"),
        (("-t", "--size-policy", "newest"), b"latest, smallest, largest, manual"),
        (("--size-policy", "manual"), b"add -t"),
    ],
)
def test_a_size_that_is_none_is_refused(shop, options, words) -> None:
    """In one line, before anything is made."""
    box = shop.name()
    done = shop.call("attachd", "create", *options, box, "--", "sh", check=False)

    assert done.returncode == 125
    assert words in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not shop.path(box).exists()


@pytest.mark.parametrize("size", [{"width": 0, "height": 5}, {"width": "80"}, 7])
def test_a_bundle_with_a_broken_size_is_refused(shop, size) -> None:
    """Before anything is made."""
    bundle = terminal_bundle(shop, "sh")
    shop.patch(bundle, lambda spec: spec["process"].update(consoleSize=size))
    box = shop.name()
    done = shop.call("attachd", "run", "--bundle", bundle, box, check=False)

    assert done.returncode == 125
    assert b"consoleSize needs width and height" in done.stderr
    assert not shop.path(box).exists()


def test_tty_with_a_bundle_that_has_none_is_refused(shop) -> None:
    """The bundle decides; a wish that it cannot fulfil is told."""
    box = shop.name()
    done = shop.call("attachd", "run", "-t", "--bundle", shop.bundle("sh"), box, check=False)

    assert done.returncode == 125
    assert b"process.terminal" in done.stderr
    assert not shop.path(box).exists()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("latest", ["100x30", "60x40", "100x30", "60x40", "120x25", "60x40"]),
        ("smallest", ["60x30", "60x30", "60x30", "60x30", "60x25", "60x40"]),
        ("largest", ["100x40", "100x40", "100x40", "100x40", "120x40", "60x40"]),
        ("manual", ["80x24"] * 6),
    ],
)
async def test_whose_size_wins_is_the_policy(shop, policy, expected) -> None:
    """A comes, B comes, A types, B types, A resizes, A leaves; a viewer never counts."""
    box = shop.run("cat", options=("-t", "-d", "-i", "--size-policy", policy))
    root = str(shop.root)
    seen: list[str] = []

    async def look() -> None:
        seen.append(str(await trio.to_thread.run_sync(size_of, shop, box)))

    with trio.fail_after(PATIENCE):
        async with (
            attach(box, root=root, size=Size(60, 40)) as b,
            attach(box, root=root, size=Size(7, 7), role="viewer") as viewer,
        ):
            await b.set_size(Size(0, 0))  # of no use, and so not told
            async with attach(box, root=root, size=Size(100, 30)) as a:
                await b.send(b"b")
                await a.send(b"a")
                await look()
                await b.set_size(Size(60, 40))
                await b.ping()
                await look()
                await a.send(b"a")
                await look()
                await b.send(b"b")
                await look()
                await a.set_size(Size(120, 25))
                await a.ping()
                await look()
            with pytest.raises(Refused, match="only look"):
                await viewer.resize(Size(9, 9))
            left = partial(wait_for, lambda: str(size_of(shop, box)) == expected[-1])
            await trio.to_thread.run_sync(left)
    assert seen == expected[:-1]


def test_ctl_resize_sets_it_under_any_policy(shop) -> None:
    """At once; and says clearly when there is no terminal or no size."""
    box = shop.run("sh", "-c", "trap 'stty size' WINCH; while :; do sleep 0.1; done",
        options=("-t", "-d", "--size-policy", "manual"))  # fmt: skip
    plain = shop.run("sleep", "1000")
    shop.ctl("resize", box, "111x22")
    wait_for(lambda: b"22 111" in shop.output(box))
    refused = shop.call("attachctl", "resize", plain, "80x24", check=False)
    broken = shop.call("attachctl", "resize", box, "80x0", check=False)

    assert refused.returncode == broken.returncode == 125
    assert b"has no terminal" in refused.stderr
    assert b"COLSxROWS" in broken.stderr


async def test_each_client_is_told_each_change_in_order_with_the_output(shop) -> None:
    """Replay and live are the same: what was written at a size comes behind that size."""
    script = "stty size; trap 'stty size' WINCH; while :; do sleep 0.1; done"
    box = shop.run("sh", "-c", script, options=("-t", "-d", "--size", "80x24"))

    async def collect(client, changes: int) -> list:
        events = []
        while sum(isinstance(e, say.Resized) for e in events) < changes or not any(
            isinstance(e, say.Output) and b"23 71" in e.data for e in events[-1:]
        ):
            events.append(await client.receive())
        return events

    with trio.fail_after(PATIENCE):
        async with attach(box, root=str(shop.root), since="start") as live:
            for size in ("70x20", "71x23"):
                wanted = re.sub(r"(\d+)x(\d+)", r"\2 \1", size).encode()
                await trio.to_thread.run_sync(shop.ctl, "resize", box, size)
                await trio.to_thread.run_sync(wait_for, lambda w=wanted: w in shop.output(box))
            seen_live = await collect(live, 2)
            welcome = live.welcome
        async with attach(box, root=str(shop.root), since="start") as late:
            seen_late = await collect(late, 2)

    assert (welcome.columns, welcome.rows) == (80, 24)
    told = [
        [(e.columns, e.rows, e.offset) for e in seen if isinstance(e, say.Resized)]
        for seen in (seen_live, seen_late)
    ]
    assert told[0] == told[1]
    assert [t[:2] for t in told[0]] == [(70, 20), (71, 23)]
    for seen in (seen_live, seen_late):
        where = {
            (e.columns, e.rows): i for i, e in enumerate(seen) if isinstance(e, say.Resized)
        }
        cuts = [0, where[70, 20], where[71, 23], len(seen)]
        text = [
            b"".join(e.data for e in seen[a:b] if isinstance(e, say.Output))
            for a, b in itertools.pairwise(cuts)
        ]
        assert b"24 80" in text[0]
        assert b"20 70" in text[1]
        assert b"23 71" in text[2]
