"""What must hold before anything is made, in conmon's order and with conmon's texts.

The first thing that is wrong is the one that is told, so the order is part of the contract.
Files are not opened here; the log, which conmon opens after these, is the launcher's.
"""

import os
from typing import NamedTuple

from attachd.doors.conmon.drivers import JOURNALD, Driver, check_fields, parse_drivers
from attachd.doors.conmon.options import Options
from attachd.errors import ConmonError

#: conmon's levels and the names that logrus, and so Podman and CRI-O, has for them.
LEVELS = {
    "error": "error",
    "fatal": "error",
    "panic": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "trace",
}


class Checked(NamedTuple):
    """A command line that can be obeyed."""

    #: With bundle (not of an exec) and container_pidfile filled in, and a level of conmon's own.
    options: Options
    drivers: tuple[Driver, ...]
    warnings: tuple[str, ...]  #: whole lines for stderr; none when the level is "error"


def check(options: Options) -> Checked:
    """Return the options with their defaults, and the logs; raises ConmonError.

    Reads the current directory and whether the runtime may be executed, and nothing else.
    """
    _check_before_level(options)
    level = LEVELS.get(options.log_level.lower())
    if level is None:
        raise _error(f"No such log level {options.log_level}")
    _check_kind(options)
    _check_runtime(options.runtime)
    options = _with_defaults(options._replace(log_level=level))
    if options.exec and not options.exec_process_spec:
        raise _error("Exec process spec path not provided. Use --exec-process-spec")
    if options.exit_delay < 0:
        raise _error("Delay before invoking exit command must be greater than or equal to 0")
    drivers = parse_drivers(options.log_path)
    check_fields(drivers, options.cid or "", options.log_tag, options.log_label)
    return Checked(options, drivers, _warnings(options, drivers))


def _check_before_level(options: Options) -> None:
    """Refuse what conmon finds before it has a log of its own; hence the other prefix."""
    if options.log_max_files < 0:
        raise ConmonError("conmon: log-max-files must be non-negative")
    if options.log_rotate and options.log_max_files < 1:
        raise ConmonError(
            "conmon: log-max-files must be at least 1 when log-rotate is enabled"
        )
    if options.cid is None:
        raise ConmonError("conmon: Container ID not provided. Use --cid")


def _check_kind(options: Options) -> None:
    """Refuse what is neither a creation, a restoration, an exec, nor an exec of old."""
    if options.exec and options.restore:
        raise _error("Cannot use 'exec' and 'restore' at the same time")
    if options.exec_attach and not options.exec:
        raise _error("Attach can only be specified with exec")
    if options.exec_attach and not options.api_version:
        raise _error("Attach can only be specified for a non-legacy exec session")
    legacy_exec = options.exec and not options.api_version
    if options.cuuid is None and not legacy_exec:
        raise _error("Container UUID not provided. Use --cuuid")


def _check_runtime(runtime: str) -> None:
    """Refuse a runtime that cannot be executed; as in conmon, a directory passes."""
    if not runtime:
        raise _error("Runtime path not provided. Use --runtime")
    if not os.access(runtime, os.X_OK):
        raise _error(f"Runtime path {runtime} is not valid {_why(runtime)}")


def _why(path: str) -> str:
    """Return in the system's words why access(2) says no; Python's access keeps it to itself."""
    try:
        os.stat(path)
    except OSError as error:
        return os.strerror(error.errno or 0)
    return "Permission denied"


def _with_defaults(options: Options) -> Options:
    """Return the options with the bundle and the pid file that the current directory gives."""
    wants_bundle = not (options.bundle or options.exec)
    if not wants_bundle and options.container_pidfile:
        return options
    try:
        here = os.getcwd()
    except OSError:
        raise _error("Failed to get working directory") from None
    return options._replace(
        bundle=here if wants_bundle else options.bundle,
        container_pidfile=options.container_pidfile or f"{here}/pidfile-{options.cid}",
    )


def _warnings(options: Options, drivers: tuple[Driver, ...]) -> tuple[str, ...]:
    journald = any(driver.driver == JOURNALD for driver in drivers)
    if options.log_level == "error" or journald or not options.no_container_partial_message:
        return ()
    return (
        "[conmon:w]: --no-container-partial-message has no effect without journald log driver",
    )


def _error(text: str) -> ConmonError:
    return ConmonError(f"[conmon:e]: {text}")
