"""Following: lines from any point to the end, over deaths of the server and of the follower."""

import os
import signal

import pytest
import trio
from attachd_clients import (
    Cursor,
    Ended,
    Heartbeat,
    Line,
    NoSuchContainer,
    Position,
    attach_blocking,
    follow,
    follow_blocking,
)
from attachd_clients.conversation import WINDOW
from attachd_clients.following import BATCH_BYTES
from followed import storm
from harness import PATIENCE, Shop, wait_for

from attachd.errors import UsageError
from attachd.wire import messages as say
from attachd.wire.frames import MAX_DATA

pytestmark = pytest.mark.runc

#: Both streams, a line of one that is open while the other speaks, an end without a newline.
SCRIPT = "printf 'a\\nA\\nb'; read x; echo c >&2; read x; printf 'd\\ne'; read x; exit 3"
TOLD = [
    ("stdout", b"a", False),
    ("stdout", b"A", False),
    ("stderr", b"c", False),
    ("stdout", b"bd", False),
    ("stdout", b"e", True),
]


def told(records) -> list[tuple[str, bytes, bool]]:
    """The lines among records."""
    return [(r.stream, r.text, r.partial) for r in records if isinstance(r, Line)]


def give_word(shop: Shop, box: str) -> None:
    """Give the container the word it waits for."""
    with attach_blocking(box, root=str(shop.root), since="none") as client:
        client.send(b"\n", PATIENCE)


def newest(shop: Shop, box: str) -> int:
    with attach_blocking(box, root=str(shop.root), since="none", role="viewer") as client:
        return client.ping(PATIENCE)


@pytest.fixture
def said(shop) -> str:
    """A container that has said all it says, and waits for a word to end."""
    box = shop.run("sh", "-c", SCRIPT, options=("-i",))
    for offset in (5, 7):
        wait_for(lambda n=offset: newest(shop, box) == n)
        give_word(shop, box)  # its step, not yet its end
    wait_for(lambda: newest(shop, box) == 10)
    return box


def everything(shop: Shop, box: str, **options: object) -> list[object]:
    return list(follow_blocking(box, root=str(shop.root), **options))


async def everything_with_trio(shop: Shop, box: str, **options: object) -> list[object]:
    with trio.fail_after(PATIENCE):
        async with follow(box, root=str(shop.root), **options) as records:
            return [record async for record in records]


async def test_a_follower_is_told_every_line_and_at_last_the_exit(shop, said) -> None:
    """The same in both colours; live, from a shim that lingers, and from files alone."""
    seen: list[object] = []
    async with trio.open_nursery() as nursery, follow(said, root=str(shop.root)) as records:
        with trio.fail_after(PATIENCE):
            async for record in records:
                seen.append(record)
                if len(seen) == 4:
                    nursery.start_soon(trio.to_thread.run_sync, give_word, shop, said)
    again = everything(shop, said)
    with attach_blocking(said, root=str(shop.root), since="none") as client:
        client.release(PATIENCE)
        client.wait_gone(PATIENCE)
    wait_for(lambda: not shop.processes())

    assert told(seen) == told(again) == TOLD
    assert [r.offset for r in seen[:-1]] == [0, 2, 5, 4, 9]
    assert isinstance(seen[-1], say.Exit)
    assert seen[-1].record["exit_code"] == 3
    for records in (everything(shop, said), await everything_with_trio(shop, said)):
        assert sorted(told(records)) == sorted(TOLD)
        assert records[-1] == seen[-1]


async def test_a_follower_may_be_iterated_over_at_once(shop, said) -> None:
    """Without a block around it: to the end; and when it is cancelled, nobody stays attached."""
    heard: list[object] = []
    with trio.fail_after(PATIENCE), trio.CancelScope() as scope:
        async for record in follow(said, root=str(shop.root), name="bare"):
            heard.append(record)
            if len(heard) == 4:  # what comes next is not there yet
                assert b'"bare"' in shop.ctl("stats", said)
                scope.cancel()
    assert told(heard) == TOLD[:4]
    wait_for(lambda: b'"bare"' not in shop.ctl("stats", said))

    give_word(shop, said)
    with trio.fail_after(PATIENCE):
        records = [record async for record in follow(said, root=str(shop.root))]
    assert told(records) == TOLD
    assert isinstance(records[-1], say.Exit)


