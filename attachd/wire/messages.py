"""Messages: the nouns of the protocol, and their msgpack form.

A payload is one msgpack map with the key ``type``. Unknown keys are skipped, so that a newer
peer may add fields; an unknown type decodes to None when the peer may be newer, so that it can
be skipped too. Offsets and credits count bytes, times are nanoseconds since the Unix epoch.
"""

import typing
from collections.abc import Mapping

import attrs
import msgpack

from attachd.errors import LocalProtocolError, RemoteProtocolError

#: A map of plain values: str, int, float, bool, None, and lists and maps of them.
Record = Mapping[str, object]

#: Offsets, times and ids fit a signed 64-bit word in every language's msgpack.
MAX_INT = (1 << 63) - 1

#: Names, codes and the like; the longest text that a peer may send outside of records.
MAX_TEXT = 4096


@attrs.frozen(kw_only=True)
class Hello:
    """client: the first message; says who is there and what it wants to see."""

    version: int
    features: list[str] = attrs.field(factory=list)
    role: str = "full"  #: full | viewer
    since: str = "live"  #: start | live | none | screen | tail:LINES | offset:BYTES | time:NS
    flow: str = "gap"  #: gap | disconnect | block
    credit: int  #: bytes of output data that may be sent before more is granted
    name: str = ""  #: for people, shown in status
    key: bytes = b""  #: 16 random bytes that name this writer across connections, or empty
    stream_id: str = ""  #: the stream an offset belongs to, or empty
    columns: int = 0  #: the client's terminal, 0 when it has none or shall not count
    rows: int = 0
    exec: str = ""  #: which exec is meant; empty: the container's own program
    spec: Record = attrs.field(
        factory=dict
    )  #: not empty: make that exec (protocol.md, "Exec")
    input: bool = False  #: tell also what was written to stdin


@attrs.frozen(kw_only=True)
class Welcome:
    """server: the answer to hello; output follows from ``offset``."""

    version: int
    features: list[str]
    id: str
    phase: str  #: created | running | stopped
    terminal: bool
    stream_id: str
    oldest: int  #: the first offset still held
    newest: int  #: the offset of the next byte to come
    offset: int  #: where this client's output starts
    stdin: str  #: open | once | owner | never | closed
    stdin_offset: int  #: how many bytes of this key's stdin were accepted so far
    stdin_window: int  #: how many bytes of stdin may be sent beyond the last acknowledged one
    max_frame: int
    max_data: int
    columns: int = 0  #: the container's terminal when ``offset`` was read, 0 without one
    rows: int = 0
    modes: bytes = (
        b""  #: for since=screen: what brings a terminal into its state at ``offset``
    )
    writer: str = ""  #: who alone may write now; empty: everybody who is full
    may_write: bool = True  #: whether this client may write now
    exec: str = ""  #: the exec's name; empty: the container's own program


@attrs.frozen(kw_only=True)
class Output:
    """server: bytes of one stream; ``offset`` counts over both streams."""

    offset: int
    stream: str  #: stdout | stderr
    time: int
    data: bytes


@attrs.frozen(kw_only=True)
class Gap:
    """server: bytes ``start`` to ``end`` will not come: neither ring nor log has them."""

    start: int
    end: int


@attrs.frozen(kw_only=True)
class Resized:
    """server: the terminal had this size from ``offset`` on; in order with the output."""

    offset: int
    time: int
    columns: int
    rows: int


@attrs.frozen(kw_only=True)
class Input:
    """server: ``data`` was written to stdin when ``offset`` was the newest byte of output."""

    offset: int
    time: int
    data: bytes


@attrs.frozen(kw_only=True)
class Eof:
    """server: the stream has ended; all its bytes were sent before this."""

    stream: str


@attrs.frozen(kw_only=True)
class Exit:
    """server: the container's exit record; nothing of its output comes after this."""

    record: Record


@attrs.frozen(kw_only=True)
class Stdin:
    """client: bytes for the container; ``offset`` counts this key's own bytes."""

    offset: int
    data: bytes


@attrs.frozen(kw_only=True)
class StdinEof:
    """client: no more stdin, from anybody; ``offset`` is where this key's own bytes end."""

    offset: int


@attrs.frozen(kw_only=True)
class StdinAck:
    """server: this key's bytes before ``offset`` were written to the container."""

    offset: int
    eof: bool  #: the container's stdin is closed, or will be after the bytes already accepted


@attrs.frozen(kw_only=True)
class StdinRefused:
    """server: this key's bytes from ``offset`` on were not taken; what comes next begins there."""

    offset: int
    code: str
    text: str


@attrs.frozen(kw_only=True)
class Size:
    """client: its terminal has this size now; whose size wins is the container's policy."""

    columns: int
    rows: int


@attrs.frozen(kw_only=True)
class Resize:
    """client: give the container's terminal this size; answered by done or error."""

    id: int
    columns: int
    rows: int


@attrs.frozen(kw_only=True)
class Lease:
    """client: be the only one who writes. ``mode``: take, wait, steal or free. Done or error."""

    id: int
    mode: str


@attrs.frozen(kw_only=True)
class Writer:
    """server: who may write has changed: ``name`` alone, or everybody; and whether you may."""

    name: str
    you: bool


@attrs.frozen(kw_only=True)
class Notice:
    """server: something that whoever sits there should know; the talk goes on."""

    code: str
    text: str


@attrs.frozen(kw_only=True)
class Credit:
    """client: grant ``bytes`` more of output data."""

    bytes: int


