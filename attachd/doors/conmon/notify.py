"""What the program says to systemd (sd_notify(3)), passed on to the host's own socket.

The program finds the socket ``notify/notify.sock`` of its bundle at /run/notify, where Podman has
mounted it. A container is not trusted with all that systemd heeds: which process it should watch,
which descriptors it should keep. What comes while no server is there waits in the socket.
"""

import logging
import socket

import trio

#: What systemd itself takes (its NOTIFY_BUFFER_MAX, which is PIPE_BUF).
MOST_BYTES = 4096

#: Whole lines, and beginnings of lines, that are passed on (conmon's sd-notify proxy).
_LINES = (b"READY=1", b"RELOADING=1", b"STOPPING=1", b"WATCHDOG=1", b"WATCHDOG=trigger")
_BEGINNINGS = (b"STATUS=", b"ERRNO=", b"BUSERROR=", b"MONOTONIC_USEC=")

_log = logging.getLogger(__name__)


def permitted(datagram: bytes) -> bytes:
    """Return what of a datagram is passed on, perhaps nothing. It ends where a NUL is."""
    lines = datagram.partition(b"\0")[0].replace(b"\r", b"\n").split(b"\n")
    kept = (line for line in lines if line in _LINES or line.startswith(_BEGINNINGS))
    return b"\n".join(kept)


async def pass_on(fd: int, host: str) -> None:
    """Pass on what comes to ``fd``. Ends when cancelled; a host that does not listen is logged."""
    with socket.socket(fileno=fd) as ours:
        while True:
            await trio.lowlevel.wait_readable(ours)
            try:
                datagram, _, flags, _ = ours.recvmsg(MOST_BYTES)
            except BlockingIOError:
                continue
            said = b"" if flags & socket.MSG_TRUNC else permitted(datagram)
            if said:
                await _tell(host, said)


async def _tell(host: str, said: bytes) -> None:
    address = f"\0{host[1:]}" if host.startswith("@") else host
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as theirs:
        try:
            theirs.connect(address)
            await trio.lowlevel.wait_writable(theirs)
            theirs.send(said)
        except OSError as error:
            _log.warning("cannot notify %s: %s", host, error.strerror)
