"""Other users: refused unless the container is open to them, and a viewer only looks.

They are real ones: the tests are root, and take another's ids on. A connection belongs to who
has made it (unix(7), SO_PEERCRED), so most of the talk is done here, over theirs.
"""

import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attachd_clients import attach_blocking, attach_cmd, attaching, blocking
from attachd_clients.places import Place
from harness import PATIENCE, Shop, wait_for
from others import Somebody

from attachd.state.sizes import Size
from attachd.wire import messages as say
from attachd.wire.session import CONVERSATION, VERSION, Pause, Role, Session, State

pytestmark = pytest.mark.runc

ALICE, BOB, TEAM, GUESTS = 54321, 54322, 54400, 54401

GUEST = Somebody(BOB, BOB, (7, GUESTS))

assert blocking  # what is run under other ids must have been imported before


@pytest.fixture
def shop(passable: Path) -> Iterator[Shop]:
    """A state root that others could get to."""
    made = Shop(passable / "root", passable)
    yield made
    made.close()


class Talk:
    """A client that says what it likes, over a connection of somebody else's."""

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._session = Session(Role.CLIENT)
        peer.settimeout(PATIENCE)

    def tell(self, message: say.Message) -> None:
        self._peer.sendall(self._session.send(message))

    def hear(self, *kinds: type[say.Message]) -> say.Message:
        """Return the next message of these kinds, or a goodbye."""
        while True:
            message = self._session.next_message()
            if message is Pause.NEED_DATA:
                self._session.receive_data(self._peer.recv(65536))
            elif isinstance(message, (*kinds, say.Goodbye, Pause)):
                return message

    def hello(self, **fields: object) -> say.Message:
        """Return the answer to a hello."""
        self.tell(say.Hello(version=VERSION, credit=1 << 20, **fields))
        return self.hear(say.Welcome)


@contextmanager
def talk(shop: Shop, box: str, somebody: Somebody = GUEST) -> Iterator[Talk]:
    with somebody.connect(shop.path(box, "attach.sock")) as peer:
        yield Talk(peer)


def status(shop: Shop, box: str) -> dict:
    """Return what there is to know of the container, but for its clients."""
    with attach_blocking(box, root=str(shop.root), since="none", role="viewer") as client:
        report = dict(client.status(PATIENCE))
    return {key: value for key, value in report.items() if key not in ("clients", "served")}


# Who gets in


def test_without_an_option_nobody_else_gets_in(shop) -> None:
    """Neither to the directory nor to the socket; the words say whose containers are."""
    box = shop.run("sleep", "1000")
    alice = Somebody(ALICE, 0)
    with pytest.raises(PermissionError):
        alice.connect(shop.path(box, "attach.sock"))
    told = alice.attempts(lambda: Place.find(box, str(shop.root)))

    assert f"user {ALICE} may not look into" in told
    assert stat.S_IMODE(shop.root.stat().st_mode) == 0o700


def test_an_open_door_is_not_enough(shop) -> None:
    """Where somebody has changed the modes, the server itself refuses, before anything is done."""
    box = shop.run("cat", options=("-i", "--allow-uid", BOB))
    shop.path(box).chmod(0o755)
    shop.path(box, "attach.sock").chmod(0o666)
    before = status(shop, box)
    for hello in ({}, {"role": "viewer"}, {"spec": {"argv": ["true"]}}, {"flow": "nonsense"}):
        with talk(shop, box, Somebody(ALICE, ALICE, (TEAM,))) as peer:
            goodbye = peer.hello(**hello)

        text = f"user {ALICE} may not attach to a container of user 0"
        assert goodbye == say.Goodbye(code="denied", text=text)
    assert status(shop, box) == before


