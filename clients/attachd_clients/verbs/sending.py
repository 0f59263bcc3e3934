"""``attachctl send``: text, our stdin, or the end of it, into a container's stdin."""

import argparse
import os
import signal
import sys
from collections.abc import AsyncIterator

import attrs
import trio

from attachd.errors import AttachdError, UsageError
from attachd_clients.aio import Client, attach, unwrapped
from attachd_clients.arguments import warn_of_trouble
from attachd_clients.places import Place
from attachd_clients.sending import Sending
from attachd_clients.verbs import Add

_ABOUT = (
    "Write into a container's stdin: TEXT and a newline, as echo does, or with - our own stdin as"
    " it is. At a terminal the newline is the Enter key. Ends with 0 only when every byte was"
    " written to the container (for --eof: and its end was taken), with 130 after ctrl-C, and"
    " otherwise with 125 and one line that tells how many bytes were written."
)

_OUR_STDIN = "-"


def add(verb: Add) -> None:
    """Add this verb."""
    send = verb("send", _send, "write into a container's stdin, or end it")
    send.description, send.mixed = _ABOUT, True
    send.add_argument("id")
    send.add_argument("text", metavar="TEXT", nargs="?",
        help="what is sent; - or, where our stdin is no terminal, nothing: our stdin")  # fmt: skip
    send.add_argument("-n", "--no-newline", action="store_true", help="send TEXT as it is")
    send.add_argument("--eof", action="store_true",
        help="close the container's stdin afterwards; without TEXT: do only this")  # fmt: skip
    send.add_argument("--timeout", metavar="SECONDS", type=float,
        help="give up when not all was written in this time")  # fmt: skip


def _send(wish: argparse.Namespace) -> int:
    if wish.text is None and not wish.eof and os.isatty(0):
        raise UsageError("nothing to send: give TEXT, - for our stdin, or --eof")
    if wish.no_newline and wish.text in (None, _OUR_STDIN):
        raise UsageError("--no-newline is for TEXT")
    if wish.timeout is not None and not 0 < wish.timeout < float("inf"):
        raise UsageError(f"--timeout {wish.timeout:g} is not a positive number of seconds")
    place = Place.find(wish.id, wish.root)
    warn_of_trouble("attachctl", place)
    job = _Job(place, wish)
    return trio.run(job.run)


@attrs.define(eq=False)
class _Job:
    """One call of the verb."""

    _place: Place
    _wish: argparse.Namespace
    _sending: Sending | None = None
    _interrupted: bool = False

    async def run(self) -> int:
        """Return the exit code. Raises UsageError when not everything was written."""
        limit = float("inf") if self._wish.timeout is None else self._wish.timeout
        with trio.open_signal_receiver(signal.SIGINT) as signals:
            async with unwrapped(), trio.open_nursery() as nursery:
                nursery.start_soon(self._heed, signals, nursery.cancel_scope)
                with trio.move_on_after(limit) as patience:
                    await self._deliver()
                nursery.cancel_scope.cancel()
        if self._interrupted:
            print(f"attachctl: {self._told('interrupted')}", file=sys.stderr)
            return 128 + signal.SIGINT
        if patience.cancelled_caught:
            raise UsageError(self._told(f"not all was written in {limit:g} seconds"))
        return 0

    async def _heed(self, signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
        """End the job on ctrl-C. Ends by that, or when cancelled."""
        async for _ in signals:
            self._interrupted = True
            scope.cancel()
            return

    async def _deliver(self) -> None:
        place = self._place
        async with attach(
            place.id, root=place.root, since="none", name="attachctl send"
        ) as client:
            self._check_open(client)
            self._sending = Sending(client)
            try:
                await self._deliver_to(client, self._sending)
            except AttachdError as error:
                raise UsageError(self._told(str(error))) from None

    async def _deliver_to(self, client: Client, sending: Sending) -> None:
        text, eof = self._wish.text, self._wish.eof
        if text == _OUR_STDIN or (text is None and not eof):
            await sending.copy(0)
        elif text is not None:
            await sending.send(os.fsencode(text) + self._newline(client))
        if eof:
            await client.send_eof()

    def _newline(self, client: Client) -> bytes:
        if self._wish.no_newline:
            return b""
        return b"\r" if client.welcome and client.welcome.terminal else b"\n"

    def _check_open(self, client: Client) -> None:
        if client.welcome is None:
            raise UsageError(f"{self._place.id} has ended")
        if client.welcome.stdin == "closed":
            raise UsageError(f"{self._place.id}: the container's stdin is closed")

    def _told(self, what: str) -> str:
        done = self._sending.told if self._sending else "nothing was sent"
        return f"{self._place.id}: {what}; {done}"
