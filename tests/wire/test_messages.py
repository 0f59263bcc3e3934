"""Messages: what is encoded is decoded, and garbage is the peer's fault and nothing worse."""

import string

import attrs
import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attachd.errors import LocalProtocolError, RemoteProtocolError
from attachd.wire.frames import MAX_DATA, MAX_FRAME
from attachd.wire.messages import (
    MAX_INT,
    MAX_TEXT,
    MESSAGES,
    Credit,
    Detach,
    Exit,
    Goodbye,
    Hello,
    Message,
    Output,
    Ping,
    Record,
    Stdin,
    Welcome,
    decode,
    encode,
    plain,
    tag_of,
)

COUNTS = st.integers(0, MAX_INT)
TEXTS = st.text(max_size=40)
PLAIN = st.none() | st.booleans() | st.floats(allow_nan=False) | TEXTS
PLAIN_RECORDS = st.dictionaries(
    TEXTS,
    st.recursive(
        PLAIN | st.integers(-MAX_INT - 1, MAX_INT),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)
VALUES: dict[object, st.SearchStrategy[object]] = {
    int: COUNTS,
    str: TEXTS,
    list[str]: st.lists(TEXTS, max_size=64),
    bytes: st.binary(max_size=60),
    bool: st.booleans(),
    Record: PLAIN_RECORDS,
}

#: For each kind of field, values that are almost right and must be refused.
WRONG: dict[object, list[object]] = {
    int: [-1, MAX_INT + 1, 1.0, True, "1", b"1", None, [1], {}],
    str: [1, b"text", None, ["text"], "x" * (MAX_TEXT + 1), True],
    list[str]: ["text", [1], [b"x"], [["x"]], {}, ["x"] * 65, ["x" * (MAX_TEXT + 1)], None],
    bytes: ["text", 1, None, [1], {}],
    bool: [0, 1, "true", None, b""],
    Record: [[], "text", 1, None, b"", [["a", 1]]],
}


def some(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return messages of one kind, with any values that it may carry."""
    fields = {field.name: VALUES[field.type] for field in attrs.fields(kind)}
    return st.builds(kind, **fields)


def one(kind: type[Message]) -> dict[str, object]:
    """Return the unpacked payload of a message whose values are as small as can be."""
    smallest = {int: 0, str: "", list[str]: [], bytes: b"", bool: False, Record: {}}
    body = {field.name: smallest[field.type] for field in attrs.fields(kind)}
    return {"type": tag_of(kind), **body}


ANY_MESSAGE = st.sampled_from(list(MESSAGES.values())).flatmap(some)
FIELDS = [(kind, field) for kind in MESSAGES.values() for field in attrs.fields(kind)]
each_kind = pytest.mark.parametrize("kind", MESSAGES.values(), ids=MESSAGES)
each_field = pytest.mark.parametrize(
    ("kind", "field"), FIELDS, ids=[f"{tag_of(k)}.{f.name}" for k, f in FIELDS]
)


def decode_or_refuse(payload: bytes) -> Message | None:
    """Return what ``payload`` means; any error but RemoteProtocolError fails the test."""
    try:
        return decode(payload)
    except RemoteProtocolError:
        return None


# What is encoded is decoded


@each_kind
@given(data=st.data())
def test_every_message_survives_the_wire(kind: type[Message], data: st.DataObject) -> None:
    """decode is the inverse of encode, for each kind and any values."""
    message = data.draw(some(kind))

    assert decode(encode(message)) == message


@each_kind
def test_a_payload_is_a_map_with_its_type_first(kind: type[Message]) -> None:
    """A reader of a hexdump sees at once what it is; the fields follow in order."""
    body = one(kind)
    made = decode(msgpack.packb(body))

    assert made is not None
    assert list(msgpack.unpackb(encode(made)).items()) == list(body.items())


def test_type_names_are_the_class_names_in_small_letters() -> None:
    """StdinAck is ``stdin_ack`` on the wire; no two messages share a name."""
    assert tag_of(Hello) == "hello"
    assert "stdin_ack" in MESSAGES
    assert "stdin_eof" in MESSAGES
    assert all(set(tag) <= set(string.ascii_lowercase + "_") for tag in MESSAGES)


def test_a_hello_needs_only_its_version_and_credit() -> None:
    """The smallest client says two numbers; the rest has meanings of its own."""
    payload = msgpack.packb({"type": "hello", "version": 1, "credit": 5})

    assert decode(payload) == Hello(
        version=1, features=[], role="full", since="live", flow="gap", credit=5, name="",
        key=b"", stream_id="",
    )  # fmt: skip


def test_the_largest_output_fits_a_frame() -> None:
    """MAX_DATA bytes at the largest offset and time need less than MAX_FRAME."""
    data = bytes(MAX_DATA)
    output = Output(offset=MAX_INT, stream="stderr", time=MAX_INT, data=data)

    assert len(encode(output)) < MAX_FRAME
    assert len(encode(Stdin(offset=MAX_INT, data=data))) < MAX_FRAME


# Newer peers


@each_kind
@given(extra=st.dictionaries(st.text(min_size=1).map("x_".__add__), PLAIN, max_size=3))
def test_fields_of_a_newer_peer_are_skipped(
    kind: type[Message], extra: dict[str, object]
) -> None:
    """A newer peer may add fields to a message."""
    assert decode(msgpack.packb(extra | one(kind))) == decode(msgpack.packb(one(kind)))


@given(tag=TEXTS.filter(lambda tag: tag not in MESSAGES), extra=PLAIN_RECORDS)
def test_messages_of_a_newer_peer_decode_to_none(tag: str, extra: dict[str, object]) -> None:
    """A newer peer may say what we do not know; it is skipped."""
    assert decode(msgpack.packb(extra | {"type": tag})) is None


# Values out of range


@each_field
def test_a_field_of_the_wrong_kind_is_the_peers_fault(
    kind: type[Message], field: "attrs.Attribute[object]"
) -> None:
    """Each field is checked for type and range; the refusal names it."""
    for value in WRONG[field.type]:
        try:
            payload = msgpack.packb(one(kind) | {field.name: value})
        except OverflowError:
            continue
        with pytest.raises(RemoteProtocolError, match=f"{tag_of(kind)}.{field.name} cannot"):
            decode(payload)


@each_field
def test_a_field_of_the_wrong_kind_is_never_sent(
    kind: type[Message], field: "attrs.Attribute[object]"
) -> None:
    """encode refuses what decode would: our mistake is found on our side."""
    message = decode(msgpack.packb(one(kind)))
    assert message is not None
    for value in WRONG[field.type]:
        with pytest.raises(LocalProtocolError, match=f"{tag_of(kind)}.{field.name} cannot"):
            encode(attrs.evolve(message, **{field.name: value}))


@each_field
def test_a_missing_field_is_the_peers_fault_unless_it_has_a_meaning(
    kind: type[Message], field: "attrs.Attribute[object]"
) -> None:
    """What came after the first peers of version 1 is optional, and what need not be said."""
    body = one(kind)
    del body[field.name]
    if field.default is attrs.NOTHING:
        with pytest.raises(RemoteProtocolError, match=f"{tag_of(kind)} needs {field.name}"):
            decode(msgpack.packb(body))
    else:
        assert isinstance(decode(msgpack.packb(body)), Hello | Welcome)


@pytest.mark.parametrize(
    "record",
    [{"a": "\ud800"}, {"a": object()}, {"a": 1 << 70}, {1: "one"}],
    ids=["surrogate", "object", "huge", "key"],
)
def test_a_record_that_is_not_plain_is_never_sent(record: dict[str, object]) -> None:
    """What the peer could not unpack is our own mistake: LocalProtocolError, nothing else."""
    with pytest.raises(LocalProtocolError):
        encode(Exit(record=record))


def test_text_that_is_not_unicode_is_never_sent() -> None:
    """A file name's undecodable byte (a lone surrogate) is our own mistake, told as such."""
    with pytest.raises(LocalProtocolError):
        encode(Goodbye(code="internal", text="no such file: \udcff"))


# Garbage


@given(payload=st.binary(max_size=80))
@example(payload=b"")
def test_any_bytes_are_a_message_or_the_peers_fault(payload: bytes) -> None:
    """Garbage raises RemoteProtocolError and nothing else."""
    decode_or_refuse(payload)


@given(message=ANY_MESSAGE, data=st.data())
def test_a_damaged_message_is_a_message_or_the_peers_fault(
    message: Message, data: st.DataObject
) -> None:
    """Bytes changed, cut off or put in anywhere do no worse than garbage."""
    payload = bytearray(encode(message))
    start = data.draw(st.integers(0, len(payload)))
    end = data.draw(st.integers(start, min(len(payload), start + 4)))
    payload[start:end] = data.draw(st.binary(max_size=4))

    decode_or_refuse(bytes(payload))


@given(body=PLAIN_RECORDS, tag=st.sampled_from(list(MESSAGES)))
def test_any_map_is_a_message_or_the_peers_fault(body: dict[str, object], tag: str) -> None:
    """Well-formed msgpack with the wrong content does no worse than garbage."""
    decode_or_refuse(msgpack.packb({"type": tag, **body}))


@pytest.mark.parametrize(
    "value",
    [1, "hello", ["hello"], None, True, b"x", {}, {"type": 1}, {"type": None},
     {"type": b"hello"}, {"type": ["hello"]}, {b"type": "hello"}, {"kind": "hello"}],
)  # fmt: skip
def test_a_message_is_a_map_with_a_type(value: object) -> None:
    """Anything else that msgpack can say is refused."""
    with pytest.raises(RemoteProtocolError):
        decode(msgpack.packb(value))


@pytest.mark.parametrize("brackets", [b"\x91", b"\x81\xa1a"], ids=["lists", "maps"])
@pytest.mark.parametrize(
    "depth", [1, 100, 400, 511, 800, 990, 1022, 1023, 1024, 5000, 200_000]
)
def test_deep_nesting_is_the_peers_fault(brackets: bytes, depth: int) -> None:
    """No depth of lists or maps in a field exhausts our stack."""
    nested = brackets * depth + b"\xc0"
    with pytest.raises(RemoteProtocolError):
        decode(b"\x82\xa4type\xa4ping\xa2id" + nested)
    with pytest.raises(RemoteProtocolError):
        decode(nested[:-1])


@pytest.mark.parametrize(
    "announced",
    [b"\xdf", b"\xdd", b"\xc6", b"\xdb", b"\xc9"],
    ids=["map", "array", "bytes", "text", "ext"],
)
def test_a_huge_announced_length_costs_nothing(announced: bytes) -> None:
    """Lengths of 4 GiB inside of a small payload are refused, not allocated."""
    huge = announced + b"\xff\xff\xff\xff" + b"x" * 9
    with pytest.raises(RemoteProtocolError):
        decode(huge)
    with pytest.raises(RemoteProtocolError):
        decode(b"\x82\xa4type\xa4ping\xa2id" + huge)


@given(code=st.integers(-128, 127), data=st.binary(max_size=16))
def test_extension_types_are_no_field_of_ours(code: int, data: bytes) -> None:
    """Ext values, timestamps among them, well-formed or not, are refused."""
    ext = b"\xc7" + bytes([len(data), code & 0xFF]) + data
    with pytest.raises(RemoteProtocolError):
        decode(ext)
    with pytest.raises(RemoteProtocolError):
        decode(b"\x82\xa4type\xa4ping\xa2id" + ext)


@pytest.mark.parametrize(
    "payload",
    [
        msgpack.packb({"type": "detach"}) + b"\xc0",
        b"\x82\xa4type\xa6detach\x01\x02",
        b"\x81\xa4type\xa2\xff\xfe",
        b"\x82\xa4type\xa6detach\x91\x01\x02",
        b"\xc1",
    ],
    ids=["tail", "number-key", "not-utf8", "list-key", "never-used"],
)
def test_almost_msgpack_is_the_peers_fault(payload: bytes) -> None:
    """Trailing bytes, odd keys, broken text and the reserved byte are refused."""
    with pytest.raises(RemoteProtocolError):
        decode(payload)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    """A megabyte in the wrong field makes a line, not a megabyte."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode(msgpack.packb({"type": "ping", "id": "x" * 1_000_000}))

    assert len(str(caught.value)) < 200


def test_a_key_sent_twice_does_no_harm() -> None:
    """The last one counts, as in every map."""
    assert decode(b"\x83\xa4type\xa4ping\xa2id\x01\xa2id\x02") == Ping(id=2)


def test_a_message_without_fields_is_a_type_alone() -> None:
    """detach says nothing but that."""
    assert encode(Detach()) == b"\x81\xa4type\xa6detach"


def test_values_compare_and_cannot_change() -> None:
    """Messages are values: equal by content, frozen."""
    assert Credit(bytes=5) == Credit(bytes=5)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Credit(bytes=5).bytes = 6  # type: ignore[misc]
    assert attrs.has(Welcome)


@given(text=st.text(st.characters(codec=None), max_size=40))
def test_plain_text_can_always_be_sent(text: str) -> None:
    """Whatever an error says, lone surrogates and all, a goodbye can carry it."""
    goodbye = Goodbye(code="internal", text=plain(text))

    assert decode(encode(goodbye)) == goodbye
    if text.isascii():
        assert goodbye.text == text


def test_plain_text_is_cut_to_the_limit() -> None:
    """A runtime's long complaint is told as far as a message may be long."""
    assert plain("\udcff" * (MAX_TEXT + 1)) == "?" * MAX_TEXT
    assert plain("x" * MAX_TEXT) == "x" * MAX_TEXT
