"""``attachd``: argv to Config, exceptions to exit codes. The only writer to stderr.

Exit codes: 0; 125 attachd's own failure; 126 and 127 as shells use them, when the container's
program cannot be executed or is not there; with ``--attach`` otherwise the container's own code.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from attachd import __version__
from attachd.errors import AttachdError, RuntimeFailed, UsageError
from attachd.ground import default_root, open_standard_descriptors
from attachd.keeper.config import MAX_RING, MIN_RING, Config, LogCare, LogSpec
from attachd.state import eofpolicy, journal
from attachd.state.quantities import parse_bytes, parse_seconds
from attachd.state.rights import Policy
from attachd.state.sizes import DEFAULT_POLICY, POLICIES, Size, parse_size

if TYPE_CHECKING:
    import argparse

FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

LOG_FORMATS = ("cri", "json-file", "raw", "asciicast", "journald", "none")
COMPRESSIONS = ("gzip", "zstd")

_PAGE = 4096

#: The one after it means "no id" (chown(2)).
MAX_ID = (1 << 32) - 2


def main() -> NoReturn:
    """Run ``attachd`` with the arguments of this process; never returns."""
    words = sys.argv[1:]
    if words in (["--version"], ["-V"]):
        print(f"attachd {__version__}")
        sys.exit(0)
    open_standard_descriptors()
    os.umask(0o022)  # a caller's own must neither open nor close what we make for containers
    # A caller may ignore it, and the kernel would then keep our children's status from us.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sync_fd: int | None = None
    try:
        wish, command = _parse(words)
        if wish.verb == "spec":
            code = _spec(wish, command)
        elif wish.verb == "recover":
            code = _recover(os.path.abspath(wish.root), wish.id)
        elif wish.verb == "start":
            _hand_over("ctl", ["--root", wish.root, "start", wish.id])
        else:
            config = _config(wish, command)
            sync_fd = config.sync_fd
            code = _create(config, wish)
    except (UsageError, RuntimeFailed, AttachdError) as error:
        code = _tell(error, sync_fd)
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End without taking the interpreter apart, which costs a tenth of a whole creation."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def _tell(error: AttachdError, sync_fd: int | None) -> int:
    """Say in one line what went wrong, here and on the sync pipe; return the exit code."""
    from attachd.keeper import report

    if sync_fd is not None:
        report.send(sync_fd, report.of_error(error))
    line = " ".join(str(error).split())
    print(f"attachd: {line}", file=sys.stderr)
    if not isinstance(error, RuntimeFailed):
        return FAILED
    # As docker and podman read runc's words, since runc itself ends with 1 in every case.
    if "executable file not found" in line or "no such file or directory" in line:
        return NOT_FOUND if "exec" in line else FAILED
    return NOT_EXECUTABLE if "exec" in line and "permission denied" in line else FAILED


# The verbs


def _create(config: Config, wish: "argparse.Namespace") -> int:
    from attachd.keeper import birth

    newborn = birth.create(config, attach=_attaches(wish))
    if newborn.connection is not None:
        os.set_inheritable(newborn.connection, True)
        words = ["--root", config.root, "--from", "start", "--fd", str(newborn.connection)]
        words += [] if config.stdin else ["--no-stdin"]
        words += [f"--detach-keys={wish.detach_keys}"] if wish.detach_keys is not None else []
        _hand_over("attach_cmd", [*words, config.id])
    if config.start and sys.stdout is not None and sys.stdout.isatty():
        print(f"{config.id} is running; see its output with: attach {config.id}")
    return 0


def _spec(wish: "argparse.Namespace", command: tuple[str, ...]) -> int:
    from attachd.keeper.bundle import write_bundle

    directory = os.path.abspath(wish.directory)
    made = False
    try:
        if not os.path.isdir(directory):
            os.mkdir(directory)
            made = True
        elif os.listdir(directory):
            raise UsageError(f"{directory} is not empty: name a new directory")
        write_bundle(directory, command, os.path.basename(directory))
    except OSError as error:
        raise UsageError(f"cannot write {directory}: {error.strerror}") from None
    except UsageError:
        if made:
            import shutil

            shutil.rmtree(directory, ignore_errors=True)
        raise
    return 0


def _recover(root: str, container: str | None) -> int:
    """Take up one container, or all that need it; tell of each in one line."""
    from attachd.keeper.claim import check_id
    from attachd.keeper.processes import note_passing
    from attachd.keeper.trust import check_root
    from attachd.recovery.taking_up import NotNeeded, recover

    note_passing(os.environ, whole=False)
    if container is not None:
        check_id(container)
    if not os.path.isdir(root):
        raise UsageError(f"there is no state root {root}")
    check_root(root)
    code = 0
    entries = [entry for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    names = (entry.name for entry in entries if not entry.name.startswith("."))
    for name in [container] if container else sorted(names):
        try:
            found = recover(root, name)
        except NotNeeded:
            if container:
                raise
        except (AttachdError, OSError) as error:
            print(f"attachd: {name}: {error}", file=sys.stderr)
            code = FAILED
        else:
            words = "taken up again" if found.pid else "written down"
            print(f"{name}: {words}; {'; '.join(found.losses)}")
    return code


def _hand_over(program: str, words: list[str]) -> NoReturn:
    """Become one of the clients: they are programs of their own, built on the library."""
    module = f"attachd_clients.{program}"
    # -P: a trio.py in the caller's directory is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", module, *words])


# argv to Config


def _parse(words: list[str]) -> "tuple[argparse.Namespace, tuple[str, ...]]":
    """Return the parsed words before ``--`` and the container's command after it."""
    from attachd.arguments import parser

    command: tuple[str, ...] = ()
    if "--" in words:
        cut = words.index("--")
        words, command = words[:cut], tuple(words[cut + 1 :])
    wish = parser().parse_args(words)
    if wish.verb in ("start", "recover") and command:
        raise UsageError(f"{wish.verb} takes no command: it was given to create")
    return wish, command


