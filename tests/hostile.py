"""What hostile peers say: right messages at the wrong time, odd values, wrong types, and noise.

Everything is drawn from a ``random.Random``, so that a seed has it again and hypothesis can
shrink it. It is used by tests, by ``scripts/storm peers`` and by ``scripts/fuzz``.
"""

import random

import attrs
import msgpack

from attachd.wire import messages as say
from attachd.wire.frames import MAX_DATA, encode_frame
from attachd.wire.session import CONVERSATION, Role

TAGS = {
    role: sorted({say.tag_of(kind) for state in CONVERSATION.values() for kind in state[role]})
    for role in Role
}

WORDS = (
    "", "x", "full", "viewer", "gap", "disconnect", "block", "start", "live", "none", "screen",
    "tail:0", "tail:1", f"tail:{say.MAX_INT}", "offset:0", f"offset:{say.MAX_INT}", "offset:-1",
    "offset:", "time:0", f"time:{say.MAX_INT}", "tail:٣", "take", "wait", "steal", "free", "1",
    "exec", "lease", "input", "terminal", "../..", "-", "\0", "\x1b[2J", "퟿", "x" * say.MAX_TEXT,
)  # fmt: skip
COUNTS = (0, 1, 2, 80, 10_000, 65_536, MAX_DATA, 1 << 20, (1 << 31) - 1, 1 << 32, say.MAX_INT)
BYTES = (b"", b"x", b"\0" * 16, b"k" * 16, b"k" * 17, b"x" * 5000, b"x" * MAX_DATA)

#: No number that ends a container: who is full may do that, and it would prove nothing.
SIGNALS = (0, 18, 28, 65, 1 << 31, say.MAX_INT)

#: Of the right type nowhere, or too long, too deep, too large.
WRONG = (
    None, -1, 1 << 63, (1 << 64) - 1, 1.5, float("nan"), float("inf"), [], [None], {"a": {}},
    "x" * (say.MAX_TEXT + 1), ["x"] * 65, msgpack.Timestamp(1, 2), msgpack.ExtType(5, b"x"),
)  # fmt: skip

SPECS = (
    {}, {"argv": []}, {"argv": ["true"]}, {"argv": ["nowhere"]}, {"argv": [""]}, {"argv": ["/"]},
    {"argv": ["cat"], "stdin": True, "stdin_eof": "once"}, {"argv": ["true"], "terminal": True},
    {"argv": ["true"], "user": "nobody:٣"}, {"argv": ["true"], "user": "0:" + "9" * 40},
    {"argv": ["true"], "cwd": "/nowhere"}, {"argv": ["true"], "cwd": "relative"},
    {"argv": ["true"], "env": ["="]}, {"argv": ["true"], "ring_size": say.MAX_INT},
    {"argv": ["true"], "columns": -1}, {"argv": ["true"], "rows": 1 << 40, "terminal": True},
    {"argv": ["true"], "allow_block": say.MAX_INT}, {"argv": "true"}, {"argv": ["a\0b"]},
    {"argv": [[["true"]]]}, {"argv": ["true"], "new": 1}, {"argv": ["x"] * 10_001},
    {"argv": ["sh", "-c", "echo x; exit 3"], "allow_block": 1},
)  # fmt: skip


def deep(levels: int, chance: random.Random) -> bytes:
    """Return a payload with lists, or maps, in each other."""
    if chance.random() < 0.5:
        return b"\x82\xa4type\xa4ping\xa2id" + b"\x91" * levels + b"\xc0"
    return b"\x82\xa4type\xa4ping\xa2id" + b"\x81\xa1a" * levels + b"\xc0"


def value_for(name: str, kind: object, chance: random.Random) -> object:
    """Return some value of a field that has the right type."""
    if name == "number":
        return chance.choice(SIGNALS)
    if kind is int:
        return chance.choice(COUNTS)
    if kind is str:
        return chance.choice(WORDS)
    if kind is bytes:
        return chance.choice(BYTES)
    if kind is bool:
        return chance.random() < 0.5
    if kind == list[str]:
        return chance.sample(WORDS, chance.randrange(9))
    return chance.choice(SPECS)


def body(tag: str, chance: random.Random, *, wrong: float = 0.0) -> dict[str, object]:
    """Return the map of a message; each field is of a wrong type with the probability ``wrong``."""
    told: dict[str, object] = {"type": tag}
    for field in attrs.fields(say.MESSAGES[tag]):
        if field.default is attrs.NOTHING or chance.random() < 0.4:
            told[field.name] = value_for(field.name, field.type, chance)
        if chance.random() < wrong:
            told[field.name] = chance.choice(WRONG)
    return told


def hello(chance: random.Random, *, odd: bool = False) -> bytes:
    """Return a hello: one that is welcomed, or an ``odd`` one."""
    told: dict[str, object] = {"type": "hello", "version": 1, "credit": chance.choice(COUNTS)}
    if odd:
        told = body("hello", chance) | {"version": chance.choice((0, 1, 1, 1, say.MAX_INT))}
    return encode_frame(msgpack.packb(told))


def words(chance: random.Random, role: Role = Role.CLIENT) -> bytes:
    """Return what a peer says at once: a message, or what is none."""
    kind = chance.random()
    if kind < 0.6:
        return encode_frame(msgpack.packb(body(chance.choice(TAGS[role]), chance)))
    if kind < 0.75:
        tag = chance.choice(sorted(say.MESSAGES))
        return encode_frame(msgpack.packb(body(tag, chance, wrong=0.3), datetime=False))
    return chance.choice(_BROKEN)(chance)


_BROKEN = (
    lambda chance: b"\xff\xff\xff\xff" + chance.randbytes(9),  # 4 GB
    lambda chance: encode_frame(b""),
    lambda chance: encode_frame(chance.randbytes(chance.randrange(1, 200))),
    lambda chance: encode_frame(deep(chance.choice((10, 511, 1000, 300_000)), chance)),
    lambda chance: encode_frame(msgpack.packb({"type": "from_the_future", "x": [1, {}]})),
    lambda chance: encode_frame(msgpack.packb({1: 2, "type": "ping"})),
    lambda chance: encode_frame(b"\xde\xff\xff" + b"\xa4type" * 9),  # a map of 65,535, it says
    lambda chance: encode_frame(b"\xdd\xff\xff\xff\xff"),  # a list of 4 billion, it says
    lambda chance: encode_frame(b"\xc6\xff\xff\xff\xff"),  # 4 GB of bytes, it says
    lambda chance: words(chance)[: chance.randrange(1, 40)],  # a frame that is cut
    lambda chance: chance.randbytes(chance.randrange(1, 300)),
)
