"""What the keeper tells: the words of a header have changed, or a descriptor has come."""

import contextlib
import os

import trio

from attachd.keeper import parcels


class News:
    """Wakes whoever waits for something in a header."""

    def __init__(self, bell: int, post: int) -> None:
        self._bell = bell
        self._post = post
        self._lot = trio.lowlevel.ParkingLot()
        self.come: dict[str, int] = {}  #: what the keeper has sent and nobody has taken

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

    def tell(self) -> None:
        """Wake everybody: something was changed by ourselves."""
        self._lot.unpark_all()

    def _take_parcels(self) -> None:
        for parcel in parcels.receive(self._post) if self._post >= 0 else ():
            if parcel.fd >= 0:
                before = self.come.pop(parcel.name, -1)
                if before >= 0:
                    os.close(before)
                self.come[parcel.name] = parcel.fd