def _config(wish: "argparse.Namespace", command: tuple[str, ...]) -> Config:
    """Return the Config that the options ask for; raises UsageError. Touches nothing."""
    if wish.bundle and command:
        raise UsageError("either --bundle or a command after --, not both")
    if not wish.bundle and not command:
        raise UsageError("nothing to run: give a command after --, or a bundle with --bundle")
    if wish.attach and wish.sync_fd is not None:
        raise UsageError("either --attach or --sync-fd, not both")
    if wish.attach and wish.verb == "run" and wish.detach:
        raise UsageError("either --attach or --detach, not both")
    if wish.exit_command_arg and not wish.exit_command:
        raise UsageError("--exit-command-arg needs --exit-command")
    if wish.size_policy not in POLICIES:
        known = ", ".join(POLICIES)
        raise UsageError(f"no size policy {wish.size_policy!r:.40}: {known} are known")
    sized = wish.size or wish.size_policy != DEFAULT_POLICY
    if sized and not (wish.tty or wish.bundle):
        raise UsageError(
            "--size and --size-policy are for a container with a terminal: add -t"
        )
    if wish.detach_keys is not None:
        if not wish.tty:
            raise UsageError("--detach-keys leave a terminal: add -t")
        from attachd.state.keys import parse_keys

        parse_keys(wish.detach_keys)
    return Config(
        id=wish.id,
        root=os.path.abspath(wish.root),
        bundle=_absolute(wish.bundle),
        command=command,
        runtime=wish.runtime,
        runtime_root=_absolute(wish.runtime_root),
        runtime_args=tuple(wish.runtime_arg),
        logs=_logs(wish),
        log_care=_log_care(wish),
        journal=_journal(wish),
        pid_file=_absolute(wish.pid_file),
        keeper_pid_file=_absolute(wish.keeper_pid_file),
        exit_file=_absolute(wish.exit_file),
        sync_fd=_open_fd(wish.sync_fd),
        outlives=wish.recover,
        stdin=wish.stdin,
        stdin_eof=_eof_policy(wish),
        ring_size=_ring_size(wish.ring_size),
        rm=wish.rm,
        timeout=_positive("--timeout", wish.timeout),
        exit_command=wish.exit_command,
        exit_command_args=tuple(wish.exit_command_arg),
        oom_score_adj=_oom_score(wish.oom_score_adj),
        drain_timeout=_not_negative("--drain-timeout", wish.drain_timeout),
        linger=_not_negative("--linger", wish.linger),
        allow_block=_not_negative("--allow-block", wish.allow_block),
        create_timeout=_positive("--create-timeout", wish.create_timeout) or 0.0,
        start=wish.verb == "run",
        terminal=wish.tty,
        size=parse_size(wish.size) if wish.size else None,
        own_size=_own_size(wish),
        size_policy=wish.size_policy,
        rights=Policy(
            uids=_ids("--allow-uid", wish.allow_uid, _uid_of),
            gids=_ids("--allow-gid", wish.allow_gid, _gid_of),
            viewer_gids=_ids("--viewers-gid", wish.viewers_gid, _gid_of),
        ),
    )


