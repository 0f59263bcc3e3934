"""The socket is the boundary: any bytes give an answer or one closed connection."""

import json
import random
import socket

import pytest
from attachd_clients import Place

from attachd.wire import messages as say
from attachd.wire.frames import encode_frame
from attachd.wire.messages import encode

pytestmark = pytest.mark.runc

HELLO = encode_frame(encode(say.Hello(version=1, credit=1000, since="start")))
CHANCE = random.Random(5)


def packed(*messages: say.Message) -> bytes:
    return b"".join(encode_frame(encode(message)) for message in messages)


ATTACKS = {
    "nothing": b"",
    "half a frame": HELLO[:7],
    "a frame of 4 GB": b"\xff\xff\xff\xff" + b"x" * 1000,
    "no msgpack": encode_frame(b"\xc1" * 50),
    "an empty frame": encode_frame(b""),
    "deep lists": encode_frame(b"\x82\xa4type\xa5hello\xa7version" + b"\x91" * 900 + b"\xc0"),
    "deep maps after hello": HELLO
    + encode_frame(b"\x82\xa4type\xa4ping\xa2id" + b"\x81\xa1a" * 900 + b"\xc0"),
    "stdin before hello": packed(say.Stdin(offset=0, data=b"x")),
    "hello twice": HELLO + HELLO,
    "a server's words": HELLO + packed(say.Gap(start=0, end=1)),
    "stdin with a hole": HELLO + packed(say.Stdin(offset=1 << 40, data=b"x")),
    "stdin without end": HELLO + packed(say.Stdin(offset=0, data=b"x" * 250_000)) * 3,
    "a bad signal": HELLO + packed(say.Signal(id=1, number=(1 << 63) - 1)),
    "a huge credit": HELLO + packed(*[say.Credit(bytes=(1 << 63) - 1)] * 5),
    "a flood of pings": HELLO + packed(*[say.Ping(id=1)] * 20_000),
    "after detach": HELLO + packed(say.Detach(), say.Ping(id=1)),
    "an odd key": packed(say.Hello(version=1, credit=0, key=b"short")),
    "an odd origin": packed(say.Hello(version=1, credit=0, since="offset:" + "9" * 30)),
    "an odd role": packed(say.Hello(version=1, credit=0, role="\ud7ff" * 4000)),
    "no version": packed(say.Hello(version=0, credit=0)),
} | {f"noise {n}": CHANCE.randbytes(CHANCE.randint(1, 3000)) for n in range(20)}


def test_no_peer_brings_the_server_down(shop) -> None:
    """Each attack, and each attack cut off by a sudden close; then all is as before."""
    box = shop.run("cat", options=("-i",))
    place = Place.find(box, str(shop.root))
    for attack in ATTACKS.values():
        for listens in (True, False):
            with place.connect() as peer:
                peer.settimeout(5)
                try:
                    peer.sendall(attack)
                    if listens:
                        peer.shutdown(socket.SHUT_WR)
                        while peer.recv(1 << 16):
                            pass
                except (BrokenPipeError, ConnectionResetError):
                    pass
    with place.connect() as generous:
        generous.sendall(ATTACKS["a huge credit"])
        assert generous.recv(1 << 16)
        report = json.loads(shop.ctl("stats", box))

    assert report["restarts"] == 0
    assert report["phase"] == "running"
    assert len(report["clients"]) == 2
    shop.ctl("kill", box)
    assert shop.ended(box)["restarts"] == 0
