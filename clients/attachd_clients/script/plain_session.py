"""The blocking session: the same without Trio."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Unpack

from attachd.errors import AttachdError
from attachd.state.sizes import Size
from attachd_clients.blocking import attach_blocking
from attachd_clients.lines import STREAMS
from attachd_clients.places import Place
from attachd_clients.script import keys, options
from attachd_clients.script.buffer import LIMIT
from attachd_clients.script.match import Match
from attachd_clients.script.options import TIMEOUT_SECONDS, USUAL, AttachOptions, Timeout
from attachd_clients.script.patterns import Pattern, Patterns, compile_all
from attachd_clients.script.plain_driving import Driver
from attachd_clients.script.plans import GRACE_SECONDS
from attachd_clients.script.screen import Snapshot
from attachd_clients.signals import signal_number


@contextlib.contextmanager
def attach(
    container: str,
    *,
    root: str | None = None,
    since: str = "live",
    timeout: float | None = TIMEOUT_SECONDS,
    limit: int = LIMIT,
    streams: Iterable[str] = STREAMS,
    **attach_options: Unpack[AttachOptions],
) -> Iterator["Session"]:
    """Give a session with a container that is there; detach when the block is left.

    ``timeout`` is for whatever is not told another one, None waits for ever; ``limit`` is how
    many bytes of output are kept while nothing matches; ``streams`` are those that are looked
    at. The others, ``since`` among them, are those of `attachd_clients.attach_blocking`, and so
    are the errors; UsageError for a stream that there is not.
    """
    place = Place.find(container, root)
    wire = options.since_on_the_wire(since, place, attach_options)
    with attach_blocking(container, root=root, since=wire, **attach_options) as client:
        yield Session(client, since=since, timeout=timeout, limit=limit, streams=streams)


class Session(Driver):
    """A conversation with a container. Made by ``attach``, or over a client that is attached.

    One thread uses it at a time. Whatever is awaited raises ExpectEnded when the container, or
    its output, has ended before; nothing hangs beyond its timeout. After a failure
    output is not lost: the next expectation sees it.
    """

    # Output

    def expect(self, patterns: Patterns, timeout: Timeout = USUAL) -> Match:
        r"""Wait for the first of the patterns in the output; return the `Match`.

        Patterns are text, bytes, compiled ones (`re`, `regex`), EOF and EXIT, or several of
        them. Text and bytes are regular expressions as in `re`, but for ``$``: it matches before
        a line's end or at the end of all output, and is a dollar sign where it could never
        match, as in ``"$ "``. The earliest match wins; at one place the first pattern. What is
        there is matched: ``\d+`` may get the first digits of a number that is still coming.

        Raises ExpectTimeout, ExpectEnded; UsageError for what is no pattern.
        """
        __tracebackhide__ = True
        wanted, seconds = compile_all(patterns), self._seconds(timeout)
        return self._watched(self._plans.expect(wanted, seconds), seconds)

    def expect_exact(self, texts: Patterns, timeout: Timeout = USUAL) -> Match:
        """Wait for the first of several texts, or bytes, as they are; otherwise as ``expect``."""
        __tracebackhide__ = True
        wanted, seconds = compile_all(texts, exact=True), self._seconds(timeout)
        return self._watched(self._plans.expect(wanted, seconds), seconds)

    def expect_screen(self, pattern: Pattern, timeout: Timeout = USUAL) -> Snapshot:
        """Wait until the screen shows a text or pattern; return it as it was then.

        Rows are joined by newlines. The output is still there for ``expect``. Raises as
        ``expect``; UsageError where there is no terminal.
        """
        __tracebackhide__ = True
        engine, told = options.screen_pattern(pattern)
        seconds = self._seconds(timeout)
        return self._watched(self._plans.expect_screen(engine, told, seconds), seconds)

    def snapshot(self) -> Snapshot:
        """Return the screen with all that the container has said up to now.

        Raises UsageError where there is no terminal.
        """
        watcher = self._screen()
        newest = float("inf")
        with contextlib.suppress(AttachdError, TimeoutError):
            newest = self.client.ping(self.timeout)
        plan = self._plans.catch_up(lambda: self.client.offset >= newest)
        self._carry_out(plan, self.timeout)
        return watcher.snapshot()

    # stdin

    def send(self, data: str | bytes, timeout: Timeout = USUAL) -> None:
        """Send stdin; return when it was written to the container.

        Raises ExpectTimeout when the container does not read, ExpectEnded, SendRefused.
        """
        __tracebackhide__ = True
        sent = self._sent(data)
        self._asked(
            lambda left: self.client.send(sent, left), f"stdin of {len(sent)} bytes", timeout
        )

    def send_line(self, line: str | bytes = "", timeout: Timeout = USUAL) -> None:
        """Send a line with its newline, as ``send``."""
        __tracebackhide__ = True
        self.send(line + (b"\n" if isinstance(line, bytes) else "\n"), timeout)  # type: ignore[operator]

    def send_control(self, key: str, timeout: Timeout = USUAL) -> None:
        """Send what ctrl with a key types: ``c`` interrupts. Raises UsageError for a wrong key."""
        __tracebackhide__ = True
        self.send(keys.control(key), timeout)

    def send_eof(self, timeout: Timeout = USUAL) -> None:
        """End the container's stdin; at a terminal press ctrl-D, and go on as you like.

        Raises as ``send``.
        """
        __tracebackhide__ = True
        if self.terminal:
            return self.send(keys.CTRL_D, timeout)
        self._note("sent", "(end)")
        self._asked(self.client.send_eof, "the end of stdin", timeout)

    # Requests

    def resize(self, columns: int, rows: int, timeout: Timeout = USUAL) -> None:
        """Give the container's terminal a size. Raises SendRefused where it has none."""
        __tracebackhide__ = True
        size = Size(columns, rows)
        self._asked(lambda left: self.client.resize(size, left), f"the size {size}", timeout)
        self._carry_out(self._plans.take_size(size), GRACE_SECONDS)

    def signal(self, number: str | int, timeout: Timeout = USUAL) -> None:
        """Send a signal, by name or number, to the container's init. Raises UsageError."""
        __tracebackhide__ = True
        its = signal_number(number)
        self._note("signal", str(number))
        self._asked(lambda left: self.client.signal(its, left), f"signal {number}", timeout)

    # The end

    def wait(self, timeout: Timeout = USUAL) -> int:
        """Wait for the container's end; return its code, 128+n for a signal."""
        __tracebackhide__ = True
        return self.exit(timeout=timeout)

    def exit(self, *, send_eof: bool = False, timeout: Timeout = USUAL) -> int:
        """End stdin if that is wanted, and wait for the container's end; return its code.

        At a terminal ctrl-D is pressed again each second that nothing happens. Raises
        ExpectTimeout, SendRefused, and ExpectEnded when the container is gone without a record.
        """
        __tracebackhide__ = True
        seconds = self._seconds(timeout)
        return self._watched(self._plans.exit(seconds, send_eof=send_eof), seconds)
