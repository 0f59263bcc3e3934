"""Execs as a client sees them: what it says to have one made, and what is left when it is gone."""

import json
from pathlib import Path

import pytest
from attachd_clients.conversation import Conversation, Ended
from attachd_clients.history import recall_exec
from attachd_clients.places import NoSuchContainer, Place

from attachd.errors import Refused, UsageError
from attachd.wire import messages as say
from attachd.wire.session import VERSION, Role, Session

SPEC = {"argv": ["sh"], "terminal": True}
STREAM = "00112233445566778899aabbccddeeff"
RECORD = {"schema": 1, "exec": "x", "exit_code": 7, "signal": None, "offset": 100}


class Shim:
    """A server of one exec; each connection is a new session."""

    def __init__(self, *features: str, name: str = "5") -> None:
        self.features = list(features)
        self.name = name

    def connect(self, talk: Conversation) -> say.Hello:
        """Take the hello of a fresh connection."""
        self.session = Session(Role.SERVER)
        self.session.receive_data(talk.hello())
        hello = self.session.next_message()
        assert isinstance(hello, say.Hello)
        return hello

    def welcome(self, talk: Conversation, stream_id: str = STREAM) -> None:
        welcome = say.Welcome(
            version=VERSION, features=self.features, id="web", phase="running",
            terminal=True, stream_id=stream_id, oldest=0, newest=0, offset=0, stdin="open",
            stdin_offset=0, stdin_window=1 << 19, max_frame=1 << 20, max_data=1 << 18,
            exec=self.name,
        )  # fmt: skip
        talk.receive_data(self.session.send(welcome))

    def tell(self, talk: Conversation, message: say.Message) -> None:
        talk.receive_data(self.session.send(message))


def test_until_it_is_welcomed_a_client_asks_for_the_same_exec_again() -> None:
    """The same key, name and spec: the server knows that it is the same wish."""
    talk, shim = Conversation(since="start", exec="mine", spec=SPEC), Shim("exec", name="mine")
    first, second = shim.connect(talk), shim.connect(talk)

    assert (first.exec, first.spec, first.since) == ("mine", SPEC, "start")
    assert second == first
    assert "exec" in first.features
    assert len(first.key) == 16


def test_afterwards_it_asks_for_the_one_it_has_and_has_none_made() -> None:
    """By the name that the server chose, at the next byte, of that very stream."""
    talk, shim = Conversation(since="start", spec=SPEC), Shim("exec")
    shim.connect(talk)
    shim.welcome(talk)
    shim.tell(talk, say.Output(offset=0, stream="stdout", time=1, data=b"12345"))
    again = shim.connect(talk)

    assert talk.execution == "5"
    assert (again.exec, again.spec) == ("5", {})
    assert (again.since, again.stream_id) == ("offset:5", STREAM)


def test_the_containers_own_program_is_asked_for_without_a_word_of_execs() -> None:
    """As ever."""
    talk, shim = Conversation(), Shim(name="")
    hello = shim.connect(talk)
    shim.welcome(talk)

    assert (hello.exec, hello.spec, hello.input) == ("", {}, False)
    assert talk.execution == ""


@pytest.mark.parametrize(
    "wish", [{"exec": "x"}, {"spec": SPEC}, {"exec": "x", "spec": SPEC}, {"input": True}]
)
def test_an_old_shim_is_told_apart_at_its_welcome(wish) -> None:
    """It skips what it does not know and would attach us to something else: one clear line."""
    talk, shim = Conversation(**wish), Shim("lease", "logs", "terminal")
    shim.connect(talk)
    with pytest.raises(Refused, match=r"this shim is too old") as refused:
        shim.welcome(talk)

    assert refused.value.code == "unsupported"
    assert "\n" not in str(refused.value)
    assert talk.take() is None


def test_an_exec_of_another_stream_is_not_ours() -> None:
    """Its record tells: the same name may be another's by now."""
    talk, shim = Conversation(exec="x", since="start"), Shim("exec", name="x")
    shim.connect(talk)
    shim.welcome(talk)
    talk.check_stream({"stream_id": STREAM})
    with pytest.raises(Ended) as ended:
        talk.check_stream({"stream_id": STREAM[::-1]})

    assert ended.value.code == "other_stream"


# What files tell


@pytest.fixture
def place(tmp_path) -> Place:
    """A container with an exec that has ended, one that runs, and one of no sense."""
    for name, files in {
        "x": {
            "exec.json": {"name": "x", "terminal": True, "made_at": 20},
            "exit.json": RECORD,
        },
        "y": {"exec.json": {"name": "y", "terminal": False, "made_at": 3}},
        "z": {"exec.json": [1]},
        "w": {},
    }.items():
        path = tmp_path / "web" / "exec" / name
        path.mkdir(parents=True)
        for file, value in files.items():
            (path / file).write_text(json.dumps(value))
    (tmp_path / "web/state.json").write_text("{}")
    return Place(str(tmp_path), "web")


def test_execs_are_listed_the_oldest_first(place) -> None:
    """With the record of those that have ended; what is damaged is not listed."""
    assert [(told["name"], told["exit"]) for told in place.executions()] == [
        ("y", None),
        ("x", RECORD),
    ]
    assert place.has_terminal("x")
    assert not place.has_terminal("y")
    assert place.exec_record("x") == RECORD
    assert place.exec_record("y") is None


@pytest.mark.parametrize("name", ["w", "nobody", "..", ".", "", "../exec/x", "x/../x", "x\0"])
def test_no_name_leads_out_of_the_directory(place, name) -> None:
    """Nor to something that is no exec."""
    with pytest.raises(NoSuchContainer):
        place.execution(name)
    assert place.exec_record(name) is None


def test_a_container_without_execs_has_none(tmp_path) -> None:
    """The directory is made with the first one."""
    Path(tmp_path, "web").mkdir()
    assert Place(str(tmp_path), "web").executions() == []


@pytest.mark.parametrize(
    ("since", "gap"),
    [
        ("start", (0, 100)),
        ("tail:10", (0, 100)),
        ("screen", (0, 100)),
        ("offset:40", (40, 100)),
        ("offset:100", None),
        ("live", None),
    ],
)
def test_of_an_ended_exec_the_end_is_left(place, since, gap) -> None:
    """Its output is gone, and that is told; then how it ended."""
    events = list(recall_exec(place, "x", since))

    assert events[-1] == say.Exit(record=RECORD)
    assert [(e.start, e.end) for e in events if isinstance(e, say.Gap)] == [gap] * bool(gap)


def test_of_one_without_a_record_nothing_is_told(place) -> None:
    """A code is never made up."""
    with pytest.raises(UsageError, match="no exit record"):
        list(recall_exec(place, "y", "start"))
