"""Users and groups as a container's own files have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused
from attachd.state.accounts import MAX_ID, Account, find_account

PASSWD = """root:x:0:0:root:/root:/bin/sh
joe:x:1001:1002:Joe,,,:/home/joe:/bin/sh
1003:x:5:6:a number for a name:/:/bin/sh
numbers:x:1003:1004::/:
broken
:x:1:1::/:
odd:x:none:1::/:
nogroup:x:9:none::/:
huge:x:4294967295:1::/:
"""

GROUP = """root:x:0:
staff:x:50:joe,amy
wheel:x:51:amy
more:x:52:amy,joe
bad:x:none:joe
short:x
"""


@pytest.mark.parametrize(
    ("user", "account"),
    [
        ("root", Account(0, 0)),
        ("0", Account(0, 0)),
        ("joe", Account(1001, 1002, (50, 52))),
        ("1001", Account(1001, 1002, (50, 52))),
        ("joe:wheel", Account(1001, 51)),
        ("joe:51", Account(1001, 51)),
        ("joe:77", Account(1001, 77)),
        ("1003", Account(5, 6)),
        ("numbers", Account(1003, 1004)),
        ("4000", Account(4000, 0)),
        ("4000:staff", Account(4000, 50)),
        ("4000:0", Account(4000, 0)),
        (str(MAX_ID), Account(MAX_ID, 0)),
    ],
)
def test_a_user_is_found_by_name_then_by_number(user, account) -> None:
    """With the groups of whoever has an entry, unless a group was named."""
    assert find_account(user, PASSWD, GROUP) == account


@pytest.mark.parametrize(
    "user",
    [
        "amy", "joe:", ":staff", ":", "joe:amy", "joe:staff:more", "odd", "nogroup", "huge",
        "broken", "-1", "+1", "1_0", "٣", "²", " 0", "0x0", str(MAX_ID + 1), "9" * 5000,
    ],
)  # fmt: skip
def test_who_is_not_there_is_nobody(user) -> None:
    """Never somebody else, least of all root."""
    with pytest.raises(Refused) as refused:
        find_account(user, PASSWD, GROUP)

    assert refused.value.code == "no_user"
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("inside", ["\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_name_cannot_hold_another_users_line(inside) -> None:
    """Lines end with a newline and with nothing else: whoever may change its own name might."""
    passwd = f"eve:x:1000:1000:Eve{inside}amy:x:0:0::/:/bin/sh\namy:x:1005:1005::/:\n"

    assert find_account("amy", passwd, "") == Account(1005, 1005)


def test_without_the_files_numbers_still_work() -> None:
    """And the message says what to do."""
    assert find_account("12:34", "", "") == Account(12, 34)
    with pytest.raises(Refused, match="give a number"):
        find_account("joe", "", "")
    with pytest.raises(Refused, match="give a number"):
        find_account("0:staff", PASSWD, "")


def test_it_is_told_to_a_runtime_as_oci_has_it() -> None:
    """runtime-spec, config.md, "User"."""
    assert Account(1, 2, (3,)).oci() == {"uid": 1, "gid": 2, "additionalGids": [3]}


@given(st.text(max_size=20), st.text(), st.text())
def test_any_text_is_an_account_or_a_refusal(user, passwd, group) -> None:
    """The files are the container's, and may hold anything."""
    try:
        found = find_account(user, passwd, group)
    except Refused:
        return
    assert all(0 <= number <= MAX_ID for number in (found.uid, found.gid, *found.groups))
