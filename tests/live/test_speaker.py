"""The speaker over a real socket: order, sizes, credit, gaps, and news at once."""

import os
import socket
from types import SimpleNamespace

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from attachd.keeper.descriptors import make_ring, map_header
from attachd.live.feed import Feed
from attachd.live.speaker import ANSWER_BYTES, AT_ONCE_BYTES, Speaker
from attachd.state.ring import STDERR, STDOUT, STREAM_NAMES, STREAMS
from attachd.state.sizes import Size
from attachd.state.timeline import Change, Timeline
from attachd.wire import messages as say
from attachd.wire.session import VERSION, Pause, Role, Session, State

FIRST = Size(80, 24)
MUCH = 1 << 40


class Bench:
    """A ring, a timeline, and one client that reads when it wants to."""

    def __init__(self, ring_size: int = 1 << 22) -> None:
        self.ring, header = make_ring(ring_size)
        self.header = map_header(header)
        os.close(header)
        self.feed = Feed(self.ring, self.header)
        self.timeline = Timeline([Change(1, 0, 0, FIRST)])
        ours, self.socket = socket.socketpair()
        self.socket.setblocking(False)
        self.stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.session, self.client = Session(Role.SERVER), Session(Role.CLIENT)
        self.session.state = self.client.state = State.ATTACHED
        self.received = 0  # bytes
        past = SimpleNamespace(timeline=self.timeline)
        self.owed = [0]
        self.speaker = Speaker(
            self.stream, self.session, self.feed, past, owe=self.owed.append
        )

    def begin(self, credit: int = MUCH, offset: int = 0, **more: str) -> None:
        """Have the client say hello."""
        hello = say.Hello(version=VERSION, credit=credit, **{"since": "start", **more})
        self.speaker.begin(hello, offset)

    def output(self, data: bytes, stream: int = STDOUT, time: int = 1) -> None:
        """Have some output arrive, as the pump does it."""
        self.feed.index.mark(stream, time)
        os.write(self.ring, data)
        self.feed.arrived(len(data))

    def resize(self, columns: int) -> None:
        """Change the size now, as the screen does it."""
        self.timeline.note(self.feed.index.newest, 1, Size(columns, 1))
        self.feed.announce()

    def hear(self) -> list[say.Message]:
        """Return what has come to the client and was not heard yet; does not wait."""
        heard = []
        while True:
            try:
                data = self.socket.recv(1 << 20)
            except BlockingIOError:
                data = b""
            if data:
                self.received += len(data)
                self.client.receive_data(data)
            while not isinstance(message := self.client.next_message(), Pause):
                heard.append(message)
            if not data:
                return heard

    async def hear_all(self) -> list[say.Message]:
        """Return what comes until the speaker has nothing more to say."""
        heard, quiet = [], 0
        while quiet < 3:  # half a frame is no message: the bytes count
            before = self.received
            await trio.testing.wait_all_tasks_blocked()
            heard += self.hear()
            quiet = quiet + 1 if self.received == before else 0
        return heard

    def close(self) -> None:
        self.stream.socket.close()
        self.socket.close()
        os.close(self.ring)


@pytest.fixture
async def bench():
    """Closed at the end."""
    made = Bench()
    yield made
    made.close()


def data_of(messages: list[say.Message], *streams: str) -> bytes:
    wanted = streams or tuple(STREAM_NAMES.values())
    return b"".join(
        m.data for m in messages if isinstance(m, say.Output) and m.stream in wanted
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("output"), st.sampled_from(STREAMS), st.integers(1, 9)),
        st.tuples(st.just("output"), st.sampled_from(STREAMS), st.integers(3000, 9000)),
        st.tuples(st.just("resize"), st.integers(1, 200)),
        st.tuples(st.just("grant"), st.integers(1, 5000)),
        st.tuples(st.just("tell")),
        st.tuples(st.just("hear")),
        st.tuples(st.just("wait")),
    ),
    max_size=25,
)


