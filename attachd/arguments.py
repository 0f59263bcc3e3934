"""The words that ``attachd`` understands. Imported only when there is something to parse."""

import argparse
from typing import NoReturn

from attachd.errors import UsageError
from attachd.ground import state_root
from attachd.keeper.config import DEFAULT_RING
from attachd.state.sizes import DEFAULT_POLICY


class Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, like all others of ours."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing usage and ending."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def parser() -> argparse.ArgumentParser:
    """Return the parser of everything before ``--``."""
    top = Parser(prog="attachd", allow_abbrev=False, description=_ABOUT)
    top.add_argument("-V", "--version", action="store_true", help="print the version")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, about in (
        ("create", "make a container; it waits for: attachd start ID"),
        ("run", "make a container and start it"),
    ):
        _create_options(verbs.add_parser(verb, help=about, allow_abbrev=False))
    start = verbs.add_parser("start", help="start a created container", allow_abbrev=False)
    _root_option(start)
    start.add_argument("id", metavar="ID")
    recover = verbs.add_parser("recover", allow_abbrev=False,
        help="take up containers whose shim is gone, all of them without ID")  # fmt: skip
    _root_option(recover)
    recover.add_argument("id", metavar="ID", nargs="?")
    spec = verbs.add_parser("spec", help="write a bundle for CMD, to be edited")
    spec.add_argument("directory", metavar="DIR", help="a new or empty directory")
    return top


_ABOUT = (
    "Run OCI containers under a shim that keeps their stdio, logs it, and lets clients attach."
    " See also: attach --help, attachctl --help, attachd conmon --help, attachd shimmy --help."
)


def _root_option(verb: argparse.ArgumentParser) -> None:
    root = state_root()
    verb.add_argument(
        "--root", metavar="DIR", default=root, help=f"state root, also ATTACHD_ROOT ({root})"
    )


def _create_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    _root_option(verb)
    add("id", metavar="ID", help="the container's name")
    add("--bundle", metavar="DIR", default="", help="an OCI bundle, instead of -- CMD")
    add("--runtime", metavar="PATH", default="runc", help="the OCI runtime (runc)")
    add("--runtime-root", metavar="DIR", default="", help="its --root")
    add("--runtime-arg", metavar="ARG", action="append", default=[],
        help="one more global argument for it; repeatable")  # fmt: skip
    add("--log", metavar="[FORMAT:]PATH", action="append", default=[],
        help="where output is logged; formats: cri (default), json-file, raw, asciicast, none,"
        " or journald[:SOCKET]; repeatable")  # fmt: skip
    _log_options(verb)
    add("--pid-file", metavar="FILE", default="", help="write the container's pid there")
    add("--keeper-pid-file", metavar="FILE", default="", help="write the shim's pid there")
    add("--exit-file", metavar="FILE", default="", help="write the exit record there, too")
    add("--sync-fd", metavar="N", type=int, help="return at once and report on descriptor N")
    add("-i", "--stdin", action="store_true", help="keep the container's stdin open")
    add("-t", "--tty", action="store_true", help="give it a terminal; run then attaches")
    add("--size", metavar="COLSxROWS", default="",
        help="the terminal's size (yours, else the bundle's consoleSize, else 80x24)")  # fmt: skip
    add("--size-policy", metavar="POLICY", default=DEFAULT_POLICY,
        help="which client's size wins: latest (default), smallest, largest, manual")  # fmt: skip
    add("--stdin-eof", metavar="POLICY",
        help="who may close it: any (default) client that may write, once: also its first writer"
        " by leaving, owner: only who holds the lease, never: nobody")  # fmt: skip
    add("--stdin-once", action="store_true", help="the same as --stdin-eof once")
    add("--no-recover", action="store_false", dest="recover",
        help="give it the descriptors 0, 1 and 2 alone: it then dies with its shim, where otherwise"
        " 3 and 4 are its own pipes' ends, by which it lives on until attachd recover")  # fmt: skip
    add("--ring-size", metavar="BYTES", type=int, default=DEFAULT_RING,
        help="how much output is kept for clients (%(default)s)")  # fmt: skip
    add("--rm", action="store_true", help="delete from the runtime after exit")
    add("--timeout", metavar="SECONDS", type=float, help="kill it after so long")
    add("--drain-timeout", metavar="SECONDS", type=float, default=2.0,
        help="wait so long for output of what outlives it (%(default)g)")  # fmt: skip
    add("--linger", metavar="SECONDS", type=float, default=1.0,
        help="serve clients so long after its end (%(default)g)")  # fmt: skip
    add("--allow-block", metavar="SECONDS", type=float, default=0.0,
        help="let clients hold the container up, so long at a time (not at all)")  # fmt: skip
    add("--create-timeout", metavar="SECONDS", type=float, default=120.0,
        help="give the runtime so long for each call (%(default)g)")  # fmt: skip
    add("--exit-command", metavar="CMD", default="", help="run this after exit")
    add("--exit-command-arg", metavar="ARG", action="append", default=[],
        help="an argument for it; repeatable")  # fmt: skip
    _rights_options(verb)
    add("--oom-score-adj", metavar="N", type=int, help="the shim's own OOM score adjustment")
    if verb.prog.endswith("run"):
        add("-a", "--attach", action="store_true",
            help="attach at once, and end with the container's code")  # fmt: skip
        add("-d", "--detach", action="store_true", help="with -t: do not attach")
        add("--detach-keys", metavar="KEYS", help="what leaves the terminal (ctrl-p,ctrl-q)")
    else:
        verb.set_defaults(attach=False, detach=True, detach_keys=None)


