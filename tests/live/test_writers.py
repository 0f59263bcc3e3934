"""Writers: the lease, who is told what, and whose terminal's size the container gets."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Denied, Refused
from attachd.live.writers import GRACE_SECONDS, RETURN_SECONDS, Writers
from attachd.state.header import Header, header_bytes
from attachd.state.sizes import POLICIES, Size
from attachd.wire import messages as say

NONE = Size(0, 0)


class FakeClient:
    """A connection that remembers what it was told."""

    def __init__(self, name: str, role: str = "full", key: bytes = b"") -> None:
        self.name = name
        self.role = role
        self.key = key or name.encode().ljust(16, b"\0")
        self.robbed = False
        self.told: list[say.Message] = []

    def tell(self, message: say.Message) -> None:
        self.told.append(message)

    def hear(self) -> list[say.Message]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told


class FakeScreen:
    """A terminal that remembers its sizes."""

    def __init__(self) -> None:
        self.sizes = [Size(80, 24)]

    @property
    def size(self) -> Size:
        return self.sizes[-1]

    def resize(self, size: Size) -> None:
        self.sizes.append(size)


class Bench:
    """A header that outlives servers, and three clients and a viewer."""

    def __init__(self, policy: str = "latest") -> None:
        self.header = Header(memoryview(bytearray(header_bytes(1))).cast("Q"))
        self.policy = policy
        self.begun = False
        self.screen = FakeScreen()
        self.people = [FakeClient(name) for name in ("ann", "bob", "cid")]
        self.viewer = FakeClient("eve", "viewer")
        self.writers = self.server()
        for client in (*self.people, self.viewer):
            self.writers.enter(client, NONE)

    def server(self) -> Writers:
        """Return what a fresh server makes of the header."""
        again, self.begun = self.begun, True
        pairs = (self.header.lease, self.header.latest)
        return Writers(*pairs, self.screen, self.policy, again=again)

    def may_write(self) -> list[str]:
        return [c.name for c in (*self.people, self.viewer) if self.writers.allows(c)]

    def heard(self) -> list[list[say.Message]]:
        """Return what each has heard, the viewer last."""
        return [client.hear() for client in (*self.people, self.viewer)]


@pytest.fixture
def bench() -> Bench:
    """With the default policy."""
    return Bench()


def news(name: str, *you: bool) -> list[say.Writer]:
    return [say.Writer(name=name, you=each) for each in you]


def test_everybody_but_a_viewer_may_write_by_default(bench) -> None:
    """Shared typing."""
    assert bench.may_write() == ["ann", "bob", "cid"]
    assert bench.writers.holder == ""
    assert bench.heard() == [[], [], [], []]


def test_everybody_is_told_who_takes_the_lease_and_gives_it_back(bench) -> None:
    """And whether that one may write now; the one who asked is answered."""
    ann, bob, cid = bench.people
    bench.writers.request(ann, 1, "take")
    assert bench.writers.holder == "ann"
    assert bench.may_write() == ["ann"]
    yes, no = news("ann", True, False)
    assert bench.heard() == [[yes, say.Done(id=1)], [no], [no], [no]]

    bench.writers.request(ann, 2, "free")
    assert bench.may_write() == ["ann", "bob", "cid"]
    yes, no = news("", True, False)
    assert bench.heard() == [[yes, say.Done(id=2)], [yes], [yes], [no]]


def test_a_lease_that_somebody_has_is_refused_by_name(bench) -> None:
    """Nothing has changed, so nobody else is told."""
    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    bench.heard()
    with pytest.raises(Refused, match="ann") as caught:
        bench.writers.request(bob, 2, "take")
    assert caught.value.code == "leased"
    assert bench.heard() == [[], [], [], []]
    assert bench.may_write() == ["ann"]


def test_who_has_it_may_take_it_again(bench) -> None:
    """Each request is answered."""
    ann, *_ = bench.people
    for number, mode in enumerate(["take", "take", "wait", "steal"], 1):
        bench.writers.request(ann, number, mode)
        assert ann.hear()[-1] == say.Done(id=number)
        assert not ann.robbed
        assert bench.may_write() == ["ann"]


def test_those_who_wait_are_answered_in_their_order(bench) -> None:
    """Each when it is its turn, by whatever way the one before it goes."""
    ann, bob, cid = bench.people
    for number, client in enumerate(bench.people, 1):
        bench.writers.request(client, number, "wait")
    assert bench.may_write() == ["ann"]
    bench.heard()
    bench.writers.request(ann, 4, "free")
    assert bench.may_write() == ["bob"]
    assert say.Done(id=2) in bob.hear()
    assert cid.hear() == news("bob", False)
    bench.writers.leave(bob)
    assert bench.may_write() == ["cid"]
    assert say.Done(id=3) in cid.hear()
    bench.writers.leave(cid)
    assert bench.may_write() == ["ann", "bob", "cid"]


def test_one_that_leaves_the_line_is_passed_over(bench) -> None:
    """A client that has gone does not get the lease."""
    ann, bob, cid = bench.people
    for number, client in enumerate(bench.people, 1):
        bench.writers.request(client, number, "wait")
    bench.writers.leave(bob)
    bench.heard()
    bench.writers.leave(ann)
    assert bench.writers.holder == "cid"
    assert say.Done(id=3) in cid.hear()
    assert bob.hear() == []


@pytest.mark.parametrize("mode", ["wait", "steal", "free"])
def test_a_request_that_waits_is_answered_also_when_another_takes_its_place(
    bench, mode
) -> None:
    """Exactly one done or error for each request (protocol.md, "Conversation")."""
    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    bench.writers.request(bob, 1, "wait")
    bench.writers.request(bob, 2, mode)
    bench.writers.request(ann, 2, "free")
    answers = [m.id for m in bob.hear() if isinstance(m, say.Done | say.Error)]
    assert sorted(answers) == [1, 2]


def test_a_robbed_client_is_a_viewer_until_it_gets_the_lease_again(bench) -> None:
    """Also when everybody else may write again."""
    ann, bob, cid = bench.people
    bench.writers.request(ann, 1, "take")
    bench.heard()
    bench.writers.request(bob, 2, "steal")
    yes, no = news("bob", True, False)
    assert bench.heard() == [[no], [yes, say.Done(id=2)], [no], [no]]
    bench.writers.request(bob, 3, "free")
    assert ann.robbed
    assert bench.may_write() == ["bob", "cid"]
    assert bench.heard()[0] == news("", False)

    bench.writers.request(ann, 4, "take")
    bench.writers.request(ann, 5, "free")
    assert not ann.robbed
    assert bench.may_write() == ["ann", "bob", "cid"]


@pytest.mark.parametrize("mode", ["wait", "steal", "take"])
def test_every_way_to_the_lease_ends_being_robbed(bench, mode) -> None:
    """Whoever has it may write."""
    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    bench.writers.request(bob, 1, "steal")
    if mode == "wait":
        bench.writers.request(ann, 2, "wait")
    bench.writers.leave(bob)
    if mode != "wait":
        bench.writers.request(ann, 2, mode)
    assert bench.may_write() == ["ann"]
    assert say.Done(id=2) in ann.hear()


def test_a_thief_that_finds_nobody_robs_nobody(bench) -> None:
    """A lease that is free is just taken."""
    bench.writers.request(bench.people[0], 1, "steal")
    assert [client.robbed for client in bench.people] == [False, False, False]
    assert bench.may_write() == ["ann"]


@pytest.mark.parametrize("mode", ["take", "wait", "steal", "free", "nonsense"])
def test_a_viewer_is_denied_whatever_it_asks(bench, mode) -> None:
    """And nobody notices."""
    with pytest.raises(Denied):
        bench.writers.request(bench.viewer, 1, mode)
    assert bench.may_write() == ["ann", "bob", "cid"]
    assert bench.heard() == [[], [], [], []]


def test_an_unknown_mode_is_refused(bench) -> None:
    """With what it may be, and little of what it was."""
    with pytest.raises(Refused, match="steal") as caught:
        bench.writers.request(bench.people[0], 1, "x" * 4000)
    assert caught.value.code == "bad_request"
    assert len(str(caught.value)) < 200


def test_one_that_never_came_in_can_leave(bench) -> None:
    """A connection that ends before its hello was answered has nothing to give back."""
    bench.writers.request(bench.people[0], 1, "take")
    bench.heard()
    bench.writers.leave(FakeClient("stranger"))
    assert bench.heard() == [[], [], [], []]


def test_a_connection_that_ends_late_does_not_take_its_successors_lease_along(bench) -> None:
    """A client that has come back by another connection is the same client, by its key."""
    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    again = FakeClient("ann")
    bench.writers.enter(again, Size(100, 30))
    assert bench.writers.allows(again)
    bench.writers.leave(ann)
    assert bench.writers.allows(again)
    assert not bench.writers.allows(bob)
    assert bench.screen.size == Size(100, 30)
    bench.writers.resized(bob, Size(1, 1))
    bench.writers.leave(again)
    assert bench.writers.allows(bob)


# Restarts


async def test_a_holder_that_comes_back_in_time_keeps_the_lease(bench, autojump_clock) -> None:
    """By its key, which is in the header; others may not write meanwhile."""
    ann, bob, _ = bench.people
    ann.key = bytes(range(240, 256))
    bench.writers.request(ann, 1, "take")
    writers = bench.server()
    writers.enter(bob, NONE)
    assert writers.holder == "another client"
    assert not writers.allows(bob)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writers.gather)
        await trio.sleep(GRACE_SECONDS * 0.9)
        assert not writers.allows(bob)
        again = FakeClient("ann", key=ann.key)
        writers.enter(again, NONE)
    assert trio.current_time() >= GRACE_SECONDS
    assert writers.holder == "ann"
    assert writers.allows(again)
    assert not writers.allows(bob)


async def test_a_holder_that_does_not_come_back_loses_the_lease(bench, autojump_clock) -> None:
    """After the time that a client needs to connect again; a third server knows that, too."""
    ann, bob, cid = bench.people
    bench.writers.request(ann, 1, "take")
    writers = bench.server()
    for client in (bob, cid):
        writers.enter(client, NONE)
        client.hear()
    await writers.gather()
    assert trio.current_time() == pytest.approx(GRACE_SECONDS, abs=0.1)
    assert writers.allows(bob)
    assert bob.hear() == cid.hear() == news("", True)
    assert bench.server().holder == ""


async def test_who_waits_after_a_restart_gets_a_lease_that_nobody_came_back_for(
    bench, autojump_clock
) -> None:
    """The first in the line, and it is answered."""
    ann, bob, cid = bench.people
    bench.writers.request(ann, 1, "take")
    writers = bench.server()
    for number, client in enumerate((bob, cid), 1):
        writers.enter(client, NONE)
        writers.request(client, number, "wait")
    bob.hear()
    await writers.gather()
    assert writers.holder == "bob"
    assert sorted(bob.hear(), key=repr) == [say.Done(id=1), *news("bob", True)]


async def test_a_lease_that_was_stolen_meanwhile_is_not_freed(bench, autojump_clock) -> None:
    """The grace is the old holder's, not the thief's."""
    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    writers = bench.server()
    writers.enter(bob, NONE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writers.gather)
        await trio.sleep(1)
        writers.request(bob, 1, "steal")
    assert writers.holder == "bob"


async def test_the_first_server_waits_for_nobody(autojump_clock) -> None:
    """Nobody was there who could come back: an idle container's server sleeps from the start."""
    await Bench().writers.gather()
    assert trio.current_time() == 0


