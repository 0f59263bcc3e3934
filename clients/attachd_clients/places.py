"""Where containers are found: the state root, one container's directory, its files and socket."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator

import attrs

from attachd.errors import UsageError
from attachd.ground import is_planted, state_root
from attachd.state.sizes import DEFAULT_SIZE, Size

#: More of shim.log is not looked at.
_LAST_WORDS_BYTES = 64 * 1024

#: A server that dies once or twice while it starts is nothing that anybody must wait for.
_TROUBLE_FAILURES = 3


#: What Podman and CRI-O show of an id, and the least that is taken for the beginning of one.
_SHORT_ID = 12


class NoSuchContainer(UsageError):
    """There is no container of this name under this root."""

    code = "not_found"


class Unreadable(UsageError):
    """What a container's files tell is not for this user, who may only use its socket."""

    code = "denied"


@attrs.frozen
class Place:
    """One container's state directory."""

    root: str
    id: str

    @classmethod
    def find(cls, container: str, root: str | None = None) -> "Place":
        """Return the place of a container that exists; raises NoSuchContainer."""
        place = cls(_root(root), container)
        plain = _is_plain(container)
        if plain:
            _check_rights(place.path)
        if not plain or not os.path.isdir(place.path):
            place = cls._by_other_name(container, place.root) or place
        if not _is_plain(place.id) or not os.path.isdir(place.path):
            raise NoSuchContainer(
                f"no container {container!r:.160} under {place.root}: see 'attachctl ls'"
            )
        return place

    @classmethod
    def _by_other_name(cls, word: str, root: str) -> "Place | None":
        """Return the one container of that name, or whose id begins so; None if there is none.

        Managers give names of their own, and ids of 64 digits, whose first twelve they show.
        Raises UsageError when ``word`` could mean several.
        """
        found = [
            place for place in cls.all(root)
            if (word and place.name == word)
            or (len(word) >= _SHORT_ID and place.id.startswith(word))
        ]  # fmt: skip
        if len(found) > 1:
            ids = ", ".join(place.id[:_SHORT_ID] for place in found)
            raise UsageError(f"{word!r:.160} could be each of {ids}: say more of the id")
        return found[0] if found else None

    @property
    def name(self) -> str:
        """What its manager calls it besides its id; "" for nothing, or when nobody may know."""
        return self._door("name")

    @property
    def manager(self) -> str:
        """What the door is called by which its manager came; "" for our own command line."""
        return self._door("kind")

    def _door(self, what: str) -> str:
        config = (self._json("state.json") or {}).get("config")
        door = config.get("door") if isinstance(config, dict) else None
        return str(door.get(what, "")) if isinstance(door, dict) else ""

    @classmethod
    def all(cls, root: str | None = None) -> list["Place"]:
        """Return every container under a root, by name."""
        base = _root(root)
        try:
            names = sorted(
                entry.name
                for entry in os.scandir(base)
                if entry.is_dir() and not entry.name.startswith(".")
            )
        except FileNotFoundError:
            return []
        except PermissionError:
            raise _no_rights(base) from None
        return [cls(base, name) for name in names]

    @property
    def path(self) -> str:
        """The state directory."""
        return os.path.join(self.root, self.id)

    @property
    def is_readable(self) -> bool:
        """False for who may use the container's socket and nothing else (``--allow-uid``)."""
        if not os.path.isdir(self.path):
            return True  # it is gone, and nothing is kept from anybody
        return os.access(self.path, os.R_OK | os.X_OK, effective_ids=True)

    @property
    def silence(self) -> str:
        """For people: nobody is behind the socket, and what may be known of that."""
        rest = ""
        if not self.is_readable:
            rest = f", and {_who()} may not read what it has left"
        elif self.exists():
            rest = f": see attachd recover {self.id}"
        return f"its shim does not answer{rest}"

    def exists(self) -> bool:
        """Return True when a container was made here, and not only a directory."""
        return self._json("state.json") is not None

    def state(self) -> dict[str, object]:
        """Return state.json. Raises NoSuchContainer when there is none (yet), and Unreadable."""
        state = self._json("state.json")
        if state is None and not self.is_readable:
            raise Unreadable(
                f"{_who()} may attach to {self.id}, but its files are for who made it, and root"
            )
        if state is None:
            raise NoSuchContainer(f"no container {self.id}: its state.json is missing")
        return state

    def former_streams(self) -> dict[str, int]:
        """Return up to which offset each stream of another id was the same output.

        A container that was taken up again (``attachd recover``) has a stream of its own.
        """
        former = self.state().get("former")
        found = former.items() if isinstance(former, dict) else ()
        return {str(name): int(end) for name, end in found}

    def exit_record(self) -> dict[str, object] | None:
        """Return exit.json, or None while the container has not ended."""
        return self._json("exit.json")

    def upgrade_answer(self) -> dict[str, object] | None:
        """Return what became of the last order to upgrade, or None."""
        return self._json("upgrade-answer.json")

    def trouble(self) -> dict[str, object] | None:
        """Return what the keeper tells of servers that did not stay, or None."""
        return self._json("trouble.json")

    @property
    def trouble_words(self) -> str:
        """For people: why nobody answers just now and where more is told; "" when all is well."""
        trouble = self.trouble()
        if trouble is None or int(str(trouble.get("failures", 0))) < _TROUBLE_FAILURES:
            return ""
        why = trouble.get("why")
        return f"its server does not stay ({why}): see 'attachctl inspect {self.id}'"

    def last_words(self, count: int = 10) -> list[str]:
        """Return the last lines of what the shim itself has said (shim.log)."""
        try:
            with open(os.path.join(self.path, "shim.log"), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_WORDS_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except OSError:
            return []

    def has_terminal(self, execution: str = "") -> bool:
        """Return whether the container's program, or an exec of this name, has a terminal.

        Raises NoSuchContainer and Unreadable.
        """
        if execution:
            return self.execution(execution).get("terminal") is True
        config = self.state().get("config")
        return isinstance(config, dict) and config.get("terminal") is True

    def executions(self) -> list[dict[str, object]]:
        """Return what files tell of execs, the oldest first; ``exit`` is null while one runs."""
        try:
            names = os.listdir(os.path.join(self.path, "exec"))
        except OSError:
            return []
        found = [told for name in names if (told := self._execution(name)) is not None]
        return sorted(found, key=lambda told: str(told.get("made_at")).zfill(20))

    def execution(self, name: str) -> dict[str, object]:
        """Return what files tell of one exec. Raises NoSuchContainer."""
        told = self._execution(name)
        if told is None and not self.is_readable:
            self.state()
        if told is None:
            raise NoSuchContainer(
                f"no exec {name!r:.80} in {self.id}: see 'attachctl inspect'"
            )
        return told

    def record(self, execution: str = "") -> dict[str, object] | None:
        """Return the exit record of the container, or of an exec in it; None without one."""
        return self.exec_record(execution) if execution else self.exit_record()

    def exec_record(self, name: str) -> dict[str, object] | None:
        """Return the exit record of an exec, or None."""
        return self._json(f"exec/{name}/exit.json") if _is_plain(name) else None

    def _execution(self, name: str) -> dict[str, object] | None:
        told = self._json(f"exec/{name}/exec.json") if _is_plain(name) else None
        if told is None:
            return None
        told.pop("creator", None)  # a key by which somebody may go on as its writer
        return told | {"exit": self.exec_record(name)}

    def last_size(self, execution: str = "") -> Size:
        """Return the size that a terminal had last, as far as files tell.

        It is the container's, or that of an exec.
        """
        inside = f"exec/{execution}/" if execution else ""
        sizes = (self._json(f"{inside}terminal.json") or {}).get("sizes")
        if isinstance(sizes, list) and sizes:
            return Size(*sizes[-1][-2:])
        made = self.execution(execution) if execution else self.state().get("config")
        first = made.get("size") if isinstance(made, dict) else None
        return Size(*first) if isinstance(first, list) else DEFAULT_SIZE

    def connect(self, *, blocking: bool = True) -> socket.socket:
        """Return a socket connected to the shim; raises OSError when there is none.

        One that does not block raises BlockingIOError when the shim takes no more connections
        now (unix(7), EAGAIN).
        Goes through the directory's descriptor, so that the path may be longer than the 107
        bytes of sockaddr_un (unix(7)).
        """
        with self._directory() as directory:
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            peer.setblocking(blocking)
            try:
                peer.connect(f"/proc/self/fd/{directory}/attach.sock")
            except BaseException:
                peer.close()
                raise
            return peer

    def answers(self) -> bool:
        """Return True when a shim holds the container's socket open."""
        try:
            self.connect(blocking=False).close()
        except BlockingIOError:
            return True  # so many wait for it that no more may
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)

    def _json(self, name: str) -> dict[str, object] | None:
        try:
            with open(os.path.join(self.path, name), "rb") as file:
                value = json.load(file)
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


def _is_plain(name: str) -> bool:
    """True for a name of something in a directory, and not of a way out of it."""
    return "/" not in name and "\0" not in name and name not in ("", "..", ".")


def _check_rights(path: str) -> None:
    """Raise UsageError when it cannot be known whether the directory is there, or be used.

    Whom the container is open to may pass through it to the socket, and not list it.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        if not os.access(path, os.X_OK, effective_ids=True):
            raise _no_rights(path) from None
    except (OSError, ValueError):
        pass  # it is not there, or no text that a file name can be


def _no_rights(path: str) -> UsageError:
    return UsageError(
        f"{_who()} may not look into {path}: containers belong to who made them, and root"
    )


def _who() -> str:
    return f"user {os.getuid()}"


def _root(root: str | None) -> str:
    """Return the state root that is meant. Raises UsageError when it is a trap."""
    base = os.path.abspath(root or state_root())
    if is_planted(base):
        raise UsageError(
            f"{base} was made by somebody else: set XDG_RUNTIME_DIR or use --root"
        )
    return base
