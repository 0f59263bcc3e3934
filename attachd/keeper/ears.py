"""The keeper's signals, as something that can be polled."""

import os
import signal
from collections.abc import Callable, Collection

from attachd.state.header import Header

#: What is for the container and not for us; of a manager that came by our own door the first.
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Ears:
    """Hears SIGCHLD and SIGHUP, passes SIGTERM on, and ignores the terminal's signals.

    ``fd`` becomes readable when one was heard. ``send`` signals a container that is not our
    child. ``passed_on`` are the signals that are for the container.
    """

    def __init__(
        self,
        header: Header,
        send: Callable[[int], None] | None = None,
        passed_on: Collection[signal.Signals] = PASSED_ON[:1],
    ) -> None:
        self._header = header
        self._send = send
        self.renew = False  #: SIGHUP was heard: the code is to be renewed
        self.fd, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, self._heed_renewal)
        for number in PASSED_ON:
            signal.signal(number, self._pass_on if number in passed_on else signal.SIG_IGN)

    def _pass_on(self, number: int, _frame: object) -> None:
        if self._send is not None:
            self._send(number)
        elif self._header.pid and not self._header.exit_code:
            os.kill(self._header.pid, number)

    def _heed_renewal(self, _number: int, _frame: object) -> None:
        self.renew = True