@pytest.mark.parametrize("colour", ["trio", "blocking"])
async def test_what_is_there_now_ends_by_itself(shop, said, colour) -> None:
    """Also what is open; nobody waits for the container."""
    if colour == "trio":
        records = await everything_with_trio(shop, said, live=False)
    else:
        records = everything(shop, said, live=False)

    assert told(records) == TOLD
    assert not shop.path(said, "exit.json").exists()
    assert everything(shop, said, live=False, from_="live") == []


def test_a_follower_begins_where_it_is_told(shop, said) -> None:
    """At the start, an offset, the last lines, or now; of one stream or both; or as output."""
    now = {"live": False}

    assert told(everything(shop, said, from_=1, **now))[0] == ("stdout", b"", False)
    assert told(everything(shop, said, from_="offset:2", **now)) == TOLD[1:]
    assert told(everything(shop, said, from_="tail:1", **now)) == TOLD[4:]
    assert told(everything(shop, said, streams=["stderr"], **now)) == TOLD[2:3]
    output = everything(shop, said, lines=False, streams=["stdout"], **now)
    assert b"".join(piece.data for piece in output) == b"a\nA\nbd\ne"
    with pytest.raises(Ended) as caught:
        everything(shop, said, from_=11)
    assert caught.value.code == "bad_offset"
    with pytest.raises(UsageError, match="streams are"):
        everything(shop, said, streams=["stdin"])
    with pytest.raises(NoSuchContainer):
        everything(shop, "nobody")


@pytest.mark.parametrize("lines", [True, False])
def test_where_one_follower_stops_another_goes_on(shop, said, lines) -> None:
    """After any record: an open line is told whole, and nothing is told twice."""
    give_word(shop, said)
    shop.ended(said)
    whole = everything(shop, said, lines=lines)
    for count in range(1, len(whole)):
        first = follow_blocking(said, root=str(shop.root), lines=lines)
        for _, record in zip(range(count), first, strict=False):
            assert record == whole[0 if count == 1 else whole.index(record)]
        rest = everything(shop, said, from_=first.position, lines=lines)

        assert [r for r in rest if isinstance(r, say.Exit)] == whole[-1:]
        if lines:
            assert told(rest) == TOLD[count:]
        else:
            assert sum(len(r.data) for r in rest[:-1]) == 10 - sum(
                len(r.data) for r in whole[:count]
            )


def test_a_cursor_is_where_the_next_follower_begins(shop, said, tmp_path) -> None:
    """Saved after each record; at last only the exit is left."""
    give_word(shop, said)
    shop.ended(said)
    seen = []
    for _ in range(6):
        cursor = Cursor(tmp_path / "cursor")
        follower = follow_blocking(said, root=str(shop.root), from_=cursor)
        record = next(iter(follower))
        seen.append(record)
        cursor.save(follower.position)

    assert told(seen) == TOLD
    assert isinstance(seen[5], say.Exit)
    assert Cursor(tmp_path / "cursor").position == Position(10)
    assert Cursor(tmp_path / "cursor").stream_id == shop.state(said)["stream_id"]


@pytest.mark.parametrize("gone", [False, True])
def test_a_cursor_of_an_earlier_container_begins_at_the_start(shop, tmp_path, gone) -> None:
    """The id is the same, the container is not: with a shim, and from files."""
    linger = ("--linger", "0") if gone else ()
    box = shop.run("echo", "a longer first one")
    shop.ended(box)
    cursor = Cursor(tmp_path / "cursor")
    first = follow_blocking(box, root=str(shop.root), from_=cursor)
    assert len(list(first)) == 2
    cursor.save(first.position, "memo")
    shop.ctl("rm", box)
    shop.call("attachd", "run", *linger, box, "--", "echo", "second")
    shop.ended(box)
    if gone:
        wait_for(lambda: not shop.processes())
    cursor = Cursor(tmp_path / "cursor")

    assert told(everything(shop, box, from_=cursor)) == [("stdout", b"second", False)]
    assert (cursor.memo, cursor.stream_id) == ("memo", shop.state(box)["stream_id"])


