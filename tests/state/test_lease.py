"""The lease against a holder and a list: one holds, the others wait in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from attachd.errors import Refused
from attachd.state.lease import Lease

PEOPLE = [b"a", b"b", b"c", b"d"]
people = st.sampled_from(PEOPLE)


class LeaseMachine(RuleBasedStateMachine):
    """Everybody does anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.lease = Lease()
        self.holder = b""
        self.line: list[bytes] = []

    @rule(who=people)
    def take(self, who: bytes) -> None:
        if self.holder in (b"", who):
            self.lease.take(who)
            self.holder = who
        else:
            with pytest.raises(Refused) as caught:
                self.lease.take(who)
            assert caught.value.code == "leased"

    @rule(who=people)
    def wait(self, who: bytes) -> None:
        won = self.holder in (b"", who)
        assert self.lease.wait(who) == won
        if won:
            self.holder = who
        else:
            self.line = [other for other in self.line if other != who] + [who]

    @rule(who=people)
    def steal(self, who: bytes) -> None:
        loser = self.holder if self.holder != who else b""
        assert self.lease.steal(who) == loser
        self.holder = who
        self.line = [other for other in self.line if other != who]

    @rule(who=people)
    def free(self, who: bytes) -> None:
        self.line = [other for other in self.line if other != who]
        following = b""
        if self.holder == who:
            following = self.holder = self.line.pop(0) if self.line else b""
        assert self.lease.free(who) == following

    @invariant()
    def one_holds_or_nobody(self) -> None:
        assert self.lease.holder == self.holder
        allowed = [who for who in PEOPLE if self.lease.allows(who)]
        assert allowed == ([self.holder] if self.holder else PEOPLE)

    @invariant()
    def nobody_waits_for_what_is_free_or_its_own(self) -> None:
        assert not self.line or self.holder
        assert self.holder not in self.line


TestLease = LeaseMachine.TestCase


@given(st.lists(people, unique=True, min_size=1), people)
def test_all_who_wait_get_it_in_their_order(line, holder) -> None:
    """One after the other, and then everybody may write again."""
    lease, line = Lease(), [who for who in line if who != holder]
    lease.take(holder)
    assert [lease.wait(who) for who in line] == [False] * len(line)
    got, current = [], holder
    while current := lease.free(current):
        got.append(current)
    assert got == line
    assert lease.holder == b""


def test_a_thief_does_not_end_the_wait_of_others() -> None:
    """The line is as it was, but for the thief, and the loser is not in it."""
    lease = Lease()
    lease.take(b"a")
    for who in (b"b", b"c", b"d"):
        lease.wait(who)
    assert lease.steal(b"c") == b"a"
    assert [lease.free(who) for who in (b"c", b"b", b"d")] == [b"b", b"d", b""]


def test_who_leaves_the_line_gets_nothing() -> None:
    """To free what one waits for is to wait no longer."""
    lease = Lease()
    lease.take(b"a")
    lease.wait(b"b")
    assert lease.free(b"b") == b""
    assert lease.holder == b"a"
    assert lease.free(b"a") == b""


def test_a_holder_is_known_again_after_a_restart() -> None:
    """A successor is told whose it was."""
    lease = Lease(b"a")
    assert lease.allows(b"a")
    assert not lease.allows(b"b")
    assert not lease.wait(b"b")
    assert lease.free(b"a") == b"b"