async def test_without_a_holder_nobody_is_waited_for(bench, autojump_clock) -> None:
    """A server whose lease is free has nothing to do."""
    await bench.server().gather()
    assert trio.current_time() <= RETURN_SECONDS


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from(["take", "wait", "steal", "free", "leave", "die"]),
        ),
        max_size=30,
    )
)
def test_everybody_knows_at_any_time_whether_it_may_write(script) -> None:
    """What each was told last is what is true, and a successor has the same holder."""
    bench = Bench()
    known = [True, True, True]
    for number, (who, what) in enumerate(script, 1):
        client = bench.people[who]
        if what == "die":
            bench.writers = bench.server()
            for other in (*bench.people, bench.viewer):
                other.robbed = False
                bench.writers.enter(other, NONE)
            known = [bench.writers.allows(other) for other in bench.people]  # as in welcome
        elif what == "leave":
            bench.writers.leave(client)
            client.robbed = False
            bench.writers.enter(client, NONE)
            known[who] = bench.writers.allows(client)
            client.hear()
        else:
            try:
                bench.writers.request(client, number, what)
            except Refused:
                assert what == "take"
        for i, other in enumerate(bench.people):
            for message in other.hear():
                if isinstance(message, say.Writer):
                    known[i] = message.you
                    assert message.name == bench.writers.holder
            assert known[i] == bench.writers.allows(other)
        assert not bench.writers.allows(bench.viewer)
        assert sum(known) == 1 or bench.writers.holder == ""
        holder = bench.server()
        assert all(
            holder.allows(other) == bench.writers.allows(other)
            for other in bench.people
            if not other.robbed
        )