def test_a_container_that_takes_another_s_place_meanwhile_is_an_error(shop, tmp_path) -> None:
    """Between the look at it and the connection: nobody gets its bytes for the other one's."""
    box = shop.run("echo", "one")
    shop.ended(box)
    follower = follow_blocking(box, root=str(shop.root), from_=Cursor(tmp_path / "cursor"))
    shop.ctl("rm", box)
    shop.call("attachd", "run", box, "--", "echo", "two")
    with pytest.raises(Ended) as caught:
        list(follower)
    assert caught.value.code == "other_stream"


def test_the_end_of_one_stream_ends_its_line(shop) -> None:
    """Although the container lives on, and may say more on the other one."""
    box = shop.run("sh", "-c", "printf x; exec >&-; read x; echo y >&2", options=("-i",))
    follower = follow_blocking(box, root=str(shop.root))
    records = iter(follower)
    first = next(records)
    give_word(shop, box)

    assert told([first, *records]) == [("stdout", b"x", True), ("stderr", b"y", False)]


def test_the_shim_refuses_another_container_s_offset(shop, said) -> None:
    """Whoever attaches with a stream's id is served by that stream alone."""
    with pytest.raises(Ended) as caught:
        with attach_blocking(said, root=str(shop.root), since="start", stream_id="0" * 32):
            pass
    assert caught.value.code == "other_stream"


@pytest.mark.parametrize("colour", ["trio", "blocking"])
async def test_a_killed_server_is_not_noticed(shop, said, colour) -> None:
    """Lines go on where they were, with a line that was open then."""
    seen: list[object] = []
    if colour == "trio":
        with trio.fail_after(PATIENCE):
            async with follow(said, root=str(shop.root)) as records:
                async for record in records:
                    seen.append(record)
                    if len(seen) == 4:
                        os.kill(shop.server(said), signal.SIGKILL)
                        await trio.to_thread.run_sync(give_word, shop, said)
    else:
        for record in follow_blocking(said, root=str(shop.root)):
            seen.append(record)
            if len(seen) == 4:
                os.kill(shop.server(said), signal.SIGKILL)
                give_word(shop, said)

    assert told(seen) == TOLD
    assert isinstance(seen[-1], say.Exit)


def test_a_lost_container_s_log_is_told_to_its_end(shop, said) -> None:
    """Keeper and server are dead, and nobody knows how it ended: no exit is made up."""
    wait_for(lambda: shop.log(said).count(b"\n") == 6)
    seen = []
    for record in follow_blocking(said, root=str(shop.root)):
        seen.append(record)
        if len(seen) == 4:
            shop.kill_shim(said)

    assert told(seen) == TOLD
    assert not any(isinstance(record, say.Exit) for record in seen)
    assert sorted(told(everything(shop, said))) == sorted(TOLD)


async def test_a_follower_may_know_more_than_a_lost_container_s_log(shop, said) -> None:
    """It was told at once what the log gets a little later: the end is the end."""
    wait_for(lambda: shop.log(said).count(b"\n") == 6)
    log = shop.path(said, "log/container.log")
    with trio.fail_after(PATIENCE):
        async with follow(said, root=str(shop.root)) as records:
            seen = [await anext(records) for _ in range(4)]
            shop.kill_shim(said)
            os.truncate(log, log.stat().st_size - 40)
            seen += [record async for record in records]

    assert told(seen) == TOLD


