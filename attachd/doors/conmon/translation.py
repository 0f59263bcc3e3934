"""conmon's command line as a Config: what each option means in our words."""

import os

from attachd.doors.conmon.drivers import JOURNALD, K8S_FILE, PASSTHROUGH, Driver
from attachd.doors.conmon.ends import NOTIFY
from attachd.doors.conmon.options import Options
from attachd.doors.conmon.wishes import Wishes
from attachd.errors import AttachdError
from attachd.ground import state_root
from attachd.keeper.claim import is_id
from attachd.keeper.config import Config, Door, LogCare, LogSpec
from attachd.state import journal
from attachd.state.eofpolicy import ANY, NEVER
from attachd.state.journal import Journal

#: As long as Podman itself waits (libpod, ContainerCreateTimeout).
CREATE_SECONDS = 240.0

#: Execs are shims of their own, and no containers that anybody lists: they have their own root.
EXECS = ".execs"

#: How many files of a log are kept beside the current one; without it all of them, so that a
#: size maximum loses no line. Podman passes no such number, but variables (``conmon_env_vars``).
MAX_FILES = "ATTACHD_LOG_MAX_FILES"

#: More digits than a count of files has.
_COUNT_DIGITS = 9


def bundle_of(options: Options) -> str:
    """Return the absolute bundle, where FIFOs and attach socket are; "" when there are none."""
    if not options.bundle and options.exec:
        return ""
    return os.path.abspath(options.bundle or ".")


def config_of(options: Options, drivers: tuple[Driver, ...]) -> Config:
    """Return the Config that the options ask for."""
    cid = options.cid or ""
    passthrough = any(driver.driver == PASSTHROUGH for driver in drivers)
    pids = options.container_pidfile or f"pidfile-{cid}"
    return Config(
        id=_id(options),
        root=os.path.join(state_root(), EXECS) if options.exec else state_root(),
        bundle=bundle_of(options) or "/",
        runtime=options.runtime,
        runtime_args=_runtime_args(options),
        logs=_logs(drivers),
        log_care=_log_care(options),
        journal=Journal(
            tag=options.log_tag,
            name=options.name,
            labels=options.log_label,
            partial=not options.no_container_partial_message,
        ),
        pid_file=os.path.abspath(pids),
        keeper_pid_file=_keeper_pid_file(options),
        outlives=False,
        stdin=(options.stdin or options.terminal) and not passthrough,
        stdin_eof=NEVER if options.leave_stdin_open else ANY,
        timeout=float(options.timeout) if options.timeout > 0 else None,
        exit_command=options.exit_command,
        exit_command_args=options.exit_command_arg,
        drain_timeout=0.0,
        linger=0.0,
        create_timeout=CREATE_SECONDS,
        terminal=options.terminal,
        door=Door(
            kind="conmon",
            name=options.name,
            exec_of=cid if options.exec else "",
            process=os.path.abspath(options.exec_process_spec) if options.exec else "",
            restore=os.path.abspath(options.restore) if options.restore else "",
            options=_verb_options(options),
            own_log=False,
            passthrough=passthrough,
            listens=listens(options),
            passes_environment=True,
            wishes=_wishes(options)._asdict(),
        ),
    )


def _id(options: Options) -> str:
    """Return what the shim is called among ours: the container's id, or the exec's."""
    cid = options.cid or ""
    own = options.cuuid or f"{cid[:64]}-{os.urandom(8).hex()}"
    wanted = own if options.exec else cid
    if is_id(wanted):
        return wanted
    import hashlib  # rarely needed, and slow to load

    return hashlib.sha256(os.fsencode(wanted)).hexdigest()


def _keeper_pid_file(options: Options) -> str:
    """Return where our own pid goes; with ``--sync`` it is that of the process that was called."""
    wanted = options.conmon_pidfile and not options.sync
    return os.path.abspath(options.conmon_pidfile) if wanted else ""


def _runtime_args(options: Options) -> tuple[str, ...]:
    """Return what stands before each of the runtime's verbs."""
    systemd = options.systemd_cgroup and not options.exec
    return (*(("--systemd-cgroup",) if systemd else ()), *options.runtime_arg)


def _verb_options(options: Options) -> tuple[str, ...]:
    given = list[str]()
    if not options.exec:
        given += ["--no-pivot"] if options.no_pivot else []
        given += ["--no-new-keyring"] if options.no_new_keyring else []
    return (*given, *options.runtime_opt)


def _logs(drivers: tuple[Driver, ...]) -> tuple[LogSpec, ...]:
    found = list[LogSpec]()
    for driver in drivers:
        if driver.driver == K8S_FILE:
            found.append(LogSpec("cri", os.path.abspath(driver.path)))
        elif driver.driver == JOURNALD:
            found.append(LogSpec(journal.FORMAT, journal.SOCKET))
    return tuple(found)


def _log_care(options: Options) -> LogCare:
    return LogCare(
        max_size=max(0, options.log_size_max),
        max_files=options.log_max_files if options.log_rotate else _max_files(),
        max_ever=max(0, options.log_global_size_max),
        cuts=True,
    )


def _max_files() -> int:
    """Return how many rotated files are kept; 0 for all. Raises AttachdError."""
    told = os.environ.get(MAX_FILES, "")
    if not told:
        return 0
    if not (told.isascii() and told.isdigit() and len(told) <= _COUNT_DIGITS):
        raise AttachdError(
            f"{MAX_FILES} is {told!r:.40}: it must be how many rotated files to keep, 0 for all"
        )
    return int(told)


def listens(options: Options) -> bool:
    """Return whether LISTEN_PID is to name the runtime: it names us, or names whom it likes.

    Raises AttachdError when it names nobody.
    """
    told = os.environ.get("LISTEN_PID", "")
    if not told:
        return False
    if not (told.isascii() and told.isdigit() and int(told) > 0):
        raise AttachdError(f"LISTEN_PID is {told!r:.40}, and no pid")
    return options.replace_listen_pid or int(told) == os.getpid()


def _wishes(options: Options) -> Wishes:
    bundle, cid = bundle_of(options), options.cid or ""
    exits = [os.path.join(options.persist_dir, "exit")] if options.persist_dir else []
    exits += [os.path.join(options.exit_dir, cid)] if options.exit_dir else []
    places = [place for place in (options.persist_dir, bundle) if place and not options.exec]
    sockets = [os.path.join(bundle, "attach")] if bundle else []
    sockets += [os.path.join(bundle, "notify", NOTIFY)] if options.sdnotify_socket else []
    link = link_of(options)
    key = "data" if options.api_version else "exit_code"
    return Wishes(
        exit_files=tuple(map(os.path.abspath, exits)),
        oom_directories=tuple(map(os.path.abspath, places)),
        sockets=(*sockets, *([link] if link else [])),
        exit_key=key if options.exec else "",
        notify=options.sdnotify_socket,
        exit_delay=float(options.exit_delay),
        log_level=options.log_level,
        syslog=options.syslog,
        syncs_logs=not options.no_sync_log,
        closes_stdin=options.stdin and not options.terminal and not options.leave_stdin_open,
    )


def link_of(options: Options) -> str:
    """Return where a link to the bundle is wanted, so that the socket has a short path; or ""."""
    if options.full_attach or not bundle_of(options) or not options.cuuid:
        return ""
    return os.path.abspath(os.path.join(options.socket_dir_path, options.cuuid))