@given(steps, st.integers(0, 5000))
async def test_everything_is_told_in_order(script, credit) -> None:
    """Bytes as they came, sizes between the right ones, within the credit, the end last."""
    bench = Bench()
    bench.begin(credit)
    granted, told, heard = credit, [], []
    truth: list[tuple[int, int, Size]] = []  # per byte: stream, value, size
    size = FIRST
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        for number, (what, *more) in enumerate(script):
            if what == "output":
                stream, count = more
                bench.output(bytes([number]) * count, stream, number)
                truth += [(stream, number, size)] * count
            elif what == "resize":
                size = Size(more[0], 1)
                bench.resize(more[0])
            elif what == "grant":
                bench.speaker.grant(more[0])
                granted += more[0]
            elif what == "tell":
                bench.speaker.tell(say.Done(id=number))
                told.append(number)
            elif what == "hear":
                heard += bench.hear()
            else:
                await trio.testing.wait_all_tasks_blocked()
            assert len(data_of(heard)) <= granted
        for stream in STREAMS:
            bench.feed.end_stream(stream)
        bench.feed.finish({"code": 0})
        heard += await bench.hear_all()
        assert len(data_of(heard)) == min(granted, len(truth))
        assert bench.speaker.exit_told == (granted >= len(truth))
        bench.speaker.grant(MUCH)
        heard += await bench.hear_all()
        nursery.cancel_scope.cancel()
    bench.close()

    got, now, offset = [], FIRST, 0
    for message in heard:
        if isinstance(message, say.Resized):
            assert message.offset == offset
            now = Size(message.columns, message.rows)
        elif isinstance(message, say.Output):
            assert message.offset == offset
            offset += len(message.data)
            stream = {name: number for number, name in STREAM_NAMES.items()}[message.stream]
            got += [(stream, value, now) for value in message.data]
            assert set(message.data) == {message.time}
    assert got == truth
    assert now == size
    assert [m.id for m in heard if isinstance(m, say.Done)] == told
    assert [type(m) for m in heard[-3:]] == [say.Eof, say.Eof, say.Exit]
    assert bench.speaker.exit_told


