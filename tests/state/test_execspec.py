"""What may be executed, and the process that a runtime is told to make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import Refused
from attachd.state.accounts import Account
from attachd.state.execspec import (
    DEFAULT_RING,
    MAX_RING,
    MAX_WORDS,
    ExecSpec,
    parse_spec,
    process_of,
)
from attachd.state.sizes import DEFAULT_SIZE, Size

OWN = {
    "args": ["own"],
    "env": ["PATH=/bin", "A=own"],
    "cwd": "/own",
    "user": {"uid": 7, "gid": 8},
    "capabilities": {"bounding": ["CAP_KILL"]},
    "noNewPrivileges": True,
    "consoleSize": {"width": 1, "height": 2},
    "terminal": True,
}


def test_a_program_alone_is_enough() -> None:
    """Everything else is as the container's own."""
    spec = parse_spec({"argv": ["sh"]})

    assert spec == ExecSpec(("sh",))
    assert (spec.size, spec.ring_size) == (DEFAULT_SIZE, DEFAULT_RING)
    assert process_of(OWN, spec, None) == {
        **{name: OWN[name] for name in ("env", "cwd", "user", "capabilities")},
        "noNewPrivileges": True,
        "args": ["sh"],
        "terminal": False,
    }


def test_everything_may_be_said() -> None:
    """Lists as msgpack gives them; each ends where it belongs."""
    spec = parse_spec(
        {
            "argv": ["sh", "-c", "", "é\n"],
            "env": ["A=x=y", "B=", "B=2"],
            "cwd": "/tmp",
            "user": "joe:staff",
            "terminal": True,
            "stdin": True,
            "stdin_eof": "never",
            "columns": 100,
            "rows": 30,
            "ring_size": MAX_RING,
            "allow_block": 1 << 62,
        }
    )
    process = process_of(OWN, spec, Account(1, 2, (3, 4)))

    assert spec.size == Size(100, 30)
    assert process["args"] == ["sh", "-c", "", "é\n"]
    assert process["env"] == ["PATH=/bin", "A=x=y", "B=2", "TERM=xterm"]
    assert process["cwd"] == "/tmp"
    assert process["user"] == {"uid": 1, "gid": 2, "additionalGids": [3, 4]}
    assert process["consoleSize"] == {"width": 100, "height": 30}
    assert process["capabilities"] == OWN["capabilities"]


def test_a_terminal_has_a_name_unless_somebody_gave_one() -> None:
    """The container's own TERM, or the client's, wins."""
    for env, own, expected in (
        ([], [], ["TERM=xterm"]),
        (["TERM=vt100"], [], ["TERM=vt100"]),
        ([], ["TERM=linux"], ["TERM=linux"]),
    ):
        spec = parse_spec({"argv": ["x"], "env": env, "terminal": True})
        assert process_of({"env": own}, spec, None)["env"] == expected


def test_a_terminal_has_a_size_from_the_beginning() -> None:
    """A program that asks at once is not told 0x0."""
    process = process_of(OWN, parse_spec({"argv": ["x"], "terminal": True}), None)

    assert process["consoleSize"] == {"width": 80, "height": 24}


def test_the_containers_own_process_is_not_changed() -> None:
    """It is read once more for the next exec."""
    before = {name: OWN[name] for name in OWN}
    process_of(OWN, parse_spec({"argv": ["x"], "env": ["A=1"]}), Account(0, 0))

    assert before == OWN


def test_a_container_that_says_nothing_of_itself_is_no_error() -> None:
    """What OCI leaves open has a default."""
    assert process_of({}, parse_spec({"argv": ["x"]}), None) == {
        "args": ["x"],
        "terminal": False,
        "env": [],
        "cwd": "/",
    }


NESTED: list[object] = []
for _ in range(5000):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"argv": []},
        {"argv": None},
        {"argv": "sh"},
        {"argv": b"sh"},
        {"argv": {"0": "sh"}},
        {"argv": ["sh", 1]},
        {"argv": ["sh", None]},
        {"argv": ["sh", b"x"]},
        {"argv": ["s\0h"]},
        {"argv": ["x"] * (MAX_WORDS + 1)},
        {"argv": NESTED},
        {"argv": ["x"], "env": ["A"]},
        {"argv": ["x"], "env": [""]},
        {"argv": ["x"], "env": ["=x"]},
        {"argv": ["x"], "env": ["A=\0"]},
        {"argv": ["x"], "env": {"A": "x"}},
        {"argv": ["x"], "cwd": "tmp"},
        {"argv": ["x"], "cwd": "/a\0"},
        {"argv": ["x"], "cwd": NESTED},
        {"argv": ["x"], "user": 0},
        {"argv": ["x"], "user": "a\0"},
        {"argv": ["x"], "terminal": 1},
        {"argv": ["x"], "terminal": "yes"},
        {"argv": ["x"], "stdin": None},
        {"argv": ["x"], "stdin_eof": "Once"},
        {"argv": ["x"], "stdin_eof": ""},
        {"argv": ["x"], "terminal": True, "stdin_eof": "once"},
        {"argv": ["x"], "columns": 80, "rows": 24},
        {"argv": ["x"], "terminal": True, "columns": 80},
        {"argv": ["x"], "terminal": True, "columns": 80, "rows": 10_001},
        {"argv": ["x"], "terminal": True, "columns": True, "rows": 24},
        {"argv": ["x"], "terminal": True, "columns": -1, "rows": 24},
        {"argv": ["x"], "ring_size": 0},
        {"argv": ["x"], "ring_size": MAX_RING + 1},
        {"argv": ["x"], "ring_size": 1e6},
        {"argv": ["x"], "allow_block": -1},
        {"argv": ["x"], "allow_block": 1.5},
        {"argv": ["x"], "privileged": True},
        {"argv": ["x"], "_fields": 1},
        {"argv": ["x"], "size": 1},
        {"argv": ["x"], "x" * 10_000: 1},
    ],
)
def test_what_cannot_be_is_refused_in_a_few_words(record) -> None:
    """Also what is unknown: to leave out what was asked for would be a surprise."""
    with pytest.raises(Refused) as refused:
        parse_spec(record)

    assert refused.value.code == "bad_request"
    assert len(str(refused.value)) < 250


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*ExecSpec._fields, "other"]), VALUES))
def test_anything_else_gives_a_spec_or_a_refusal(record) -> None:
    """Never another error; and what was taken is of the type that it must have."""
    try:
        spec = parse_spec(record)
    except Refused:
        return
    for name, value in spec._asdict().items():
        kind = type(ExecSpec._field_defaults.get(name, ()))
        assert type(value) is kind


def test_the_home_of_somebody_else_is_not_kept() -> None:
    """The runtime finds the user's own; one that was asked for counts."""
    own = {"env": ["HOME=/root", "A=b"]}
    spec = parse_spec({"argv": ["x"]})

    assert process_of(own, spec, None)["env"] == ["HOME=/root", "A=b"]
    assert process_of(own, spec, Account(1, 2))["env"] == ["A=b"]
    spec = spec._replace(env=("HOME=/mine",))
    assert process_of(own, spec, Account(1, 2))["env"] == ["A=b", "HOME=/mine"]
