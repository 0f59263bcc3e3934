"""Echo: from a key that is sent to a shim's socket to its echo, in a container with a terminal.

Both shims sit between us and the same ``cat``; attachd is spoken to with its own library,
Python too, whose time counts. One key here, one key there; before each all are left until
nothing comes any more, as by a person who types: a shim is idle then and has to be woken.

Two more take turns with them, to show what cannot be gone below: the terminal alone, a
pseudoterminal in this process, whose echo the kernel makes; and a Unix socket to a Trio program
that sends back what it reads, which is attachd's way without attachd.
"""

import contextlib
import os
import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from attachd.wire import messages as say
from attachd.wire.session import VERSION, Pause, Role, Session, State
from benchmarks.place import PYTHON, STEP_SECONDS, WATCHES, Failed, Place, attachd, conmon

HEADER = (
    "a key to its echo, from idle",
    "median",
    "attachd to it",
    "99th percentile",
    "attachd to it",
)

#: Keys of each. The kernel takes 4095 of them before it wants a newline (termios(3)).
SAMPLES = 2000
QUICK_SAMPLES = 300
WARM_UP = 200

#: Who has said nothing for so long is idle. With a tenth of it all figures are about half as
#: large, since caches are warm then, with ten times it larger; the ratios stay near.
QUIET_SECONDS = 0.002

KEY = b"x"
READ_BYTES = 65536

TRIO_ECHO = """
import socket, sys, trio
async def main():
    peer = trio.socket.from_stdlib_socket(socket.socket(fileno=int(sys.argv[1])))
    while data := await peer.recv(65536):
        await peer.send(data)
trio.run(main)
"""


class Line:
    """A descriptor that takes a key as it is, and gives its echo as it is."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd

    def press(self) -> None:
        """Send one key."""
        os.write(self.fd, KEY)

    def hear(self) -> bool:
        """Read once; return whether an echo was among it."""
        return KEY in self._read()

    def _read(self) -> bytes:
        data = os.read(self.fd, READ_BYTES)
        if not data:
            raise Failed(f"{self.name} has hung up")
        return data


class Spoken(Line):
    """The same in attachd's protocol."""

    def __init__(self, name: str, fd: int) -> None:
        super().__init__(name, fd)
        self._session = Session(Role.CLIENT)
        self._pressed = 0
        hello = say.Hello(version=VERSION, credit=1 << 40, key=os.urandom(16))
        os.write(fd, self._session.send(hello))
        while self._session.state is not State.ATTACHED:
            self.hear()

    def press(self) -> None:
        """Send one key."""
        os.write(self.fd, self._session.send(say.Stdin(offset=self._pressed, data=KEY)))
        self._pressed += 1

    def hear(self) -> bool:
        """Read once; return whether an echo was among it. The rest is acknowledgements."""
        heard = False
        self._session.receive_data(self._read())
        while not isinstance(message := self._session.next_message(), Pause):
            heard |= isinstance(message, say.Output)
        return heard


def rows(place: Place, quick: bool) -> Iterator[tuple[str, ...]]:
    """Measure; yield one row for each line."""
    samples = QUICK_SAMPLES if quick else SAMPLES
    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(line) for line in _lines(place)]
        taken = echo_seconds(lines, samples)
    ours = _figures(taken[lines[0].name])
    for name, times in taken.items():
        median, high = _figures(times)
        yield (
            f"{name}, {samples} keys",
            f"{median * 1e6:.0f} µs",
            f"{ours[0] / median:.2f}",
            f"{high * 1e6:.0f} µs",
            f"{ours[1] / high:.2f}",
        )


def echo_seconds(lines: Sequence[Line], samples: int) -> dict[str, list[float]]:
    """Return each line's seconds from key to echo; the first WARM_UP rounds do not count."""
    taken: dict[str, list[float]] = {line.name: [] for line in lines}
    for number in range(WARM_UP + samples):
        for line in lines:
            _wait_idle(lines)
            seconds = _time_key(line)
            if number >= WARM_UP:
                taken[line.name].append(seconds)
    return taken


def _figures(times: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def _time_key(line: Line) -> float:
    begun = time.perf_counter()
    line.press()
    heard = False
    while not heard:
        if not select.select([line.fd], [], [], STEP_SECONDS)[0]:
            raise Failed(f"{line.name}: no echo after {STEP_SECONDS:g} seconds")
        heard = line.hear()
    return time.perf_counter() - begun


def _wait_idle(lines: Sequence[Line]) -> None:
    """Read what still comes, until nothing has come for a while."""
    by_fd = {line.fd: line for line in lines}
    while ready := select.select(list(by_fd), [], [], QUIET_SECONDS)[0]:
        for fd in ready:
            by_fd[fd].hear()


# The lines; each is taken down when it is left


def _lines(place: Place) -> list[contextlib.AbstractContextManager[Line]]:
    bundle = place.bundle("echo", "cat", terminal=True)
    return [
        _attachd_line(place, bundle),
        _conmon_line(place, bundle),
        _terminal_line(),
        _trio_line(),
    ]


@contextlib.contextmanager
def _attachd_line(place: Place, bundle: Path) -> Iterator[Line]:
    container = place.name()
    end = attachd(place, container, bundle, place.logs / "echo-attachd.log", "--stdin")
    WATCHES["attachd"](place, container)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(end.parent / "attach.sock"))
        yield Spoken("attachd", peer.fileno())
    place.delete(container)


@contextlib.contextmanager
def _conmon_line(place: Place, bundle: Path) -> Iterator[Line]:
    container = place.name()
    conmon(place, container, bundle, place.logs / "echo-conmon.log", "--terminal", "--stdin")
    WATCHES["conmon"](place, container)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(bundle / "attach"))
        yield Line("conmon", peer.fileno())
    place.delete(container)


@contextlib.contextmanager
def _terminal_line() -> Iterator[Line]:
    master, slave = os.openpty()
    try:
        yield Line("the terminal alone", master)
    finally:
        os.close(master)
        os.close(slave)


@contextlib.contextmanager
def _trio_line() -> Iterator[Line]:
    """The child ends when our end of the socket is closed, however that comes."""
    ours, theirs = socket.socketpair()
    argv = [PYTHON, "-c", TRIO_ECHO, str(theirs.fileno())]
    with theirs:
        child = subprocess.Popen(argv, pass_fds=[theirs.fileno()])
    try:
        with ours:
            yield Line("a Trio echo over a socket", ours.fileno())
    finally:
        child.wait(STEP_SECONDS)