def _ids(option: str, words: list[str], find: Callable[[str], int]) -> tuple[int, ...]:
    """Return the ids that an option's words mean, by number or by name; raises UsageError."""
    found = []
    for word in words:
        try:
            number = int(word) if word.isascii() and word.isdigit() else find(word)
        except (KeyError, ValueError):
            raise UsageError(f"{option} {word!r:.80}: there is none of this name") from None
        if number > MAX_ID:
            raise UsageError(f"{option} {word:.80}: the highest number is {MAX_ID}")
        found.append(number)
    return tuple(found)


def _uid_of(name: str) -> int:
    import pwd

    return pwd.getpwnam(name).pw_uid


def _gid_of(name: str) -> int:
    import grp

    return grp.getgrnam(name).gr_gid


def _eof_policy(wish: "argparse.Namespace") -> str:
    """Return what --stdin-eof, or --stdin-once as another name for one of its words, asks for."""
    policy = wish.stdin_eof
    if policy is None and not wish.stdin_once:
        return eofpolicy.ANY
    policy = eofpolicy.ONCE if policy is None else policy
    option = "--stdin-once" if wish.stdin_once else "--stdin-eof"
    if policy not in eofpolicy.POLICIES:
        known = ", ".join(eofpolicy.POLICIES)
        raise UsageError(f"no --stdin-eof {policy!r:.40}: {known} are known")
    if wish.stdin_once and policy != eofpolicy.ONCE:
        raise UsageError(f"either --stdin-once or --stdin-eof {policy}, not both")
    if not wish.stdin:
        raise UsageError(f"{option} needs --stdin")
    if policy == eofpolicy.ONCE and wish.tty:
        raise UsageError(f"{option} is for pipes: a terminal stays open")
    return str(policy)


def _attaches(wish: "argparse.Namespace") -> bool:
    """A terminal is there to be looked at: ``run -t`` attaches as ``--attach`` does."""
    return bool(wish.attach or (wish.tty and not wish.detach and wish.sync_fd is None))


def _own_size(wish: "argparse.Namespace") -> Size | None:
    """Return the size of our terminal when the container's is to be seen in it."""
    if not _attaches(wish):
        return None
    from attachd.keeper.console import own_size

    return own_size()


def _absolute(path: str) -> str:
    if "\0" in path:
        raise UsageError(f"{path!r:.80} cannot be a path")
    return os.path.abspath(path) if path else ""


