"""How an exec comes to be, and what a next server makes of what a killed one has left."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from attachd.errors import AttachdError, Refused
from attachd.keeper import parcels
from attachd.keeper.descriptors import Table
from attachd.keeper.execs import ENDS
from attachd.live import execbirth
from attachd.live.exec import PARTS, Exec, Home
from attachd.live.guardian import Guardian
from attachd.live.news import News
from attachd.state.execspec import ExecSpec
from attachd.state.sizes import Size

KEY = b"k" * 16
PLAIN = ExecSpec(("sh", "-c", "true"), stdin=True, stdin_eof="once")
TERMINAL = ExecSpec(("sh",), terminal=True, stdin=True, columns=90, rows=20)


class House:
    """A container's directory, and a keeper that only keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server, self.keeper = parcels.make()
        self.kept: dict[str, int] = {}
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        (path / "bundle").mkdir()
        own = {"args": ["own"], "env": ["A=1"], "cwd": "/"}
        (path / "bundle/config.json").write_text(json.dumps({"process": own}))
        post = parcels.Post(self.server)
        self.pidfd = os.pidfd_open(os.getpid())
        table = Table(*range(8), keeper=self.pidfd)
        self.home = Home(
            directory=str(path),
            id="box",
            cgroups=[],
            bundle=str(path / "bundle"),
            pid=os.getpid(),
            guardian=Guardian(table, None, post, lambda pid: None),
            create_timeout=1.0,
            drain_timeout=1.0,
            size_policy="latest",
            news=News(self.bell, post),
            post=post,
        )

    def make(self, spec: ExecSpec, name: str = "x") -> Exec:
        """Have one made; the keeper takes what it is given meanwhile, as it would."""
        send = self.home.post.send

        def send_and_take(*words, **how) -> None:
            send(*words, **how)
            self.take()

        self.home.post.send = send_and_take
        return execbirth.make(self.home, name, KEY, spec)

    def take(self) -> None:
        parcels.take_all(self.keeper, self.kept)

    def next_server(self) -> dict[str, int]:
        """Return copies of what is kept, as a new server would inherit them."""
        self.take()
        return {name: os.dup(fd) for name, fd in self.kept.items()}

    @property
    def parts(self) -> set[str]:
        self.take()
        return {name.rpartition("/")[2] for name in self.kept}

    def close(self) -> None:
        for fd in (*self.kept.values(), self.server, self.keeper, self.bell, self.pidfd):
            os.close(fd)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    before = len(os.listdir("/proc/self/fd"))
    made = House(tmp_path)
    yield made
    made.close()
    import gc

    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("spec", [PLAIN, TERMINAL], ids=["pipes", "terminal"])
def test_everything_is_at_the_keeper_before_anything_is_begun(house, spec) -> None:
    """Its parts and the program's ends; the files say what it is."""
    made = house.make(spec)
    process = json.loads((house.path / "exec/x/process.json").read_text())
    told = json.loads((house.path / "exec/x/exec.json").read_text())
    parts = {"header", "ring", "intake", "stdout"}
    parts |= {"inner"} if spec.terminal else {"stdin", "stderr", *ENDS}

    assert house.parts == parts
    assert process["args"] == list(spec.argv)
    assert process["env"][0] == "A=1"
    assert (told["name"], told["argv"], told["creator"]) == ("x", list(spec.argv), KEY.hex())
    assert os.stat(house.path / "exec/x/process.json").st_mode & 0o077 == 0
    made.close()
    assert house.parts == set()


@pytest.mark.parametrize("spec", [PLAIN, TERMINAL], ids=["pipes", "terminal"])
def test_a_next_server_finds_what_was_made(house, spec) -> None:
    """The very same, and says that it was restarted."""
    first = house.make(spec)
    (found,) = execbirth.adopt(house.home, house.next_server())

    assert (found.birth, found.name, found.again) == (first.birth, "x", True)
    assert found.birth.manners.size == (Size(90, 20) if spec.terminal else Size(80, 24))
    first.close()
    found.close()


@pytest.mark.parametrize("spec", [PLAIN, TERMINAL], ids=["pipes", "terminal"])
def test_what_is_not_whole_is_cleared_away(house, spec) -> None:
    """A death after any of the parcels but the last: no descriptor is left, and no file."""
    house.make(spec).close()
    everything = [*(END for END in ENDS if not spec.terminal), "ring", "header", "intake"]
    everything += ["stdout", "inner"] if spec.terminal else ["stdout", "stderr"]
    for count in range(len(everything)):
        os.makedirs(house.path / "exec/x", exist_ok=True)
        given = {
            f"exec/x/{part}": os.open(os.devnull, os.O_RDONLY) for part in everything[:count]
        }
        for name, fd in given.items():
            house.kept[name] = os.dup(fd)
        assert execbirth.adopt(house.home, given) == []
        assert house.parts == set()
        assert not count or not (house.path / "exec/x").exists()


@pytest.mark.parametrize("gone", PARTS)
def test_one_that_was_being_closed_keeps_its_record(house, gone) -> None:
    """It had ended: a death in the middle of letting it go loses no exit record."""
    made = house.make(PLAIN)
    (house.path / "exec/x/exit.json").write_text("{}")
    at = PARTS.index(gone)
    for part in PARTS[: at + 1]:
        house.home.post.drop(f"exec/x/{part}")
    assert execbirth.adopt(house.home, house.next_server()) == []

    assert house.parts == set()
    assert (house.path / "exec/x/exit.json").exists()
    made.close()


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"name": "x", "size": 7}', "\xff"])
def test_one_that_nobody_can_read_is_cleared_away(house, text) -> None:
    """Its exec.json is another version's, or was damaged."""
    made = house.make(PLAIN)
    if text is None:
        shutil.rmtree(house.path / "exec/x")
    else:
        (house.path / "exec/x/exec.json").write_text(text)

    assert execbirth.adopt(house.home, house.next_server()) == []
    assert house.parts == set()
    made.close()


def test_what_else_is_kept_is_left_alone(house) -> None:
    """Logs are not execs."""
    fd = os.open(os.devnull, os.O_RDONLY)
    house.kept = {"log0": fd}

    assert execbirth.adopt(house.home, {"log0": fd}) == []
    assert house.parts == {"log0"}


def test_what_cannot_be_made_leaves_nothing(house) -> None:
    """No room for its files, no such user, a bundle that is gone."""
    (house.path / "exec").write_text("in the way")
    with pytest.raises(Refused) as refused:
        house.make(PLAIN)
    assert refused.value.code == "no_room"
    os.unlink(house.path / "exec")
    with pytest.raises(Refused) as refused:
        house.make(PLAIN._replace(user="no such user"))
    assert refused.value.code == "no_user"
    (house.path / "bundle/config.json").write_text("[]")
    with pytest.raises(AttachdError):
        house.make(PLAIN)

    assert house.parts == set()
    assert not (house.path / "exec").exists()


@pytest.mark.parametrize("limits", [None, [], "x", ["x"], [{"type": 1}], {"type": "x"}])
def test_a_bundle_that_was_changed_meanwhile_is_an_error_of_its_own(house, limits) -> None:
    """The container runs; whoever has edited its config.json must not end the server."""
    process = {"args": ["own"], "rlimits": limits, "env": "x", "cwd": 1}
    (house.path / "bundle/config.json").write_text(json.dumps({"process": process}))
    try:
        house.make(PLAIN).close()
    except AttachdError:
        assert not (house.path / "exec").exists()
