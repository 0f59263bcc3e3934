"""What the server must know of the caller's wishes, read back from state.json."""

import attrs

from attachd.keeper.config import Door, LogCare, LogSpec
from attachd.state.journal import Journal
from attachd.state.rights import Policy
from attachd.state.sizes import DEFAULT_SIZE, Size


@attrs.frozen(kw_only=True)
class Manners:
    """How one program's stdio is treated. Seconds; ``name`` is empty for the container's own."""

    name: str
    stream_id: str
    stdin: bool
    stdin_eof: str
    terminal: bool
    size: Size
    size_policy: str
    allow_block: float
    drain_timeout: float
    former: dict[str, int] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Settings:
    """The part of the Config that outlives birth. Seconds, absolute paths, "" for none."""

    id: str
    stream_id: str
    keeper_pid_file: str
    runtime: list[str]  #: argv of a runtime call, to be followed by the verb
    cgroups: list[str]  #: lines of /proc/PID/cgroup
    logs: list[LogSpec]
    log_care: LogCare
    journal: Journal
    exit_file: str
    stdin_eof: str
    rm: bool
    timeout: float | None
    exit_command: list[str]
    drain_timeout: float
    linger: float
    allow_block: float
    stdin: bool
    terminal: bool
    size: Size
    size_policy: str
    create_timeout: float
    bundle: str
    rights: Policy
    recovered: int
    former: dict[str, int]  #: up to where streams of these ids were the same output
    door: Door

    @property
    def container(self) -> str:
        """What the runtime knows it by."""
        return self.door.exec_of or self.id

    @property
    def manners(self) -> Manners:
        """How the stdio of the container's own program is to be treated."""
        return Manners(
            name="",
            stream_id=self.stream_id,
            former=self.former,
            stdin=self.stdin,
            stdin_eof=self.stdin_eof,
            terminal=self.terminal,
            size=self.size,
            size_policy=self.size_policy,
            allow_block=self.allow_block,
            drain_timeout=self.drain_timeout,
        )

    @classmethod
    def of_state(cls, state: dict[str, object]) -> "Settings":
        """Return the settings in state.json; raises KeyError or TypeError for a foreign file."""
        config = _map(state["config"])
        command = config["exit_command"]
        arguments = _texts(config["exit_command_args"])
        timeout = config["timeout"]
        return cls(
            id=str(state["id"]),
            stream_id=str(state["stream_id"]),
            keeper_pid_file=str(config["keeper_pid_file"]),
            runtime=_texts(state["runtime"]),
            cgroups=_texts(state["cgroups"]),
            logs=[_log(entry) for entry in _list(state["logs"])],
            log_care=_care(config["log_care"]),
            journal=_journal(config["journal"]),
            exit_file=str(config["exit_file"]),
            stdin_eof=str(config["stdin_eof"]),
            rm=bool(config["rm"]),
            timeout=None if timeout is None else float(str(timeout)),
            exit_command=[str(command), *arguments] if command else [],
            drain_timeout=float(str(config["drain_timeout"])),
            linger=float(str(config["linger"])),
            allow_block=float(str(config["allow_block"])),
            stdin=bool(config["stdin"]),
            terminal=bool(config["terminal"]),
            size=_size(config["size"]),
            size_policy=str(config["size_policy"]),
            create_timeout=float(str(config["create_timeout"])),
            bundle=str(state["bundle"]),
            rights=_rights(config["rights"]),
            recovered=int(str(state["recovered"])),
            former={str(k): int(str(v)) for k, v in _map(state["former"]).items()},
            door=_door(config["door"]),
        )


def _map(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r:.80} is not a map")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is not a list")
    return value


def _texts(value: object) -> list[str]:
    return [str(entry) for entry in _list(value)]


def _size(value: object) -> Size:
    if value is None:
        return DEFAULT_SIZE
    columns, rows = (int(str(side)) for side in _list(value))
    return Size(columns, rows)


def _rights(value: object) -> Policy:
    entry = _map(value)
    return Policy(*(_numbers(entry[name]) for name in Policy._fields))


def _numbers(value: object) -> tuple[int, ...]:
    return tuple(int(text) for text in _texts(value))


def _door(value: object) -> Door:
    entry = _map(value)
    return Door(
        kind=str(entry["kind"]),
        name=str(entry["name"]),
        exec_of=str(entry["exec_of"]),
        process=str(entry["process"]),
        restore=str(entry["restore"]),
        options=tuple(_texts(entry["options"])),
        own_log=bool(entry["own_log"]),
        passthrough=bool(entry["passthrough"]),
        listens=bool(entry["listens"]),
        wishes=_map(entry["wishes"]),
    )


def _log(value: object) -> LogSpec:
    entry = _map(value)
    return LogSpec(str(entry["format"]), str(entry["path"]), int(str(entry["start"])))


def _journal(value: object) -> Journal:
    entry = _map(value)
    return Journal(
        tag=str(entry["tag"]),
        name=str(entry["name"]),
        labels=tuple(_texts(entry["labels"])),
        partial=bool(entry["partial"]),
    )


def _care(value: object) -> LogCare:
    entry = _map(value)
    return LogCare(
        max_size=int(str(entry["max_size"])),
        max_files=int(str(entry["max_files"])),
        max_age=float(str(entry["max_age"])),
        max_total=int(str(entry["max_total"])),
        cuts=bool(entry["cuts"]),
        max_ever=int(str(entry["max_ever"])),
        compress=str(entry["compress"]),
        on_error=str(entry["on_error"]),
        sync=bool(entry["sync"]),
    )
