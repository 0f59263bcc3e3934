"""conman as birth's caller (`keeper.caller`): its sync pipe, its pid file, its attach file."""

import os

from attachd.doors import places
from attachd.doors.shimmy.formats import report_of_error, report_of_pid
from attachd.doors.ways import ATTACH, PLACES
from attachd.errors import AttachdError, UsageError
from attachd.keeper import descriptors, files
from attachd.keeper.caller import Early, Ways
from attachd.state.sizes import Size


class Manager:
    """`keeper.caller.Caller` for one call. Paths are absolute."""

    inherited: tuple[int, ...] = ()
    held: tuple[int, ...] = ()
    looks_on = True

    def __init__(self, syncpipe: int, pid_file: str, attach_file: str, exit_file: str) -> None:
        """Raises UsageError when ``syncpipe`` is not open."""
        try:
            os.set_inheritable(syncpipe, False)
        except (OSError, OverflowError):
            raise UsageError(f"the sync pipe {syncpipe} is not an open descriptor") from None
        self.fd = syncpipe
        self._pid_file = pid_file
        self._attach_file = attach_file
        self._exit_file = exit_file

    def prepare(self) -> Ways:
        """Make the attach file. Raises UsageError, also when something is there already.

        The exit file is made when it is too late to tell: so its directory has to be there now.
        """
        if not os.path.isdir(os.path.dirname(self._exit_file)):
            raise UsageError(f"the directory of the exit file {self._exit_file} is not there")
        place, name = os.path.split(self._attach_file)
        try:
            directory = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                listener = descriptors.make_listener(directory, name)
            finally:
                os.close(directory)
        except OSError as error:
            raise UsageError(
                f"cannot make the attach file {self._attach_file}: {error.strerror}"
            ) from None
        return Ways({ATTACH: listener, PLACES: places.make()}, (self._attach_file,))

    def note_keeper(self, pid: int) -> None:
        """Write the shim's pid. It stays there when the creation fails, as with shimmy."""
        files.write_number(self._pid_file, pid)

    def begin(self) -> Size | None:
        """At once."""
        return None

    def watch(self, terminal: int) -> Early | None:
        """It says nothing."""
        return None

    def created(self, pid: int) -> None:
        """Report the pid: from now on who attaches is heard."""
        self._report(report_of_pid(pid))

    def failed(self, error: AttachdError, environment: dict[str, str]) -> None:
        """Report why there is no container."""
        self._report(report_of_error(error))

    def _report(self, report: bytes) -> None:
        """Write it all and close: conman reads to the end, unless it has gone."""
        try:
            os.set_blocking(self.fd, True)
            files.write_all(self.fd, report)
        except OSError:
            pass
        os.close(self.fd)