def _logs(wish: "argparse.Namespace") -> tuple[LogSpec, ...]:
    """Return the logs; without --log one in CRI format at the default place."""
    if not wish.log:
        return (LogSpec("cri", os.path.join(_log_directory(wish), "container.log")),)
    specs = []
    for word in wish.log:
        form, colon, path = word.partition(":")
        if (not colon and word not in ("none", journal.FORMAT)) or "/" in form:
            form, path = "cri", word
        if form not in LOG_FORMATS:
            known = ", ".join(LOG_FORMATS)
            raise UsageError(f"no log format {form!r:.80}: {known} are known")
        if form == journal.FORMAT:
            path = path or journal.SOCKET
        if form != "none":
            if not path:
                raise UsageError(f"--log {word} needs a path: --log {form}:PATH")
            specs.append(LogSpec(form, _absolute(path)))
            if form == "asciicast":
                _check_fresh(specs[-1].path)
    return tuple(specs)


def _check_fresh(path: str) -> None:
    """Raise UsageError when the file has something in it: a header in its middle is an error."""
    try:
        size = os.path.getsize(path)
    except OSError:
        return  # who opens it will tell
    if size:
        raise UsageError(f"{path} is there already, and a recording cannot be continued")


def _journal(wish: "argparse.Namespace") -> journal.Journal:
    """Return what entries of the journal are to tell; raises UsageError."""
    for label in wish.log_label:
        journal.check_label(label)
    told = journal.Journal(
        tag=wish.log_tag,
        name=wish.log_name,
        labels=tuple(wish.log_label),
        partial=not wish.log_no_partial,
    )
    journals = any(word.partition(":")[0] == journal.FORMAT for word in wish.log)
    if told != journal.Journal() and not journals:
        raise UsageError(
            "--log-tag, --log-name, --log-label and --log-no-partial are for --log journald"
        )
    return told


def _log_care(wish: "argparse.Namespace") -> LogCare:
    """Return how logs are to be treated; raises UsageError."""
    if wish.log_max_files < 0:
        raise UsageError(f"--log-max-files {wish.log_max_files} is not a number of files")
    if wish.on_log_error not in ("drop", "block"):
        raise UsageError(f"no --on-log-error {wish.on_log_error!r:.40}: drop, block are known")
    if wish.log_compress and wish.log_compress not in COMPRESSIONS:
        known = ", ".join(COMPRESSIONS)
        raise UsageError(f"no --log-compress {wish.log_compress!r:.40}: {known} are known")
    if wish.log_compress:
        import shutil

        if not shutil.which(wish.log_compress):
            raise UsageError(
                f"--log-compress {wish.log_compress}: the program is not installed"
            )
    return LogCare(
        max_size=parse_bytes(wish.log_max_size),
        max_files=wish.log_max_files,
        max_age=parse_seconds(wish.log_max_age),
        max_total=parse_bytes(wish.log_max_total),
        max_ever=parse_bytes(wish.log_max_ever),
        compress=wish.log_compress,
        on_error=wish.on_log_error,
        sync=wish.log_sync,
    )


def _log_directory(wish: "argparse.Namespace") -> str:
    """With the default root the system's place for logs; with another one, inside of it."""
    root = os.path.abspath(wish.root)
    if root != default_root():
        return os.path.join(root, wish.id, "log")
    if os.geteuid() == 0:
        return os.path.join("/var/log/attachd", wish.id)
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(state, "attachd", wish.id)


def _open_fd(fd: int | None) -> int | None:
    if fd is None:
        return None
    try:
        os.fstat(fd)
    except OSError:
        raise UsageError(f"--sync-fd {fd} is not an open descriptor") from None
    if fd <= 2:
        raise UsageError(f"--sync-fd {fd}: use a descriptor of its own, 3 or above")
    return fd


def _ring_size(size: int) -> int:
    if not MIN_RING <= size <= MAX_RING:
        raise UsageError(f"--ring-size {size} is not between {MIN_RING} and {MAX_RING}")
    return -(-size // _PAGE) * _PAGE


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise UsageError(f"{option} {value:g} is not a positive number of seconds")
    return value


def _not_negative(option: str, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise UsageError(f"{option} {value:g} is not a number of seconds")
    return value


def _oom_score(value: int | None) -> int | None:
    if value is not None and not -1000 <= value <= 1000:
        raise UsageError(f"--oom-score-adj {value} is not between -1000 and 1000")
    return value


if __name__ == "__main__":
    main()
