"""The keeper's signals, as something that can be polled."""

import os
import signal
from collections.abc import Callable

from attachd.state.header import Header


class Ears:
    """Hears SIGCHLD and SIGHUP, passes SIGTERM on, and ignores the terminal's signals.

    ``fd`` becomes readable when one was heard. ``send`` signals a container that is not our
    child.
    """

    def __init__(self, header: Header, send: Callable[[int], None] | None = None) -> None:
        self._header = header
        self._send = send
        self.renew = False  #: SIGHUP was heard: the code is to be renewed
        self.fd, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._pass_on)
        signal.signal(signal.SIGHUP, self._heed_renewal)
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._send is not None:
            self._send(number)
        elif self._header.pid and not self._header.exit_code:
            os.kill(self._header.pid, number)

    def _heed_renewal(self, _number: int, _frame: object) -> None:
        self.renew = True