# Sizes


@pytest.mark.parametrize(
    ("policy", "sizes"),
    [
        ("latest", [(80, 24), (100, 20), (60, 50), (100, 20), (60, 50), (60, 50)]),
        ("smallest", [(80, 24), (80, 20), (60, 20), (60, 20), (60, 20), (60, 24)]),
        ("largest", [(80, 24), (100, 24), (100, 50), (100, 50), (100, 50), (80, 50)]),
        ("manual", [(90, 30)] * 6),
    ],
)
def test_the_policy_decides_whose_size_it_is(policy, sizes) -> None:
    """When one comes, types, types on, and goes."""
    bench = Bench(policy)
    bench.screen.sizes = [Size(90, 30)]
    ann, bob, cid = bench.people
    got = []
    for step in (
        lambda: bench.writers.resized(ann, Size(80, 24)),
        lambda: bench.writers.resized(bob, Size(100, 20)),
        lambda: bench.writers.resized(cid, Size(60, 50)),
        lambda: bench.writers.typed(bob),
        lambda: bench.writers.typed(cid),
        lambda: bench.writers.leave(bob),
    ):
        step()
        got.append(tuple(bench.screen.size))
    assert got == sizes


@pytest.mark.parametrize("policy", POLICIES)
def test_a_viewers_terminal_does_not_count(policy) -> None:
    """Neither when it comes nor when it is resized; nor that of one who may not write now."""
    bench = Bench(policy)
    tiny = FakeClient("tiny", "viewer")
    bench.writers.enter(tiny, Size(2, 2))
    bench.writers.resized(bench.viewer, Size(3, 999))
    assert bench.screen.sizes == [Size(80, 24)]

    ann, bob, _ = bench.people
    bench.writers.request(ann, 1, "take")
    bench.writers.resized(bob, Size(4, 998))
    assert bench.screen.sizes == [Size(80, 24)]


