"""How an exec comes to be: its directory, its files, and its descriptors at the keeper.

Whatever dies in between: a set of descriptors that is not whole is cleared away by the next
server, and the client, which asks again, has it made anew.
"""

import math
import os
import resource
import shutil
import time
from collections.abc import Mapping

from attachd.errors import Refused
from attachd.keeper import files
from attachd.keeper.bundle import read_spec
from attachd.keeper.descriptors import make_inner_pipe, make_pipes, make_ring
from attachd.keeper.execs import ENDS, parcel
from attachd.live.cgroup import oom_kills
from attachd.live.exec import PARTS, Birth, Exec, Home
from attachd.live.rootfs import read_text
from attachd.live.settings import Manners
from attachd.state.accounts import Account, find_account
from attachd.state.execspec import ExecSpec, process_of
from attachd.state.sizes import Size

#: An exec takes some eight descriptors, and making it some more.
ROOM = 16


def make(home: Home, name: str, creator: bytes, spec: ExecSpec) -> Exec:
    """Make everything that an exec needs to be begun. Raises Refused; then nothing is left."""
    _check_room(home)
    account = _account(home, spec)
    own = _own_process(home)
    birth = _birth(home, name, creator, spec)
    path = os.path.join(home.directory, files.EXECS, name)
    held: dict[str, int] = {}
    try:
        _make_directory(path)
        files.reserve(os.path.join(path, files.EXIT_ROOM), files.RECORD_BYTES)
        process = process_of(own, spec, account)
        files.write_json(os.path.join(path, files.PROCESS), process)
        files.write_json(os.path.join(path, files.EXEC), _record_of(birth))
        ends = _make_descriptors(spec, held)
    except OSError as error:
        clear(home, name, held)
        raise Refused("no_room", f"cannot make an exec: {error.strerror}") from None
    for part, fd in zip(ENDS, ends, strict=False):
        home.post.send("keep", parcel(name, part), fd)  # until the runtime has them
        os.close(fd)
    for part, fd in held.items():
        home.post.keep(parcel(name, part), fd)
    return Exec(home, birth, held, again=False)


def adopt(home: Home, kept: Mapping[str, int]) -> list[Exec]:
    """Return the execs that an earlier server has made; what is not whole is cleared away."""
    found: dict[str, dict[str, int]] = {}
    for key, fd in kept.items():
        kind, _, rest = key.partition("/")
        if kind == "exec":
            name, _, part = rest.rpartition("/")
            found.setdefault(name, {})[part] = fd
    made = []
    for name, held in found.items():
        ends = [held.pop(end) for end in ENDS if end in held]  # they are the keeper's alone
        for fd in ends:
            os.close(fd)
        for end in ENDS:
            home.post.kept.pop(parcel(name, end), None)
        birth = _read_birth(home, name)
        if birth is None or not _is_whole(birth, held):
            clear(home, name, held)
        else:
            made.append(Exec(home, birth, held, again=True))
    return made


def clear(home: Home, name: str, held: Mapping[str, int]) -> None:
    """Leave nothing of an exec that was not made, and of one that has ended its record."""
    for fd in held.values():
        os.close(fd)
    for part in (*PARTS, *ENDS):
        home.post.drop(parcel(name, part))
    path = os.path.join(home.directory, files.EXECS, name)
    if not os.path.exists(os.path.join(path, files.EXIT)):
        shutil.rmtree(path, ignore_errors=True)


def _check_room(home: Home) -> None:
    """Raise Refused when there are not descriptors enough, here or at the keeper.

    What it has no descriptor for it would have to leave waiting, and the client with it.
    """
    free: list[int] = []
    try:
        while len(free) < ROOM:
            free.append(os.dup(home.post.fd))
    except OSError as error:
        raise Refused("no_room", f"cannot make an exec: {error.strerror}") from None
    finally:
        for fd in free:
            os.close(fd)
    if _keepers_room(home.guardian.pid) < ROOM:
        raise Refused("no_room", "cannot make an exec: the keeper has no descriptors left")


def _keepers_room(pid: int) -> float:
    """Return how many more descriptors it may open."""
    try:
        limit, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return limit - len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, ValueError):
        return math.inf  # it has gone: its heir will tell


def _make_directory(path: str) -> None:
    """Make it anew: what is there is the record of one of the same name that has ended."""
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    shutil.rmtree(path, ignore_errors=True)
    os.mkdir(path, 0o700)


