"""From checked options to a container under a shim."""

from attachd.doors.conmon.drivers import Driver
from attachd.doors.conmon.options import Options
from attachd.errors import ConmonError


def launch(options: Options, drivers: tuple[Driver, ...]) -> int:
    """Return this process's exit code; raises ConmonError."""
    raise ConmonError(f"[conmon:e]: cannot launch {options.cid} with {drivers} yet")
