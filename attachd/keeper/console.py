"""The console socket: how a container's pseudoterminal comes to us.

The runtime makes the terminal inside the container and sends its master over a Unix socket
(runc documentation, "terminals.md", "Detached"): one message with one descriptor. From then on
the keeper holds it, and whoever the server is by then.
"""

import fcntl
import os
import socket
import termios

from attachd.errors import AttachdError
from attachd.keeper.descriptors import receive_fds
from attachd.state.sizes import Size

SOCKET = "console.sock"

#: Why there is no terminal though the runtime says that it worked.
NOT_SET_UP = "the runtime did not set up the terminal"

_TIOCGPTN = 0x80045430  #: ioctl_tty(2): _IOR('T', 0x30, unsigned int)

#: The message's bytes are the terminal's name, which nobody needs; runc's own limit is 4096.
_NAME_BYTES = 4096

#: The runtime has sent it before it ends: this only bounds a runtime that has not.
_RECEIVE_SECONDS = 5.0


def path(directory: int, inside: str = SOCKET) -> str:
    """Return where the runtime finds the socket that is at ``inside`` a directory.

    That is always within the 107 bytes of sockaddr_un, as `state.execspec.MAX_NAME` sees to.
    """
    return f"/proc/{os.getpid()}/fd/{directory}/{inside}"


def receive(listener: int) -> int:
    """Take the terminal that a runtime has sent; return its master, close-on-exec, not blocking.

    Whoever holds the master shares its one file description, and so the flag, too. Raises
    AttachdError when nothing came, or something else than one terminal.
    """
    waiting = socket.socket(fileno=listener)
    try:
        peer, _ = waiting.accept()
    except BlockingIOError:
        raise AttachdError(NOT_SET_UP) from None
    finally:
        waiting.detach()
    with peer:
        peer.settimeout(_RECEIVE_SECONDS)
        try:
            _, fds = receive_fds(peer, _NAME_BYTES, 4)
        except OSError as error:
            raise AttachdError(f"the runtime did not send the terminal: {error}") from None
    if len(fds) != 1 or not _is_master(fds[0]):
        for fd in fds:
            os.close(fd)
        raise AttachdError("the runtime sent something else than one pseudoterminal")
    os.set_blocking(fds[0], False)
    return fds[0]


def own_size() -> Size | None:
    """Return the size of the terminal that we were started in; None without one."""
    for fd in (1, 0, 2):
        try:
            size = Size(*os.get_terminal_size(fd))
        except OSError:
            continue
        return size if size.usable else None
    return None


def set_size(terminal: int, size: Size) -> None:
    """Give the terminal a size; its foreground programs get SIGWINCH when it differs."""
    termios.tcsetwinsize(terminal, (size.rows, size.columns))


def _is_master(fd: int) -> bool:
    """True for a pseudoterminal's master, which alone knows the number of its slave."""
    try:
        fcntl.ioctl(fd, _TIOCGPTN, bytes(4))
    except OSError:
        return False
    return True
