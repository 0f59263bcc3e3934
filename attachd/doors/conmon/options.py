"""Every option of conmon 2.2, and a value that holds what a command line gave for each.

What the options mean together is the matter of ``checks``.
"""

from collections.abc import Sequence
from typing import NamedTuple

from attachd.doors.conmon.words import FLAG, INT32, INT64, MANY, TEXT, Option, parse

TABLE = (
    Option("api-version", FLAG),
    Option("bundle", TEXT, "b"),
    Option("cid", TEXT, "c"),
    Option("conmon-pidfile", TEXT, "P"),
    Option("container-pidfile", TEXT, "p"),
    Option("pidfile", TEXT, alias_of="container-pidfile"),
    Option("cuuid", TEXT, "u"),
    Option("exec", FLAG, "e"),
    Option("exec-attach", FLAG),
    Option("exec-process-spec", TEXT),
    Option("exit-command", TEXT),
    Option("exit-command-arg", MANY),
    Option("exit-delay", INT32),
    Option("exit-dir", TEXT),
    Option("full-attach", FLAG),
    Option("leave-stdin-open", FLAG),
    Option("log-level", TEXT),
    Option("log-path", MANY, "l"),
    Option("log-size-max", INT64),
    Option("log-global-size-max", INT64),
    Option("log-tag", TEXT),
    Option("log-label", MANY),
    Option("log-rotate", FLAG),
    Option("log-max-files", INT32),
    Option("log-allowlist-dir", MANY),
    Option("no-container-partial-message", FLAG),
    Option("name", TEXT, "n"),
    Option("no-new-keyring", FLAG),
    Option("no-pivot", FLAG),
    Option("no-sync-log", FLAG),
    Option("persist-dir", TEXT, "0"),
    Option("replace-listen-pid", FLAG),
    Option("restore", TEXT),
    Option("runtime", TEXT, "r"),
    Option("runtime-arg", MANY),
    Option("runtime-opt", MANY),
    Option("restore-arg", MANY, alias_of="runtime-opt"),
    Option("sdnotify-socket", TEXT),
    Option("socket-dir-path", TEXT),
    Option("stdin", FLAG, "i"),
    Option("sync", FLAG),
    Option("syslog", FLAG),
    Option("systemd-cgroup", FLAG, "s"),
    Option("terminal", FLAG, "t"),
    Option("timeout", INT32, "T"),
    Option("version", FLAG),
)


class Options(NamedTuple):
    """A command line as it was given, unchecked; each field is named as its option.

    A text that was not given is empty, except where an empty one is accepted: None.
    """

    api_version: bool = False
    bundle: str = ""
    cid: str | None = None
    conmon_pidfile: str = ""
    container_pidfile: str = ""  #: also --pidfile
    cuuid: str | None = None
    exec: bool = False
    exec_attach: bool = False
    exec_process_spec: str = ""
    exit_command: str = ""
    exit_command_arg: tuple[str, ...] = ()
    exit_delay: int = 0  #: seconds
    exit_dir: str = ""
    full_attach: bool = False
    leave_stdin_open: bool = False
    log_level: str = "warning"
    log_path: tuple[str, ...] = ()
    log_size_max: int = -1  #: bytes; 0 and less: no limit
    log_global_size_max: int = -1  #: bytes; 0 and less: no limit
    log_tag: str = ""
    log_label: tuple[str, ...] = ()
    log_rotate: bool = False
    log_max_files: int = 1
    log_allowlist_dir: tuple[str, ...] = ()
    no_container_partial_message: bool = False
    name: str = ""
    no_new_keyring: bool = False
    no_pivot: bool = False
    no_sync_log: bool = False
    persist_dir: str = ""
    replace_listen_pid: bool = False
    restore: str = ""
    runtime: str = ""
    runtime_arg: tuple[str, ...] = ()
    runtime_opt: tuple[str, ...] = ()  #: also --restore-arg, in the order of both
    sdnotify_socket: str = ""
    socket_dir_path: str = "/var/run/crio"
    stdin: bool = False
    sync: bool = False
    syslog: bool = False
    systemd_cgroup: bool = False
    terminal: bool = False
    timeout: int = 0  #: seconds; 0: none
    version: bool = False
    help: bool = False


def parse_options(words: Sequence[str]) -> Options:
    """Return what ``words`` (without the program's name) ask for.

    With ``help`` the words after it have not been read. Raises ConmonError.
    """
    given = parse(words, TABLE)
    defaults = Options()._asdict()
    return Options._make((defaults | given)[field] for field in Options._fields)