@pytest.mark.parametrize("policy", ["latest", "smallest", "largest"])
def test_the_lease_changes_whose_size_counts(policy) -> None:
    """The holder's alone; and everybody's again when it is free."""
    bench = Bench(policy)
    ann, bob, cid = bench.people
    bench.writers.resized(ann, Size(50, 50))
    bench.writers.resized(bob, Size(30, 70))
    bench.writers.resized(cid, Size(70, 30))
    shared = bench.screen.size
    bench.writers.request(ann, 1, "take")
    assert bench.screen.size == Size(50, 50)
    bench.writers.request(bob, 2, "steal")
    assert bench.screen.size == Size(30, 70)
    bench.writers.request(bob, 3, "free")
    robbed = {"latest": (70, 30), "smallest": (30, 30), "largest": (70, 70)}  # without ann's
    assert tuple(bench.screen.size) == robbed[policy] == tuple(shared)


@pytest.mark.parametrize("policy", ["latest", "smallest", "largest"])
def test_the_size_of_one_who_leaves_no_longer_counts(policy) -> None:
    """The policy is applied again; the last one's size stays."""
    bench = Bench(policy)
    ann, bob, _ = bench.people
    bench.writers.resized(ann, Size(50, 50))
    bench.writers.resized(bob, Size(40, 40) if policy == "smallest" else Size(60, 60))
    assert bench.screen.size != Size(50, 50)
    bench.writers.leave(bob)
    assert bench.screen.size == Size(50, 50)
    bench.writers.leave(ann)
    assert bench.screen.size == Size(50, 50)