@pytest.mark.parametrize("colour", ["trio", "blocking"])
async def test_quiet_is_told_from_dead(shop, said, colour) -> None:
    """A heartbeat has the newest offset, also of a server that was killed in between."""
    options = {"root": str(shop.root), "from_": "live", "heartbeat": 0.05}
    beats: list[object] = []
    if colour == "trio":
        with trio.fail_after(PATIENCE):
            async with follow(said, **options) as records:
                async for record in records:
                    beats.append(record)
                    if len(beats) == 2:
                        os.kill(shop.server(said), signal.SIGKILL)
                    if len(beats) == 4:
                        break
    else:
        for record in follow_blocking(said, **options):
            beats.append(record)
            if len(beats) == 2:
                os.kill(shop.server(said), signal.SIGKILL)
            if len(beats) == 4:
                break

    assert beats == [Heartbeat(10)] * 4


async def test_a_shim_that_does_not_answer_is_an_error(shop, said, monkeypatch) -> None:
    """In both colours: the caller is told, and may follow again."""
    monkeypatch.setattr("attachd_clients.following.ANSWER_SECONDS", 0.3)
    options = {"root": str(shop.root), "from_": "live", "heartbeat": 0.05}
    server = shop.server(said)
    try:
        with trio.fail_after(PATIENCE):
            async with follow(said, **options) as records:
                assert await anext(records) == Heartbeat(10)
                os.kill(server, signal.SIGSTOP)
                with pytest.raises(Ended, match="has not answered"):
                    await anext(records)
        os.kill(server, signal.SIGCONT)
        follower = iter(follow_blocking(said, **options))
        assert next(follower) == Heartbeat(10)
        os.kill(server, signal.SIGSTOP)
        with pytest.raises(Ended, match="has not answered"):
            next(follower)
    finally:
        os.kill(server, signal.SIGCONT)


def names(shop: Shop, box: str) -> list[str]:
    with attach_blocking(box, root=str(shop.root), since="none", role="viewer") as client:
        return [c["name"] for c in client.status(PATIENCE)["clients"]]


async def test_who_stops_early_or_is_cancelled_has_left(shop, said) -> None:
    """The shim has no client of that name any more; in both colours."""
    for record in follow_blocking(said, root=str(shop.root), name="early"):
        assert record.text == b"a"
        break
    async with follow(said, root=str(shop.root), name="early") as records:
        assert await anext(records)
        assert "early" in await trio.to_thread.run_sync(names, shop, said)
    async with trio.open_nursery() as nursery:

        async def wait_for_ever() -> None:
            async with follow(said, root=str(shop.root), name="early") as records:
                async for record in records:
                    if record.text == b"bd":
                        nursery.cancel_scope.cancel()

        nursery.start_soon(wait_for_ever)
    await trio.to_thread.run_sync(wait_for, lambda: "early" not in names(shop, said))


@pytest.mark.slow
def test_a_manager_that_is_killed_all_the_time_has_each_line_once(shop) -> None:
    """In short what ``scripts/storm follow`` does: 20 MB of both streams, 15 kills."""
    outcome = storm(shop, 20_000_000, 15, seed=7)

    assert outcome.wrong == ""
    assert outcome.kills == 15


async def test_a_batch_is_what_has_come_meanwhile_and_has_a_limit(shop) -> None:
    """Each batch costs whoever handles it a commit; one message alone must not be all of it."""
    box = shop.run("seq", "100000", "249999", options=("--linger", "60"))  # seven bytes each
    shop.ended(box)
    numbers, first = [], 0
    with trio.fail_after(PATIENCE):
        async with follow(box, root=str(shop.root)) as records:
            while records._client._conversation.position < WINDOW - MAX_DATA:  # noqa: ASYNC110
                await trio.sleep(0.01)
            while batch := await records.batch():
                numbers += [int(record.text) for record in batch if isinstance(record, Line)]
                first = first or records.position.offset

    assert BATCH_BYTES - 7 <= first <= BATCH_BYTES + MAX_DATA
    assert (numbers == list(range(100_000, 250_000))) is True
