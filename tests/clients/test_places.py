"""Where containers are found: roots, directories, files, and sockets with long paths."""

import os
import socket
from pathlib import Path

import pytest
from attachd_clients import listing
from attachd_clients.places import NoSuchContainer, Place
from others import Somebody

from attachd.errors import UsageError

#: Longer than the 107 bytes that fit into sockaddr_un, shorter than a file name may be.
LONG = "l" * 120


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No word about roots from outside."""
    for name in ("ATTACHD_ROOT", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def listening(place: Place) -> socket.socket:
    """Return a socket that listens where the shim of ``place`` would."""
    Path(place.path).mkdir(parents=True)
    listener = socket.socket(socket.AF_UNIX)
    directory = os.open(place.path, os.O_PATH)
    listener.bind(f"/proc/self/fd/{directory}/attach.sock")
    os.close(directory)
    listener.listen()
    return listener


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# Finding


def test_a_container_is_its_directory(tmp_path) -> None:
    """With the root given, or from the environment."""
    (tmp_path / "web").mkdir()
    place = Place.find("web", str(tmp_path))

    assert place == Place(str(tmp_path), "web")
    assert place.path == str(tmp_path / "web")


def test_the_root_of_the_environment_is_used_when_none_is_given(environment, tmp_path) -> None:
    """As the command lines do."""
    (tmp_path / "web").mkdir()
    environment.setenv("ATTACHD_ROOT", str(tmp_path))

    assert Place.find("web").root == str(tmp_path)
    assert Place.all() == [Place(str(tmp_path), "web")]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "web/", "we\0b", "other", "file"]
)
def test_what_is_not_a_container_is_not_found(tmp_path, name) -> None:
    """No name leads out of the root, and a file is none; the words say where to look."""
    (tmp_path / "root" / "web").mkdir(parents=True)
    (tmp_path / "root" / "file").touch()
    with pytest.raises(NoSuchContainer, match="attachctl ls") as caught:
        Place.find(name, str(tmp_path / "root"))

    assert isinstance(caught.value, UsageError)
    assert caught.value.code == "not_found"


def test_all_are_listed_by_name(tmp_path) -> None:
    """Directories only."""
    for name in ("b", "c", "a"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()

    assert [place.id for place in Place.all(str(tmp_path))] == ["a", "b", "c"]


def test_a_root_that_does_not_exist_has_no_containers(tmp_path) -> None:
    """Nobody has run one yet: not an error."""
    assert Place.all(str(tmp_path / "nowhere")) == []


# Files


def test_state_and_record_are_read_as_they_are(tmp_path) -> None:
    """Two files of JSON maps."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "state.json").write_text('{"phase": "running"}')
    (tmp_path / "web" / "exit.json").write_text('{"exit_code": 7}')
    place = Place(str(tmp_path), "web")

    assert place.state() == {"phase": "running"}
    assert place.exit_record() == {"exit_code": 7}


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", "null"])
def test_what_is_not_a_map_is_not_there(tmp_path, text) -> None:
    """No record means that it has not ended; no state, that there is no such container."""
    (tmp_path / "web").mkdir()
    for name in ("state.json", "exit.json") if text is not None else ():
        (tmp_path / "web" / name).write_text(text)
    place = Place(str(tmp_path), "web")

    assert place.exit_record() is None
    with pytest.raises(NoSuchContainer, match=r"state\.json is missing"):
        place.state()


# The socket


@pytest.mark.parametrize("name", ["web", LONG], ids=["short", "long"])
def test_a_socket_is_reached_however_long_its_path_is(tmp_path, name) -> None:
    """Through the directory's descriptor, which is closed again."""
    place = Place(str(tmp_path / LONG), name)
    with listening(place) as listener:
        before = open_descriptors()
        with place.connect() as peer:
            accepted, _ = listener.accept()
            accepted.sendall(b"hello")
            accepted.close()

            assert peer.recv(5) == b"hello"
        assert open_descriptors() == before


def test_a_shim_that_is_gone_is_told_by_the_kind_of_error(tmp_path) -> None:
    """No socket, a socket that nobody listens on, no directory: OSError, and nothing leaks."""
    place = Place(str(tmp_path), "web")
    before = open_descriptors()
    with pytest.raises(FileNotFoundError):
        place.connect()
    Path(place.path).mkdir()
    with pytest.raises(FileNotFoundError):
        place.connect()
    Path(place.path).rmdir()
    listening(place).close()
    with pytest.raises(ConnectionRefusedError):
        place.connect()

    assert open_descriptors() == before


# Rights


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("look", [lambda root: Place.find("web", root), Place.all])
def test_who_may_not_look_is_told_so(tmp_path, look) -> None:
    """Not that there is no such container, which nobody knows then."""
    root = tmp_path / "root"
    (root / "web").mkdir(parents=True)
    root.chmod(0o700)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setuid(65534)
            look(str(root))
        except UsageError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    told = os.read(read, 4096)
    os.close(read)

    assert b"user 65534 may not look into" in told


def test_what_was_removed_meanwhile_is_gone_and_not_forbidden(tmp_path) -> None:
    """Whoever looks away for a moment is told what has happened."""
    (tmp_path / "web").mkdir()
    place = Place.find("web", str(tmp_path))
    (tmp_path / "web").rmdir()

    with pytest.raises(NoSuchContainer, match=r"state\.json is missing"):
        place.state()
    with pytest.raises(NoSuchContainer, match="no exec"):
        place.execution("1")
    assert place.silence == "its shim does not answer"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_pass_but_not_read_finds_the_place_and_knows_no_more(passable) -> None:
    """It can attach; files are refused with clear words, and a list leaves it out."""
    root, alice = str(passable), Somebody(54321)
    (passable / "web").mkdir()
    (passable / "web" / "state.json").write_text("{}")
    (passable / "web" / "state.json").chmod(0o600)
    (passable / "web").chmod(0o711)

    def place() -> Place:
        return Place.find("web", root)

    assert alice.does(lambda: place().id) == ("web", "")
    for look in (lambda: place().state(), lambda: place().execution("1")):
        told = alice.attempts(look)
        assert "user 54321 may attach to web, but its files are for who made it" in told
    assert "may not read what it has left" in alice.does(lambda: place().silence)[0]
    assert alice.does(lambda: listing.rows(root)) == ("[]", "")