def test_a_size_that_somebody_asks_for_holds_until_the_policy_is_applied_again(bench) -> None:
    """Whatever the policy is."""
    ann, bob, _ = bench.people
    bench.writers.resized(ann, Size(50, 50))
    bench.writers.resize(Size(10, 10))
    assert bench.screen.size == Size(10, 10)
    bench.writers.typed(ann)  # nothing new: it was the latest before
    assert bench.screen.size == Size(10, 10)
    bench.writers.resized(bob, Size(60, 60))
    assert bench.screen.size == Size(60, 60)


def test_a_size_that_is_the_same_is_not_set_again(bench) -> None:
    """Each change makes programs draw anew."""
    ann, bob, _ = bench.people
    for client in (ann, bob, ann):
        bench.writers.resized(client, Size(50, 50))
        bench.writers.typed(bob)
    assert bench.screen.sizes == [Size(80, 24), Size(50, 50)]


def test_a_client_without_a_terminal_comes_in_without_a_wish(bench) -> None:
    """0x0 is what it says then; later, such a size is an error."""
    bench.writers.enter(FakeClient("dan"), Size(0, 0))
    bench.writers.enter(FakeClient("fay"), Size(80, 0))
    assert bench.screen.sizes == [Size(80, 24)]
    for wrong in (Size(0, 24), Size(10_001, 24)):
        for ask in (lambda size: bench.writers.resized(bench.people[0], size),
                    bench.writers.resize):  # fmt: skip
            with pytest.raises(Refused) as caught:
                ask(wrong)
            assert caught.value.code == "bad_request"
    assert bench.screen.sizes == [Size(80, 24)]


def test_a_container_without_a_terminal_has_no_size() -> None:
    """Wishes are taken, since a client may not know; a resize is refused."""
    bench = Bench()
    bench.screen = None
    writers = bench.server()
    ann = bench.people[0]
    writers.enter(ann, Size(50, 50))
    writers.resized(ann, Size(60, 60))
    writers.typed(ann)
    with pytest.raises(Refused) as caught:
        writers.resize(Size(70, 70))
    assert caught.value.code == "no_terminal"
    writers.leave(ann)


async def test_after_a_restart_the_size_is_still_that_of_who_was_latest(
    autojump_clock,
) -> None:
    """In whatever order its clients come back; they did nothing."""
    bench = Bench()
    ann, bob, cid = bench.people
    bench.writers.resized(ann, Size(80, 24))
    bench.writers.resized(bob, Size(70, 20))
    bench.writers.resized(cid, Size(60, 20))
    bench.writers.typed(bob)
    assert bench.screen.size == Size(70, 20)
    for order in ((ann, bob, cid), (cid, ann, bob), (bob, cid, ann)):
        writers = bench.server()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writers.gather)
            for client in order:
                size = {"ann": Size(80, 24), "bob": Size(70, 20), "cid": Size(60, 20)}
                writers.enter(client, size[client.name], resumed=True)
                assert bench.screen.size == Size(70, 20)
        assert bench.screen.size == Size(70, 20)
    writers.leave(bob)
    assert bench.screen.size != Size(70, 20)


async def test_after_a_restart_who_has_gone_counts_no_more(autojump_clock) -> None:
    """When the others have had time to come back."""
    bench = Bench()
    ann, bob, _ = bench.people
    bench.writers.resized(ann, Size(80, 24))
    bench.writers.resized(bob, Size(70, 20))
    writers = bench.server()
    writers.enter(ann, Size(80, 24), resumed=True)
    assert bench.screen.size == Size(70, 20)
    await writers.gather()
    assert bench.screen.size == Size(80, 24)


def test_what_is_typed_after_a_restart_decides_at_once() -> None:
    """Nobody waits for the others."""
    bench = Bench()
    ann, bob, _ = bench.people
    bench.writers.resized(ann, Size(80, 24))
    bench.writers.resized(bob, Size(70, 20))
    writers = bench.server()
    writers.enter(ann, Size(80, 24), resumed=True)
    writers.typed(ann)
    assert bench.screen.size == Size(80, 24)