def test_who_is_allowed_does_what_the_maker_does(shop) -> None:
    """Types, is answered, has an exec made, sends signals; files are not needed for that."""
    options = ("--allow-uid", ALICE, "--allow-uid", "nobody", "--allow-gid", 54399, "--allow-gid",
        TEAM, "--viewers-gid", GUESTS, "-i")  # fmt: skip
    box = shop.run("sh", "-c", "trap '' USR1; cat", options=options)

    def use() -> bytes:
        seen, word = b"", f"hello from {os.getpid()}\n".encode()
        with attach_blocking(box, root=str(shop.root)) as client:
            client.send(word, PATIENCE)
            while word not in seen:
                event = client.receive(PATIENCE)
                seen += event.data if isinstance(event, say.Output) else b""
            client.signal(signal.SIGUSR1, PATIENCE)
        spec = {"argv": ["sh", "-c", "exit 7"]}
        with attach_blocking(box, root=str(shop.root), spec=spec, since="start") as made:
            return next(e.record["exit_code"] for e in made if isinstance(e, say.Exit))

    for somebody in (
        Somebody(ALICE),
        Somebody(65534),
        Somebody(BOB, TEAM),
        Somebody(BOB, BOB, (7, TEAM)),
        Somebody(ALICE, GUESTS),  # more than a viewer
    ):
        assert somebody.does(use) == ("7", "")
    assert shop.state(box)["config"]["rights"] == {
        "uids": [ALICE, 65534],  # names are looked up once, by who makes the container
        "gids": [54399, TEAM],
        "viewer_gids": [GUESTS],
    }


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_attach_works_for_whom_the_files_are_not(shop, terminal) -> None:
    """``attach ID``: what state.json would tell comes from the welcome."""
    script = "echo out; read line; echo got $line; exit 3"
    options = ("-i", "--allow-uid", ALICE, *(("-t", "-d") if terminal else ()))
    box = shop.run("sh", "-c", script, options=options)
    out = shop.scratch / "out"

    def run() -> int:
        read, write = os.pipe()
        os.write(write, b"word\n")
        os.dup2(read, 0)
        os.close(write)
        os.dup2(os.open(out, os.O_WRONLY | os.O_APPEND), 1)
        return attach_cmd.run(["--root", str(shop.root), "--from", "start", box])

    out.touch()
    out.chmod(0o666)
    assert Somebody(ALICE).does(run) == ("3", "")
    told = out.read_bytes().replace(b"\r", b"")
    assert told.startswith(b"out\n")
    assert told.endswith(b"got word\n")
    assert (b"\r" in out.read_bytes()) == terminal


def test_attach_read_only_works_for_a_viewer(shop) -> None:
    """And without it the words say so."""
    options = ("-i", "--viewers-gid", GUESTS, "--linger", "60")
    box = shop.run("sh", "-c", "echo out; exit 3", options=options)
    shop.ended(box)
    out = shop.scratch / "out"
    out.touch()
    out.chmod(0o666)

    def run(*options: str) -> int:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(out, os.O_WRONLY), 1)
        return attach_cmd.run(["--root", str(shop.root), "--from", "start", *options, box])

    told = GUEST.attempts(run)
    assert f"user {BOB} may only look at this container: attach --read-only" in told
    assert out.read_bytes() == b""
    assert GUEST.does(lambda: run("--read-only")) == ("3", "")
    assert out.read_bytes() == b"out\n"


def test_what_only_files_tell_is_told_to_be_for_others(shop) -> None:
    """Clear words, not that there is no such container."""
    box = shop.run(
        "sleep", "1000", options=("-t", "-d", "--linger", "0", "--allow-uid", ALICE)
    )
    alice, root = Somebody(ALICE), str(shop.root)

    def place() -> Place:
        return Place.find(box, root)

    for act in (lambda: place().state(), lambda: place().execution("1")):
        told = alice.attempts(act)
        assert f"user {ALICE} may attach to {box}, but its files are for who made it" in told
    assert "may not look into" in alice.attempts(lambda: Place.all(root))
    assert alice.does(lambda: attaching.has_terminal(place())) == ("True", "")
    shop.ctl("kill", box)
    shop.ended(box)
    wait_for(lambda: not shop.path(box, "attach.sock").exists())
    told = alice.attempts(lambda: attaching.has_terminal(place()))
    assert f"its shim does not answer, and user {ALICE} may not read what it has left" in told


