"""What the keeper tells: the words of a header have changed, or a descriptor has come."""

import contextlib
import os

import trio

from attachd.keeper import parcels

#: When the keeper's answer does not come (it had no room for it), it is asked again.
ASK_SECONDS = 1.0


class News:
    """Wakes whoever waits for something in a header."""

    def __init__(self, bell: int, post: parcels.Post) -> None:
        self._bell = bell
        self._post = post
        self._lot = trio.lowlevel.ParkingLot()
        self._wanted: dict[str, int] = {}  #: what somebody waits for; -1 until it has come

    async def run(self) -> None:
        """Listen. Ends when cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._bell)
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            self._take_parcels()
            self.tell()

    async def wait(self) -> None:
        """Return after the next news, which may be about something else."""
        await self._lot.park()

    async def fetch(self, name: str) -> int:
        """Return a copy of what the keeper holds under a name, as soon as it has come."""
        self._wanted[name] = -1
        try:
            while self._wanted[name] < 0:
                self._post.send("want", name)
                with trio.move_on_after(ASK_SECONDS):
                    while self._wanted[name] < 0:
                        await self.wait()
            self._post.kept[name] = self._wanted[name]
            return self._wanted[name]
        finally:
            del self._wanted[name]

    def tell(self) -> None:
        """Wake everybody: something was changed by ourselves."""
        self._lot.unpark_all()

    def _take_parcels(self) -> None:
        for parcel in parcels.receive(self._post.fd) if self._post.fd >= 0 else ():
            if self._wanted.get(parcel.name) == -1:
                self._wanted[parcel.name] = parcel.fd
            elif parcel.fd >= 0:
                os.close(parcel.fd)  # it was asked for twice, or by a server before us