async def test_a_client_that_starts_later_is_told_only_later_sizes(bench) -> None:
    """Its welcome has had the size at its offset."""
    bench.output(b"abc")
    bench.resize(100)
    bench.output(b"def")
    bench.resize(120)
    bench.begin(offset=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        heard = await bench.hear_all()
        nursery.cancel_scope.cancel()
    assert [type(message) for message in heard] == [say.Output, say.Resized]
    assert (heard[0].data, heard[1].columns) == (b"ef", 120)


async def test_small_news_are_there_at_once(bench) -> None:
    """An echo, an answer, a size: before any other task runs, while the speaker is idle."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(1, 4):
            bench.output(b"k")
            assert data_of(bench.hear()) == b"k"
            bench.speaker.tell(say.Done(id=number))
            assert bench.hear() == [say.Done(id=number)]
            bench.resize(number)
            assert [m.columns for m in bench.hear()] == [number]
        bench.output(b"x" * AT_ONCE_BYTES)
        assert data_of(bench.hear()) == b"x" * AT_ONCE_BYTES
        nursery.cancel_scope.cancel()


async def test_large_news_are_left_to_the_task(bench) -> None:
    """The pump's time is not spent on them; and what comes after them stays after them."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        bench.output(b"x" * (AT_ONCE_BYTES + 1))
        assert bench.hear() == []
        bench.speaker.tell(say.Done(id=1))
        bench.output(b"y")
        assert bench.hear() == []
        heard = await bench.hear_all()
        assert data_of(heard) == b"x" * (AT_ONCE_BYTES + 1) + b"y"
        assert say.Done(id=1) in heard
        nursery.cancel_scope.cancel()


async def test_nothing_is_said_at_once_beyond_the_credit(bench) -> None:
    """A byte more than was granted waits for a grant; answers do not."""
    bench.begin(credit=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        bench.output(b"abcd")
        heard = await bench.hear_all()
        assert data_of(heard) == b"abc"
        bench.speaker.tell(say.Done(id=1))
        assert await bench.hear_all() == [say.Done(id=1)]
        assert bench.speaker.counters == {
            "offset": 3, "lag": 1, "gaps": 0, "missed": 0, "credit": 0, "sent": 3,
        }  # fmt: skip
        bench.speaker.grant(1)
        assert data_of(await bench.hear_all()) == b"d"
        nursery.cancel_scope.cancel()


async def test_what_the_socket_does_not_take_at_once_comes_later(bench) -> None:
    """A frame that was written in part goes on where it was cut, before anything else."""
    bench.begin()
    reports = [say.Report(id=n, report={"text": "x" * 700_000}) for n in (1, 2, 3)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        for report in reports:
            bench.speaker.tell(report)
            bench.output(b"k")
        heard = await bench.hear_all()
        nursery.cancel_scope.cancel()
    assert [m for m in heard if isinstance(m, say.Report)] == reports
    assert data_of(heard) == b"kkk"


@pytest.mark.parametrize("credit", [100_000, MUCH])
async def test_a_client_that_does_not_read_is_overtaken_and_told_so(credit) -> None:
    """Gaps and output together are everything, in order; the feed waits for nobody."""
    bench = Bench(ring_size=50_000)
    bench.begin(credit)
    truth = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        for number in range(200):
            data = b"%09d\n" % number * 1000
            bench.output(data)
            truth += data
            await trio.testing.wait_all_tasks_blocked()
        bench.speaker.grant(MUCH)
        heard = await bench.hear_all()
        bench.output(b"end")
        heard += await bench.hear_all()
        nursery.cancel_scope.cancel()
    gaps = [m for m in heard if isinstance(m, say.Gap)]
    assert gaps
    at = 0
    for message in heard:
        if isinstance(message, say.Gap):
            assert message.start == at
            at = message.end
        else:
            assert message.offset == at
            at += len(message.data)
            assert message.data == (truth + b"end")[message.offset : at]
    assert at == len(truth) + 3
    counters = bench.speaker.counters
    assert counters["gaps"] == len(gaps)
    assert counters["missed"] == sum(m.end - m.start for m in gaps)
    assert counters["sent"] + counters["missed"] == at
    bench.close()


async def test_sizes_within_a_gap_are_told_after_it() -> None:
    """Output after a gap is never shown in the size from before it."""
    bench = Bench(ring_size=1000)
    bench.begin(credit=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        for columns in range(1, 20):
            bench.output(b"x" * 300)
            bench.resize(columns)
            bench.timeline.forget(bench.feed.index.oldest)
        bench.speaker.grant(MUCH)
        heard = await bench.hear_all()
        nursery.cancel_scope.cancel()
    size, at = 80, 0
    for message in heard:
        if isinstance(message, say.Gap):
            at = message.end
        elif isinstance(message, say.Resized):
            size = message.columns
        else:
            at = message.offset + len(message.data)
            assert size == (bench.timeline.at(message.offset)).size.columns
    assert any(isinstance(message, say.Gap) for message in heard)
    assert (size, at) == (19, 19 * 300)
    bench.close()


async def test_a_client_that_wants_no_gaps_is_let_go() -> None:
    """flow=disconnect: goodbye instead, and then the speaker is done."""
    bench = Bench(ring_size=1000)
    bench.begin(credit=0, flow="disconnect")
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.speaker.run)
            await trio.testing.wait_all_tasks_blocked()
            bench.output(b"x" * 5000)
            bench.speaker.grant(MUCH)
    (goodbye,) = bench.hear()
    assert (type(goodbye), goodbye.code) == (say.Goodbye, "slow")
    bench.close()


@pytest.mark.parametrize("idle", [False, True])
async def test_nothing_follows_a_goodbye(bench, idle) -> None:
    """Whether it is said at once or by the task; the task ends with it."""
    bench.begin()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bench.speaker.run)
            if idle:
                await trio.testing.wait_all_tasks_blocked()
            bench.speaker.tell(say.Goodbye(code="ended", text=""))
            bench.speaker.tell(say.Done(id=1))
            bench.output(b"late")
    assert [type(message) for message in bench.hear()] == [say.Goodbye]


async def test_a_client_without_output_is_told_the_end_all_the_same(bench) -> None:
    """since=none: answers and the exit record."""
    bench.begin(since="none")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        bench.output(b"not for you", STDERR)
        bench.speaker.tell(say.Done(id=1))
        for stream in STREAMS:
            bench.feed.end_stream(stream)
        bench.feed.finish({"code": 7})
        heard = await bench.hear_all()
        nursery.cancel_scope.cancel()
    assert heard == [say.Done(id=1), say.Exit(record={"code": 7})]
    assert bench.speaker.counters["offset"] is None
    assert bench.speaker.counters["lag"] == 0


async def test_a_container_without_a_terminal_has_no_sizes_to_tell() -> None:
    """Then there is no past."""
    bench = Bench()
    bench.speaker = Speaker(bench.stream, bench.session, bench.feed, None)
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        bench.output(b"out")
        bench.output(b"err", STDERR)
        heard = await bench.hear_all()
        nursery.cancel_scope.cancel()
    assert data_of(heard, "stdout") == b"out"
    assert data_of(heard, "stderr") == b"err"
    bench.close()


async def test_after_its_end_a_speaker_hears_no_news(bench) -> None:
    """A connection that has gone costs the pump nothing."""
    bench.begin()
    assert len(bench.feed.listeners) == 1
    bench.speaker.end()
    bench.speaker.end()
    assert bench.feed.listeners == set()
    bench.output(b"x")
    assert bench.hear() == []


async def test_unread_answers_are_counted_while_the_client_does_not_read(bench) -> None:
    """So that a flood of requests can be ended."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert bench.speaker.unread == 0
        for number in range(1, 5):
            bench.speaker.tell(say.Report(id=number, report={"text": "x" * 700_000}))
            await trio.testing.wait_all_tasks_blocked()
        assert bench.speaker.unread == 3 * ANSWER_BYTES
        assert bench.owed[-1] > 3 * ANSWER_BYTES + 700_000
        assert len(await bench.hear_all()) == 4
        assert bench.speaker.unread == 0
        assert bench.owed[-1] == 0
        nursery.cancel_scope.cancel()


async def test_what_is_encoded_and_not_read_is_owed_too(bench) -> None:
    """Until the socket has taken all of it; output is never owed: who is slow has asked for it."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        bench.output(bytes(3_000_000))
        await trio.testing.wait_all_tasks_blocked()
        assert bench.owed[-1] == 0
        bench.speaker.tell(say.Report(id=1, report={"text": "x" * 700_000}))
        assert bench.owed[-1] == ANSWER_BYTES
        while bench.speaker.unread:
            bench.socket.recv(10_000)
            await trio.testing.wait_all_tasks_blocked()
        assert bench.owed[-1] > 700_000
        nursery.cancel_scope.cancel()


async def test_telling_a_client_that_misspoke_hurts_nobody_else(bench) -> None:
    """News come from other tasks, like stdin's: between the error and the end they go nowhere."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        bench.session.state = State.ERROR
        nursery.cancel_scope.cancel()
        bench.speaker.tell(say.StdinAck(offset=1, eof=False))
        bench.output(b"k")
    bench.speaker.tell(say.StdinAck(offset=2, eof=False))
    assert bench.hear() == []


async def test_a_frame_that_was_cut_is_known_to_be_cut(bench) -> None:
    """Cancelled while the client does not read: nothing can follow half a frame."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        bench.speaker.tell(say.Report(id=1, report={"text": "x" * 900_000}))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert bench.speaker.cut
    assert bench.hear() == []


async def test_a_frame_that_was_cut_at_once_is_known_to_be_cut(bench) -> None:
    """Also when the task was cancelled just before, and never sees the rest."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        bench.speaker.tell(say.Report(id=1, report={"text": "x" * 900_000}))
    if bench.socket.recv(1, socket.MSG_PEEK):
        assert bench.speaker.cut


async def test_a_client_that_has_gone_ends_its_own_speaker_alone(bench) -> None:
    """The one who brings the news does not notice; the task raises."""
    bench.begin()
    broken = []

    async def run() -> None:
        try:
            await bench.speaker.run()
        except trio.BrokenResourceError as error:
            broken.append(error)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked()
            bench.socket.close()
            bench.output(b"k")
            bench.speaker.tell(say.Done(id=1))
    assert len(broken) == 1


async def test_who_does_not_read_is_not_told_of_each_byte(bench) -> None:
    """Thousands of such would cost the container its time; who reads again misses nothing."""
    bench.begin()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.speaker.run)
        await trio.testing.wait_all_tasks_blocked()
        assert len(bench.feed.listeners) == 1
        said = [b"%07d" % number * 100_000 for number in range(3)]
        for data in said:
            bench.output(data)
            await trio.testing.wait_all_tasks_blocked()
        assert bench.feed.listeners == set()
        assert bench.feed.readers == 1
        heard = await bench.hear_all()
        assert (data_of(heard) == b"".join(said)) is True
        assert len(bench.feed.listeners) == 1
        nursery.cancel_scope.cancel()
    bench.speaker.end()
    assert bench.feed.readers == 0