# What a viewer may not do

#: What a viewer says, and whether that is refused; each message that there is.
SAYINGS: list[tuple[say.Message, bool]] = [
    (say.Stdin(offset=0, data=b"typed\n"), True),
    (say.StdinEof(offset=0), True),
    (say.Size(columns=20, rows=10), True),
    (say.Resize(id=1, columns=20, rows=10), True),
    (say.Signal(id=2, number=int(signal.SIGKILL)), True),
    (say.Start(id=3), True),
    (say.Release(id=4), True),
    (say.Rotate(id=5), True),
    (say.Reopen(id=6), True),
    *((say.Lease(id=7 + n, mode=m), True) for n, m in enumerate(("take", "wait", "steal"))),
    (say.Lease(id=10, mode="free"), True),
    (say.Credit(bytes=1), False),
    (say.Pong(id=11, newest=0), False),
    (say.Ping(id=12), False),
    (say.Status(id=13), False),
    (say.Detach(), False),
]


def test_each_message_that_there_is_was_thought_of() -> None:
    """One that comes to the protocol has to come here, too."""
    known = CONVERSATION[State.ATTACHED][Role.CLIENT]

    assert {type(message) for message, _ in SAYINGS} == set(known)


@pytest.mark.parametrize(
    ("phase", "execution"),
    [("created", ""), ("running", ""), ("stopped", ""), ("running", "other")],
    ids=["created", "running", "stopped", "exec"],
)
def test_nothing_that_a_viewer_says_changes_anything(shop, phase, execution) -> None:
    """Whatever it says is refused or answered, and the container's state is as before."""
    options = ("-i", "-t", "--viewers-gid", GUESTS, "--linger", "60", "--log-max-size", "1m")
    if phase == "created":
        box = shop.create("cat", options=options)
    else:
        box = shop.run("cat", options=(*options, "-d"))
    if phase == "stopped":
        shop.ctl("kill", box)
        shop.ended(box)
    if execution:
        shop.ctl("exec", "-d", "-i", "-t", "--name", execution, box, "cat")
    before, files = status(shop, box), sorted(os.listdir(shop.path(box, "log")))
    with talk(shop, box) as peer:
        assert isinstance(peer.hello(role="viewer", exec=execution), say.Welcome)
        for message, refused in SAYINGS:
            peer.tell(message)
            if refused:
                error = peer.hear(say.Error)
                number = getattr(message, "id", 0)
                assert (error.id, error.code) == (number, "denied"), message
                assert error.text == "a viewer may only look"
        pong, report, goodbye = peer.hear(say.Pong), peer.hear(say.Report), peer.hear()
    assert (pong.id, report.id, goodbye.code) == (12, 13, "detached")

    after = status(shop, box)
    if execution:
        for told in (before, after):
            for made in told["execs"]:
                del made["clients"], made["served"]
    assert after == before
    assert sorted(os.listdir(shop.path(box, "log"))) == files


def test_nor_can_its_hello_ask_for_more(shop) -> None:
    """A goodbye says what is not allowed, and nothing was made."""
    box = shop.run("sleep", "1000", options=("--viewers-gid", GUESTS, "--allow-block", "5"))
    exec_of_ours = {"spec": {"argv": ["true"]}}
    for hello, words in (
        ({}, "may only look at this container: attach --read-only"),
        (exec_of_ours, "may only look at this container"),
        ({"role": "viewer"} | exec_of_ours, "a viewer may only look"),
        ({"role": "viewer", "flow": "block"}, "a viewer may only look"),
        ({"role": "viewer", "input": True}, "a viewer may not see what is typed"),
        ({"role": "admin"}, "may only look at this container"),
    ):
        with talk(shop, box) as peer:
            goodbye = peer.hello(**hello)

        assert goodbye.code == "denied"
        assert words in goodbye.text
    assert status(shop, box)["execs"] == []
    assert not shop.path(box, "exec").exists()


