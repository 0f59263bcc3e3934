"""A container under siege: hostile peers at its socket, and an honest follower beside them.

The container counts: what it says is known, so that each byte that the follower and the log have
can be judged. Used by tests in short and by ``scripts/storm peers`` at length.
"""

import contextlib
import hashlib
import os
import random
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import hostile
from attachd_clients import attach_blocking
from harness import PATIENCE, Shop, wait_for

from attachd.live.door import MAX_CONNECTIONS
from attachd.wire import messages as say
from attachd.wire.frames import LENGTH_BYTES, MAX_FRAME, FrameDecoder, encode_frame
from attachd.wire.messages import decode, encode

_COUNT = "i=0; while [ ! -e /stop ]; do n=$((i + 100)); while [ $i -lt $n ]; do echo $i; i=$((i + 1)); done; usleep 5000; done"  # noqa: E501

_DEAF_HELLO = say.Hello(version=1, credit=say.MAX_INT, since="start", name="deaf")
IDLE = encode_frame(encode(say.Hello(version=1, credit=0, since="none", name="idle")))


def said_by_a_counter(size: int) -> Iterator[bytes]:
    """Yield ``size`` bytes of what a container that counts says, in pieces."""
    number = 0
    while size > 0:
        piece = b"".join(b"%d\n" % n for n in range(number, number + 10_000))[:size]
        number += 10_000
        size -= len(piece)
        yield piece


class Told(NamedTuple):
    """What the follower and the log have had of the container that has ended."""

    wrong: str  #: empty when everything was exact
    size: int


