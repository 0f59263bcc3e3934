"""What ``--help`` prints."""


def help_text() -> str:
    """Return every option, one a line."""
    return _HELP


_HELP = """\
Usage: attachd shimmy OPTION...

Create a container under attachd's shim, with the command line, sync pipe and files of shimmy.
For a manager that calls shimmy, as conman does; people are better served by: attachd --help

All of these are needed:
  --shimmy-pidfile FILE         where the shim's pid is written
  --runtime PATH                the OCI runtime
  --bundle DIR                  the OCI bundle
  --container-id ID             the container's id
  --container-pidfile FILE      where the container's pid is written
  --container-logfile FILE      where its output is logged: time, stream and text of each line
  --container-exitfile FILE     where it is written how the container has ended
  --container-attachfile PATH   the socket where output comes from and stdin goes to
  --syncpipe-fd N               where it is reported how creation went; also _OCI_SYNCPIPE=N

These are not:
  --runtime-arg ARG...          an argument of the runtime, before its verb; quotes are taken off
  --stdin                       with a standard input that clients write to
  --stdin-once                  which ends when the input of one of them does
  --shimmy-log-level LEVEL      of the words in the shim's own log (INFO): OFF, ERROR, WARN, INFO,
                                DEBUG, TRACE, and logrus's others
  -h, --help                    this text

Exit codes: 0 when there is a shim, 125 when there is none, with a line on stderr.
See docs/shimmy.md for what conman expects, and what is different.
"""