def test_a_viewers_terminal_does_not_count(shop) -> None:
    """Coming with a size, and leaving, it does not even have the policy applied again."""
    options = ("-t", "-d", "--viewers-gid", GUESTS, "--size", "81x25")
    box = shop.run("sleep", "1000", options=options)
    with attach_blocking(box, root=str(shop.root), size=Size(60, 20)) as full:
        full.resize(Size(70, 30), PATIENCE)
        with talk(shop, box) as peer:
            assert isinstance(peer.hello(role="viewer", columns=40, rows=10), say.Welcome)
            coming = status(shop, box)["terminal"]
            peer.tell(say.Detach())
            peer.hear()
        wait_for(lambda: len(full.status(PATIENCE)["clients"]) == 1)
        leaving = status(shop, box)["terminal"]

    assert [(told["columns"], told["rows"]) for told in (coming, leaving)] == [(70, 30)] * 2


def test_rights_outlive_the_server(shop) -> None:
    """The one after a kill -9 knows them, too."""
    options = ("-i", "--viewers-gid", GUESTS, "--allow-uid", ALICE)
    box = shop.run("cat", options=options)
    server = wait_for(lambda: shop.server(box))
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: shop.server(box) not in (0, server))

    with talk(shop, box) as peer:
        assert peer.hello().code == "denied"
    with talk(shop, box) as peer:
        assert isinstance(peer.hello(role="viewer"), say.Welcome)
    with talk(shop, box, Somebody(ALICE)) as peer:
        assert peer.hello().may_write


# What is opened, and what is not


def test_nothing_but_the_socket_is_open(shop) -> None:
    """Every file beside it is its owner's alone, while it runs and afterwards; so are others."""
    options = ("-i", "--allow-uid", ALICE, "--linger", "60", "--log-max-size", "1m")
    box = shop.run("cat", options=options)
    with attach_blocking(box, root=str(shop.root), spec={"argv": ["true"]}) as made:
        list(made)

    def loose() -> list[str]:
        entries = [
            entry for entry in os.scandir(shop.path(box)) if entry.name != "attach.sock"
        ]
        names = {entry.name for entry in entries}
        assert {"state.json", "container.pid", "keeper.pid", "runtime.log", "exec"} <= names
        return [entry.name for entry in entries if entry.stat().st_mode & 0o077]

    assert loose() == []
    before = shop.keeper(box)
    os.kill(before, signal.SIGKILL)
    told = shop.path(box, "keeper.pid")
    wait_for(lambda: told.read_text() != str(before))  # the heir's
    assert loose() == []
    closed = shop.create("true")  # beside it, and not open
    with pytest.raises(PermissionError):
        Somebody(ALICE).connect(shop.path(closed, "attach.sock"))
    shop.ctl("kill", box)
    shop.ended(box)
    assert loose() == []
    assert os.listxattr(shop.path(box, "attach.sock")) == ["system.posix_acl_access"]
    assert stat.S_IMODE(shop.root.stat().st_mode) == 0o711


# The options


@pytest.mark.parametrize(
    ("option", "word", "why"),
    [
        ("--allow-uid", "no-such-user", "there is none of this name"),
        ("--allow-gid", "no such group", "there is none of this name"),
        ("--viewers-gid", "-1", "there is none of this name"),
        ("--viewers-gid", "", "there is none of this name"),
        ("--allow-uid", str((1 << 32) - 1), "the highest number is 4294967294"),
        ("--allow-uid", "9" * 5000, "there is none of this name"),
    ],
)
def test_an_id_that_cannot_be_is_refused(shop, option, word, why) -> None:
    """Before anything is made."""
    box = shop.name()
    done = shop.call("attachd", "run", option, word, box, "--", "true", check=False)

    assert done.returncode == 125
    assert why in done.stderr.decode()
    assert option in done.stderr.decode()
    assert not shop.path(box).exists()