class Besieged:
    """A container that counts, and its follower; ``end`` it, and everything is judged."""

    def __init__(self, shop: Shop, *, descriptors: int | None = None) -> None:
        """``descriptors`` is what the shim may have, if not what we may."""
        self._shop = shop
        self.box = shop.name()
        words = ("run", "-i", self.box, "--", "sh", "-c", _COUNT)
        shop.call("attachd", *words, **_limited(descriptors))
        self.path = str(shop.path(self.box) / "attach.sock")
        self.server = int(wait_for(lambda: shop.server(self.box)))
        self.room = min(MAX_CONNECTIONS, _limit_of(self.server) // 2)
        self._got = hashlib.sha256()
        self._size = 0
        self._wrong = ""
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        wait_for(lambda: self._size or self._wrong)

    @property
    def memory(self) -> float:
        """MB of the server, resident."""
        pages = int(Path(f"/proc/{self.server}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6

    @property
    def descriptors(self) -> int:
        """How many the server has."""
        return len(os.listdir(f"/proc/{self.server}/fd"))

    @property
    def seconds(self) -> float:
        """What the server has had of a processor."""
        fields = Path(f"/proc/{self.server}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def lives(self) -> bool:
        """True while it is the same server."""
        return self._shop.server(self.box) == self.server

    def end(self) -> Told:
        """Have the container end, and return what was wrong with what was told of it."""
        rootfs = Path(self._shop.state(self.box)["bundle"]) / "rootfs"
        (rootfs / "stop").touch()
        record = self._shop.ended(self.box)
        self._thread.join(PATIENCE)
        size = record["offset"]
        wanted = hashlib.sha256()
        for piece in said_by_a_counter(size):
            wanted.update(piece)
        log = hashlib.sha256(self._shop.ctl("logs", self.box)).digest()
        wrong = [
            self._wrong,
            "" if (self._size, self._got.digest()) == (size, wanted.digest())
            else f"the follower has {self._size} bytes of {size}, or others",
            "" if log == wanted.digest() else "the log is not exact",
            "" if record["restarts"] == 0 else f"{record['restarts']} servers have died",
            "" if record["exit_code"] == 0 else f"the container has ended with {record}",
        ]  # fmt: skip
        return Told("; ".join(filter(None, wrong)), size)

    def _follow(self) -> None:
        """Be the honest client. Ends with the container."""
        with attach_blocking(
            self.box, root=str(self._shop.root), since="start", role="viewer", name="honest"
        ) as client:
            while (event := client.receive(10 * PATIENCE)) is not None:
                if isinstance(event, say.Output):
                    self._got.update(event.data)
                    self._size += len(event.data)
                elif isinstance(event, say.Gap):
                    self._wrong = f"a gap: {event}"


class Peer:
    """A hostile one: what it has to say, how, and whether it listens."""

    def __init__(
        self, path: str, data: bytes, *, listens: bool = True, trickles: bool = False
    ) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)  # waits while the backlog is full
        self.socket.setblocking(False)
        self.since = time.monotonic()
        self.over = False  #: the server has closed
        self._data = memoryview(data)
        self._listens = listens
        self._trickles = trickles
        self._decoder = FrameDecoder()
        self.heard: say.Message | None = None  #: the last of what the server has said

    @property
    def events(self) -> int:
        """What it waits for, as poll(2) calls it; that the server has closed is always told."""
        speaks = bool(self._data) and not self._trickles
        return (select.POLLIN if self._listens else 0) | (select.POLLOUT if speaks else 0)

    @property
    def goodbye(self) -> str:
        """The code of the last message, if that was a goodbye."""
        return self.heard.code if isinstance(self.heard, say.Goodbye) else ""

    def act(self, events: int) -> None:
        """Do what may be done now."""
        try:
            if events & select.POLLOUT:
                self._data = self._data[self.socket.send(self._data) :]
            if events & select.POLLIN:
                self._hear(self.socket.recv(1 << 16))
            elif events & (select.POLLHUP | select.POLLERR):
                self.over = True
        except BlockingIOError:
            pass
        except OSError:
            self.over = True

    def say(self, data: bytes) -> None:
        """Have more to say."""
        self._data = memoryview(bytes(self._data) + data)

    def trickle(self) -> None:
        """Say one byte, if that is its manner."""
        if self._trickles and self._data and not self.over:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                self._data = self._data[self.socket.send(self._data[:1]) :]

    def hang_up(self) -> None:
        """Say nothing more, but hear the rest."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def _hear(self, data: bytes) -> None:
        if not data:
            self.over = True
            return
        self._decoder.feed(data)
        while (payload := self._decoder.next_frame()) is not None:
            self.heard = decode(payload)


Make = Callable[[str, random.Random], Peer]


def _silent(path: str, chance: random.Random) -> Peer:
    return Peer(path, b"")


def _trickling(path: str, chance: random.Random) -> Peer:
    return Peer(path, hostile.hello(chance), trickles=True)


def _deaf(path: str, chance: random.Random) -> Peer:
    return Peer(path, encode_frame(encode(_DEAF_HELLO)), listens=False)


def _huge(path: str, chance: random.Random) -> Peer:
    begin = IDLE if chance.random() < 0.5 else b""
    return Peer(path, begin + b"\xff\xff\xff\xff" + chance.randbytes(100))


def _deep(path: str, chance: random.Random) -> Peer:
    begin = IDLE if chance.random() < 0.5 else b""
    return Peer(path, begin + encode_frame(hostile.deep(chance.randrange(600, 5000), chance)))


def _curious(path: str, chance: random.Random) -> Peer:
    """Asks for more reports than anybody reads."""
    ask = encode_frame(encode(say.Status(id=1)))
    return Peer(path, IDLE + ask * 2000, listens=False)


def _cunning(path: str, chance: random.Random) -> Peer:
    """Asks for as much as it may without reading it, and stays."""
    ask = encode_frame(encode(say.Ping(id=1)))
    return Peer(
        path, IDLE + encode_frame(encode(say.Status(id=1))) * 500 + ask * 500, listens=False
    )


def _unfinished(path: str, chance: random.Random) -> Peer:
    """All of the largest frame but its last byte."""
    length = MAX_FRAME.to_bytes(LENGTH_BYTES, "big")
    return Peer(path, IDLE + length + bytes(MAX_FRAME - 1))


def _odd(path: str, chance: random.Random) -> Peer:
    begin = hostile.hello(chance, odd=chance.random() < 0.7)
    return Peer(path, begin + b"".join(hostile.words(chance) for _ in range(20)))


def _cut(path: str, chance: random.Random) -> Peer:
    told = hostile.hello(chance)
    return Peer(path, told[: chance.randrange(len(told))])


#: Each kind of peer, and what becomes of it: it is let go by itself, when it hangs up, or it may
#: stay for as long as it likes.
KINDS: dict[str, tuple[Make, str]] = {
    "silent": (_silent, "let go"),
    "trickling": (_trickling, "let go"),
    "huge": (_huge, "let go"),
    "deep": (_deep, "let go"),
    "curious": (_curious, "let go"),
    "odd": (_odd, "hangs up"),
    "cut": (_cut, "hangs up"),
    "deaf": (_deaf, "stays"),
    "cunning": (_cunning, "stays"),
    "unfinished": (_unfinished, "stays"),
}


def charge(besieged: Besieged, count: int, chance: random.Random) -> tuple[list[str], float]:
    """Have so many peers of all kinds come; return what was wrong, and the server's peak in MB.

    Ends when everybody was let go who had to be.
    """
    crowd: dict[str, list[Peer]] = {kind: [] for kind in KINDS}
    everybody = Crowd()
    peak = 0.0
    for number in range(count):
        kind = [*KINDS][number % len(KINDS)]
        peer = KINDS[kind][0](besieged.path, chance)
        crowd[kind].append(peer)
        everybody.add(peer)
        if number % 100 == 99:
            everybody.act(0)
            peak = max(peak, besieged.memory)
    due = [peer for kind in KINDS if KINDS[kind][1] != "stays" for peer in crowd[kind]]
    for peer in [
        peer for kind in KINDS if KINDS[kind][1] == "hangs up" for peer in crowd[kind]
    ]:
        everybody.finish(peer)
    deadline = time.monotonic() + PATIENCE
    while not all(peer.over for peer in due) and time.monotonic() < deadline:
        everybody.act(200)
        peak = max(peak, besieged.memory)
    wrong = [
        f"{left} of {len(crowd[kind])} {kind} were not let go"
        for kind, (_, fate) in KINDS.items()
        if fate != "stays" and (left := sum(not peer.over for peer in crowd[kind]))
    ]
    everybody.close()
    return wrong, peak


class Crowd:
    """Many peers, and one who looks what each may do."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._peers: dict[int, Peer] = {}
        self._finishing: set[Peer] = set()
        self._trickled = time.monotonic()

    def __len__(self) -> int:
        return sum(not peer.over for peer in self._peers.values())

    def add(self, peer: Peer) -> None:
        self._peers[peer.socket.fileno()] = peer
        self._poll.register(peer.socket, peer.events)

    def say(self, peer: Peer, data: bytes) -> None:
        """Have one say more."""
        peer.say(data)
        if not peer.over:
            self._poll.modify(peer.socket, peer.events)

    def finish(self, peer: Peer) -> None:
        """Have it hang up as soon as it has said everything."""
        self._finishing.add(peer)

    def act(self, milliseconds: int) -> None:
        """Do what can be done, after at most so long a wait."""
        for fd, events in self._poll.poll(milliseconds):
            peer = self._peers[fd]
            peer.act(events)
            if peer.over:
                self._poll.unregister(fd)
            else:
                self._poll.modify(fd, peer.events)
        for peer in [peer for peer in self._finishing if not peer.events & select.POLLOUT]:
            peer.hang_up()
            self._finishing.discard(peer)
        if time.monotonic() > self._trickled + 1:
            self._trickled = time.monotonic()
            for peer in self._peers.values():
                peer.trickle()

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()


def fill(besieged: Besieged, count: int) -> Crowd:
    """Have so many come who say hello and stay; return them when each has had its answer."""
    crowd, made = Crowd(), []
    for number in range(count):
        made.append(Peer(besieged.path, IDLE))
        crowd.add(made[-1])
        if number % 100 == 99:
            crowd.act(0)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(
        not peer.over and (peer.heard is None or peer.goodbye) for peer in made
    ):
        crowd.act(200)
    return crowd


def _limited(descriptors: int | None) -> dict[str, Callable[[], None]]:
    """Return the option that gives a program this limit."""
    if descriptors is None:
        return {}
    limit = (descriptors, descriptors)
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)}


def _limit_of(pid: int) -> int:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