@attrs.frozen(kw_only=True)
class Ping:
    """both: answer with a pong of the same ``id``."""

    id: int


@attrs.frozen(kw_only=True)
class Pong:
    """both: the answer to a ping; ``newest`` is the newest output offset (0 from a client)."""

    id: int
    newest: int


@attrs.frozen(kw_only=True)
class Start:
    """client: run ``runc start``; answered by done or error with the same ``id``."""

    id: int


@attrs.frozen(kw_only=True)
class Signal:
    """client: send signal ``number`` to the program; answered by done or error."""

    id: int
    number: int


@attrs.frozen(kw_only=True)
class Status:
    """client: ask for counters and clients; answered by report."""

    id: int


@attrs.frozen(kw_only=True)
class Release:
    """client: the ended container's output is no longer wanted; the shim may go. Done or error."""

    id: int


@attrs.frozen(kw_only=True)
class Rotate:
    """client: begin a new file of each log. Done when that is so, or error."""

    id: int


@attrs.frozen(kw_only=True)
class Reopen:
    """client: go on in the files that have the logs' names now. Done when that is so, or error."""

    id: int


@attrs.frozen(kw_only=True)
class Detach:
    """client: leaving; the server answers goodbye."""


@attrs.frozen(kw_only=True)
class Done:
    """server: the request ``id`` was carried out."""

    id: int


@attrs.frozen(kw_only=True)
class Report:
    """server: the answer to status."""

    id: int
    report: Record


@attrs.frozen(kw_only=True)
class Error:
    """server: the request ``id`` (0: no request, what was sent) was refused; the talk goes on."""

    id: int
    code: str
    text: str


@attrs.frozen(kw_only=True)
class Goodbye:
    """server: the last message; ``code`` says why."""

    code: str
    text: str


Message = (
    Hello | Welcome | Output | Gap | Resized | Input | Eof | Exit | Stdin | StdinEof | StdinAck
    | StdinRefused | Size | Resize | Lease | Writer | Notice | Credit | Ping | Pong | Start
    | Signal | Status | Release | Rotate | Reopen | Detach | Done | Report | Error | Goodbye
)  # fmt: skip


def tag_of(kind: type[Message]) -> str:
    """Return the wire name of a message class: StdinAck is ``stdin_ack``."""
    name = kind.__name__
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


MESSAGES: dict[str, type[Message]] = {tag_of(kind): kind for kind in typing.get_args(Message)}
_TAGS: dict[type[Message], str] = {kind: tag for tag, kind in MESSAGES.items()}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _is_texts(value: object) -> bool:
    return type(value) is list and len(value) <= 64 and all(map(_is_text, value))


_CHECKS: dict[object, typing.Callable[[object], bool]] = {
    int: _is_count,
    str: _is_text,
    list[str]: _is_texts,
    bytes: lambda value: type(value) is bytes,
    bool: lambda value: type(value) is bool,
    Record: lambda value: type(value) is dict and all(type(key) is str for key in value),
}


class _Field(typing.NamedTuple):
    name: str
    check: typing.Callable[[object], bool]
    required: bool


def _fields_of(kind: type[Message]) -> tuple[_Field, ...]:
    return tuple(
        _Field(field.name, _CHECKS[field.type], field.default is attrs.NOTHING)
        for field in attrs.fields(kind)
    )


_FIELDS: dict[str, tuple[_Field, ...]] = {
    tag: _fields_of(kind) for tag, kind in MESSAGES.items()
}


def encode(message: Message) -> bytes:
    """Return the payload of ``message``: a map with ``type`` first, then the fields in order."""
    tag = _TAGS[type(message)]
    body: dict[str, object] = {"type": tag}
    for field in _FIELDS[tag]:
        value: object = getattr(message, field.name)
        if not field.check(value):
            raise LocalProtocolError(f"{tag}.{field.name} cannot be {_show(value)}")
        body[field.name] = value
    try:
        return bytes(msgpack.packb(body))
    except (ValueError, TypeError, OverflowError) as error:
        raise LocalProtocolError(f"{tag} cannot be packed: {error}") from None


def plain(text: str) -> str:
    """Return ``text`` so that it can be sent: cut to the limit, lone surrogates replaced."""
    return text[:MAX_TEXT].encode(errors="replace").decode()


def _show(value: object) -> str:
    """Return a few words on a value; never the repr of what may be huge or deeply nested."""
    return repr(value)[:80] if type(value) in (int, bool, type(None)) else type(value).__name__


def _unpack(payload: bytes) -> dict[object, object]:
    try:
        value: object = msgpack.unpackb(payload, raw=False, strict_map_key=True)
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteProtocolError(f"a payload that is not msgpack: {error}") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"a payload must be a map, this is {type(value).__name__}")
    return value


def decode(payload: bytes) -> Message | None:
    """Return the message in ``payload``, or None for a type that this version does not know.

    Raises RemoteProtocolError for anything else that is not a message, and nothing but that.
    """
    body = _unpack(payload)
    tag = body.get("type")
    if not isinstance(tag, str):
        raise RemoteProtocolError("a message needs a type")
    if tag not in MESSAGES:
        return None
    values: dict[str, object] = {}
    for name, check, required in _FIELDS[tag]:
        if name in body:
            if not check(body[name]):
                raise RemoteProtocolError(f"{tag}.{name} cannot be {_show(body[name])}")
            values[name] = body[name]
        elif required:
            raise RemoteProtocolError(f"{tag} needs {name}")
    make = typing.cast(typing.Callable[..., Message], MESSAGES[tag])
    return make(**values)
