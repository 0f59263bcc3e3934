"""A peer's ids and a policy to a right: root, the maker, and who is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.state.rights import FULL, NONE, VIEWER, Policy, right_of, why_not_role

OWN = 1000
POLICY = Policy(uids=(1001,), gids=(50, 51), viewer_gids=(60,))

ids = st.integers(0, 5)
id_lists = st.lists(ids, max_size=3).map(tuple)


@pytest.mark.parametrize(
    ("uid", "groups", "right"),
    [
        (0, (), FULL),
        (OWN, (), FULL),
        (1001, (), FULL),
        (1002, (), NONE),
        (1002, (50,), FULL),
        (1002, (7, 51, 8), FULL),
        (1002, (60,), VIEWER),
        (1002, (60, 50), FULL),
        (1001, (60,), FULL),
        (0, (60,), FULL),
        (50, (), NONE),  # a user's number is no group's
        (1002, (1001, 0, OWN), NONE),  # nor the other way round
    ],
)
def test_a_peer_has_the_greatest_right_that_one_of_its_ids_has(uid, groups, right) -> None:
    """Users and groups are told apart; a viewers' group takes nothing away."""
    assert right_of(uid, groups, OWN, POLICY) == right


@given(uid=ids, groups=id_lists, own=ids)
def test_without_a_policy_it_is_root_and_the_maker_alone(uid, groups, own) -> None:
    """Whatever groups somebody is in."""
    assert right_of(uid, groups, own, Policy()) == (FULL if uid in (0, own) else NONE)


@given(
    uid=ids, groups=id_lists, own=ids, policy=st.builds(Policy, id_lists, id_lists, id_lists)
)
def test_the_right_is_what_the_stupid_model_says(uid, groups, own, policy) -> None:
    """One question after the other."""
    expected = NONE
    for group in groups:
        if group in policy.viewer_gids:
            expected = VIEWER
    if uid == 0 or uid == own or uid in policy.uids or any(g in policy.gids for g in groups):
        expected = FULL

    assert right_of(uid, groups, own, policy) == expected
    assert policy.opens == (policy != Policy())


@pytest.mark.parametrize(
    ("wanted", "right", "words"),
    [
        ("full", NONE, "user 7 may not attach to a container of user 1000"),
        ("viewer", NONE, "user 7 may not attach to a container of user 1000"),
        ("full", VIEWER, "user 7 may only look at this container: attach --read-only (role "
         "viewer)"),
        ("viewer", VIEWER, ""),
        ("full", FULL, ""),
        ("viewer", FULL, ""),
    ],
)  # fmt: skip
def test_a_refusal_says_what_is_possible(wanted, right, words) -> None:
    """Who may only look is told how."""
    assert why_not_role(7, wanted, right, OWN) == words