def _rights_options(verb: argparse.ArgumentParser) -> None:
    for option, whose, right in (
        ("--allow-uid", "UID", "this user may attach and do everything that you may"),
        ("--allow-gid", "GID", "so may the members of this group"),
        ("--viewers-gid", "GID", "the members of this group may look, and nothing else"),
    ):
        verb.add_argument(
            option, metavar=whose, action="append", default=[],
            help=f"{right}; a number or a name; repeatable",
        )  # fmt: skip


def _log_options(verb: argparse.ArgumentParser) -> None:
    add = verb.add_argument
    add("--log-max-size", metavar="SIZE", default="0",
        help="rotate a log that would be larger, like 10m (never)")  # fmt: skip
    add("--log-max-files", metavar="N", type=int, default=0,
        help="keep so many files of each log, with the current one (all)")  # fmt: skip
    add("--log-max-age", metavar="TIME", default="0",
        help="rotate a log begun longer ago, like 7d, and then remove it (never)")  # fmt: skip
    add("--log-max-total", metavar="SIZE", default="0",
        help="keep so many bytes of each log in all its files (all)")  # fmt: skip
    add("--log-max-ever", metavar="SIZE", default="0",
        help="write so much text in all, to the end of a line, and no more for good (no limit)"
    )  # fmt: skip
    add("--log-compress", metavar="METHOD", default="",
        help="compress what was rotated: gzip, zstd (no)")  # fmt: skip
    add("--on-log-error", metavar="WHAT", default="drop",
        help="a log cannot be written: drop output and tell so in the log (default), or block"
        " the container until it can")  # fmt: skip
    add("--log-sync", action="store_true", help="have each write on the disk before it counts")
    add("--log-tag", metavar="TEXT", default="",
        help="CONTAINER_TAG of the journal's entries, and their SYSLOG_IDENTIFIER")  # fmt: skip
    add("--log-name", metavar="TEXT", default="",
        help="CONTAINER_NAME of the journal's entries, and their SYSLOG_IDENTIFIER")  # fmt: skip
    add("--log-label", metavar="NAME=VALUE", action="append", default=[],
        help="one more field of the journal's entries; repeatable")  # fmt: skip
    add("--log-no-partial", action="store_true",
        help="leave out CONTAINER_PARTIAL_MESSAGE, which marks pieces of lines")  # fmt: skip
