"""What ``--help`` and ``--version`` print."""

from attachd import __version__

#: Whose command line and files these are. Podman refuses to work with less than 2.0.1; its tests
#: take 2.1.10 for passthrough of terminals and 2.2.0 for labels; CRI-O takes 2.0.19 for --sync
#: and 2.1.2 for --log-global-size-max.
CONMON_VERSION = "2.2.1"


def version_text() -> str:
    """Return the two lines of which Podman reads the first and CRI-O the third word."""
    return f"conmon version {CONMON_VERSION}\ncommit: attachd {__version__}\n"


def help_text() -> str:
    """Return every option that a manager may give, one a line."""
    return _HELP


_HELP = """\
Usage: attachd-conmon [OPTION]...

Create a container, or run a program in one, under attachd's shim, with the command line,
pipes and files of conmon. For container managers; people are better served by: attachd --help

What to run:
  -c, --cid ID                    the container's id
  -u, --cuuid ID                  the container's unique id, or that of an exec session
  -n, --name NAME                 the container's name, for journald
  -b, --bundle DIR                the OCI bundle, or the directory of an exec session
  -e, --exec                      run a program in a container that is running
  --exec-process-spec FILE        that program, as an OCI process in JSON
  --exec-attach                   make its start wait until a client is attached
  --restore DIR                   restore from the checkpoint in DIR instead of creating
  -t, --terminal                  with a terminal
  -i, --stdin                     with a standard input that clients write to
  --leave-stdin-open              keep it open when a client ends its side
  -T, --timeout SECONDS           kill it after so long

How to run it:
  -r, --runtime PATH              the OCI runtime
  --runtime-arg WORD              a word for it before its command; repeatable
  --runtime-opt WORD              a word for it after its command; repeatable
  -s, --systemd-cgroup            have it make cgroups with systemd
  --no-new-keyring                have it make no session keyring
  --no-pivot                      have it use no pivot_root
  --replace-listen-pid            set LISTEN_PID for it
  --api-version                   tell of pid and exit code as Podman expects it
  --sync                          stay, and end as the container ends
  --sdnotify-socket PATH          pass on what it says to systemd to this socket

Where its output goes:
  -l, --log-path [DRIVER:]PATH    k8s-file:PATH, journald, none or passthrough; repeatable
  --log-size-max BYTES            how long a log file may grow
  --log-global-size-max BYTES     how much is logged at all
  --log-rotate                    keep no more renamed files than --log-max-files says
  --log-max-files COUNT           how many renamed files are kept
  --log-allowlist-dir DIR         accepted: a file is renamed only where it was opened
  --log-tag TEXT                  a tag, for journald
  --log-label NAME=VALUE          another field, for journald; repeatable
  --no-container-partial-message  no mark on parts of lines, for journald
  --no-sync-log                   do not wait at the end until the log is on the disk

What is left for others to find:
  -p, --container-pidfile FILE    the container's pid
  -P, --conmon-pidfile FILE       the shim's pid
  -0, --persist-dir DIR           its exit code, and whether it ran out of memory
  --exit-dir DIR                  its exit code, in a file named as the container
  --exit-command PATH             a program to run at the end
  --exit-command-arg WORD         a word for it; repeatable
  --exit-delay SECONDS            how long to wait before it
  --socket-dir-path DIR           where a link to the bundle's sockets is made
  --full-attach                   make no such link

About attachd-conmon:
  --log-level LEVEL               error, warning, info, debug or trace
  --syslog                        copy messages to syslog
  --version                       print the version
  -h, --help                      print this
"""