def _make_descriptors(spec: ExecSpec, held: dict[str, int]) -> tuple[int, ...]:
    """Put ours into ``held``; return the program's. Raises OSError."""
    held["ring"], held["header"] = make_ring(spec.ring_size)
    held["intake"] = os.memfd_create("attachd-stdin", os.MFD_CLOEXEC)
    made = make_inner_pipe() if spec.terminal else make_pipes(spec.stdin)
    held |= made.ours
    return made.ends


def _is_whole(birth: Birth, held: Mapping[str, int]) -> bool:
    needed = {"header", "ring", "intake", "stdout"}
    needed |= {"inner"} if birth.manners.terminal else {"stderr"}
    return needed <= held.keys()


def _account(home: Home, spec: ExecSpec) -> Account | None:
    """Return who it shall run as; None for the container's own user. Raises Refused."""
    if not spec.user:
        return None
    texts = [read_text(home.pid, f"/etc/{name}") for name in ("passwd", "group")]
    return find_account(spec.user, *texts)


def _own_process(home: Home) -> dict[str, object]:
    """Return the container's own OCI process, with the limit on descriptors that it got.

    Our own limit, which runc would hand on, may be another (`keeper.descriptors`).
    """
    process = read_spec(home.bundle).get("process")
    if not isinstance(process, dict):
        raise Refused("bad_request", f"{home.bundle} does not say how its programs run")
    limits = process.get("rlimits") or []
    if not isinstance(limits, list) or not all(isinstance(limit, dict) for limit in limits):
        raise Refused("bad_request", f"{home.bundle} has rlimits that are no list of maps")
    if not any(limit.get("type") == "RLIMIT_NOFILE" for limit in limits):
        try:
            soft, hard = resource.prlimit(home.pid, resource.RLIMIT_NOFILE)
        except OSError:
            return process
        limits = [*limits, {"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]
    return process | {"rlimits": limits}


# exec.json


def _birth(home: Home, name: str, creator: bytes, spec: ExecSpec) -> Birth:
    manners = Manners(
        name=name,
        stream_id=os.urandom(16).hex(),
        stdin=spec.stdin,
        stdin_eof=spec.stdin_eof,
        terminal=spec.terminal,
        size=spec.size,
        size_policy=home.size_policy,
        allow_block=spec.allow_block,
        drain_timeout=home.drain_timeout,
    )
    return Birth(
        manners=manners,
        creator=creator,
        argv=list(spec.argv),
        user=spec.user,
        cwd=spec.cwd,
        made_at=time.time_ns(),
        oom_before=oom_kills(home.cgroups),
    )


def _record_of(birth: Birth) -> dict[str, object]:
    manners = birth.manners
    return {
        "schema": 1,
        "name": manners.name,
        "argv": birth.argv,
        "user": birth.user,
        "cwd": birth.cwd,
        "terminal": manners.terminal,
        "size": list(manners.size),
        "size_policy": manners.size_policy,
        "stdin": manners.stdin,
        "stdin_eof": manners.stdin_eof,
        "allow_block": manners.allow_block,
        "drain_timeout": manners.drain_timeout,
        "stream_id": manners.stream_id,
        "creator": birth.creator.hex(),
        "made_at": birth.made_at,
        "oom_before": birth.oom_before,
    }


def _read_birth(home: Home, name: str) -> Birth | None:
    """Return what was noted of an exec; None when it was not, or not by us."""
    try:
        told = files.read_json(os.path.join(home.directory, files.EXECS, name, files.EXEC))
        return _birth_of(told)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _birth_of(told: dict[str, object]) -> Birth:
    size, argv = told["size"], told["argv"]
    if not isinstance(size, list) or not isinstance(argv, list):
        raise TypeError("size and argv are lists")
    manners = Manners(
        name=str(told["name"]),
        stream_id=str(told["stream_id"]),
        stdin=bool(told["stdin"]),
        stdin_eof=str(told["stdin_eof"]),
        terminal=bool(told["terminal"]),
        size=Size(*(int(side) for side in size)),
        size_policy=str(told["size_policy"]),
        allow_block=float(str(told["allow_block"])),
        drain_timeout=float(str(told["drain_timeout"])),
    )
    return Birth(
        manners=manners,
        creator=bytes.fromhex(str(told["creator"])),
        argv=[str(word) for word in argv],
        user=str(told["user"]),
        cwd=str(told["cwd"]),
        made_at=int(str(told["made_at"])),
        oom_before=int(str(told["oom_before"])),
    )
