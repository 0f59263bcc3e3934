"""Who may write, and whose terminal's size counts: what clients share and may quarrel over."""

from collections import Counter
from typing import Protocol

import trio

from attachd.errors import Denied, Refused
from attachd.state.header import Pair
from attachd.state.lease import Lease
from attachd.state.sizes import Size, SizePolicy
from attachd.wire import messages as say

#: The holder of the lease is back at once after the server was restarted, or has gone, too.
GRACE_SECONDS = 5.0

#: Who comes back after a restart does so within moments; until then the size stays.
RETURN_SECONDS = 1.0

_HALF = 8  #: a key is two words


class Client(Protocol):
    """What is asked of a connection."""

    key: bytes
    robbed: bool  #: its lease was stolen: a viewer until it gets it again

    @property
    def name(self) -> str:
        """For people."""

    @property
    def role(self) -> str:
        """``full`` or ``viewer``, as it asked for."""

    def tell(self, message: say.Message) -> None:
        """Queue a message."""


class Screen(Protocol):
    """What is asked of the container's terminal."""

    @property
    def size(self) -> Size:
        """The size as it is."""

    def resize(self, size: Size) -> None:
        """Change it, and let everybody know."""


class Writers:
    """The clients that have said hello, the lease, and the size policy."""

    def __init__(
        self, lease: Pair, latest: Pair, screen: Screen | None, policy: str, *, again: bool
    ) -> None:
        self._lease_pair, self._latest_pair = lease, latest
        self._lease = Lease(_key_of(lease))
        self._screen = screen
        self._sizes = SizePolicy(policy, _key_of(latest))
        self._gathering = again  #: a server before us has died: its clients are on their way
        self._clients: dict[Client, None] = {}  #: in the order of their coming
        self._connections: Counter[bytes] = Counter()  #: of each key
        self._asked: dict[bytes, int] = {}  #: key -> the request that waits for the lease

    @property
    def holder(self) -> str:
        """The name of the only one who may write; empty when everybody may."""
        if not self._lease.holder:
            return ""
        name = next((c.name for c in self._clients if c.key == self._lease.holder), "")
        return name or "another client"

    def allows(self, client: Client) -> bool:
        """Return whether ``client`` may write now."""
        full = client.role == "full" and not client.robbed
        return full and self._lease.allows(client.key)

    def holds(self, client: Client) -> bool:
        """Return whether ``client`` is the only one who may write."""
        return self.allows(client) and self._lease.holder == client.key

    def enter(self, client: Client, size: Size, *, resumed: bool = False) -> None:
        """A client has come, or was cut off, with a terminal of this size if that is usable."""
        self._clients[client] = None
        self._connections[client.key] += 1
        if client.role != "full":
            return  # a viewer's terminal does not count
        if size.usable and resumed:
            self._sizes.resume(client.key, size)
            if not self._gathering:
                self._apply_policy()
        elif size.usable:
            self.resized(client, size)

    def leave(self, client: Client) -> None:
        """A client has gone: its lease and its wish for a size go with it."""
        if client in self._clients:
            del self._clients[client]
            self._connections[client.key] -= 1
            if not self._connections[client.key]:
                del self._connections[client.key]  # no search: thousands may leave at once
                self._sizes.leave(client.key)
                self._free(client.key)
            if client.role == "full":
                self._apply_policy()

    async def gather(self) -> None:
        """After a restart, wait for those who come back; then return.

        The size is decided again, and a lease freed whose holder has not come. The first server
        has nobody to wait for, and returns at once.
        """
        if not self._gathering:
            return
        holder = self._lease.holder
        await trio.sleep(RETURN_SECONDS)
        self._gathering = False
        self._apply_policy()
        if holder:
            await trio.sleep(GRACE_SECONDS - RETURN_SECONDS)
            if holder not in self._connections:
                self._free(holder)

    # The lease

    def request(self, client: Client, number: int, mode: str) -> None:
        """Do what a lease message asks, and answer it; raises Denied or Refused."""
        if client.role != "full":
            raise Denied("a viewer may only look")
        if mode == "take":
            self._take(client)
        elif mode == "steal":
            self._steal(client)
        elif mode == "free":
            self._free(client.key)
        elif mode != "wait":
            raise Refused("bad_request", f"{mode!r:.40} is none of take, wait, steal, free")
        elif not self._wait(client, number):
            return
        client.tell(say.Done(id=number))

    def _take(self, client: Client) -> None:
        if not self._lease.allows(client.key):
            raise Refused("leased", f"{self.holder} is the only one who may write")
        self._lease.take(client.key)
        self._won(client)

    def _steal(self, client: Client) -> None:
        loser = self._lease.steal(client.key)
        for other in self._clients:
            other.robbed |= bool(loser) and other.key == loser
        self._won(client)

    def _wait(self, client: Client, number: int) -> bool:
        """Return whether it is this client's turn; otherwise the answer comes when it is."""
        self._give_up(client.key)
        if not self._lease.wait(client.key):
            self._asked[client.key] = number
            return False
        self._won(client)
        return True

    def _won(self, client: Client) -> None:
        client.robbed = False
        self._answer(client.key)
        self._changed()

    def _answer(self, key: bytes, refusal: str = "") -> None:
        """Answer the request of ``key`` that waits, if there is one."""
        number = self._asked.pop(key, 0)
        if not number:
            return
        refused = say.Error(id=number, code="leased", text=refusal)
        for client in self._clients:
            if client.key == key:
                client.tell(refused if refusal else say.Done(id=number))

    def _give_up(self, key: bytes) -> None:
        self._answer(key, "you no longer wait for that")

    def _free(self, key: bytes) -> None:
        before = self._lease.holder
        following = self._lease.free(key)
        self._give_up(key)
        if self._lease.holder != before:
            for client in self._clients:
                client.robbed &= client.key != following
            self._answer(following)
            self._changed()

    def _changed(self) -> None:
        """Note whose it is for a successor, and tell everybody."""
        _store(self._lease_pair, self._lease.holder)
        for client in self._clients:
            client.tell(say.Writer(name=self.holder, you=self.allows(client)))
        self._apply_policy()

    # Sizes

    def resized(self, client: Client, size: Size) -> None:
        """A client's own terminal has this size now. Raises Refused for a size that is none."""
        if not size.usable:
            raise Refused("bad_request", f"a terminal of {size} is none")
        self._sizes.wish(client.key, size)
        _store(self._latest_pair, client.key)
        self._apply_policy()

    def typed(self, client: Client) -> None:
        """A client has typed."""
        if self._sizes.touch(client.key):
            _store(self._latest_pair, client.key)
            self._apply_policy()

    def resize(self, size: Size) -> None:
        """Set the size, whatever the policy; it holds until the policy is applied again.

        Raises Refused.
        """
        if self._screen is None:
            raise Refused("no_terminal", "this container has no terminal")
        if not size.usable:
            raise Refused("bad_request", f"a terminal of {size} is none")
        self._screen.resize(size)

    def _apply_policy(self) -> None:
        if self._screen is not None:
            current = self._screen.size
            wanted = self._sizes.choose(current, self._counting())
            if wanted != current:
                self._screen.resize(wanted)

    def _counting(self) -> set[bytes]:
        return {client.key for client in self._clients if self.allows(client)}


def _store(pair: Pair, key: bytes) -> None:
    key = key.rjust(2 * _HALF, b"\0")
    pair.store(int.from_bytes(key[:_HALF], "big"), int.from_bytes(key[_HALF:], "big"))


def _key_of(pair: Pair) -> bytes:
    high, low = pair.read()
    return high.to_bytes(_HALF, "big") + low.to_bytes(_HALF, "big") if high or low else b""
