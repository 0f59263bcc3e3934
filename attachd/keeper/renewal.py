"""An upgrade in place: the keeper stops the server and becomes its own successor.

Whoever may write in the state directory (its owner, and root) puts `Order` there as
``upgrade.json`` and sends the keeper SIGHUP. The new code is asked first, with the very
descriptors that it will get: if it cannot do with them, nothing is stopped, and the answer says
why. Otherwise this process executes the new code (``attachd.keeper.heir``): it keeps its pid, its
children, the lock and every descriptor, so there is no moment in which anything could be lost.
"""

import os
import signal
import sys
from typing import NamedTuple

from attachd.errors import AttachdError
from attachd.keeper import descriptors, files
from attachd.keeper.processes import package_parent
from attachd.keeper.runtime import Words, call
from attachd.keeper.server import module_of

#: The new code has so long to say whether it can take over; it takes a third of a second.
CHECK_SECONDS = 30.0

#: What waits until its successor has handlers: their default is death.
HELD_BACK = (signal.SIGTERM, signal.SIGHUP)


class Order(NamedTuple):
    """What code is wanted: absolute paths of a Python, and of the directory with ``attachd``."""

    python: str
    package: str
    token: str  #: comes back with the answer


def own_code() -> Order:
    """Return an order for the code that is running here."""
    return Order(sys.executable, package_parent(), "")


def read_order(directory: str) -> Order:
    """Return the order; raises AttachdError when it is not one."""
    try:
        told = files.read_json(os.path.join(directory, files.UPGRADE))
        return Order(*(str(told[name]) for name in Order._fields))
    except (OSError, ValueError, KeyError) as error:
        raise AttachdError(f"no order that can be read: {error}") from None


def answer(directory: str, token: str, refusal: str = "") -> None:
    """Say what became of an order; where it cannot be written, nobody hears it."""
    try:
        told = {"schema": 1, "token": token, "refusal": refusal}
        files.write_json(os.path.join(directory, files.UPGRADE_ANSWER), told)
    except OSError:
        pass


def check(order: Order, table: descriptors.Table, environment: dict[str, str]) -> None:
    """Ask the new code whether it can take over; raises AttachdError with its own reason.

    Both programs are asked, the keeper's and the server's, which load all that they are made of.
    """
    if not (os.path.isabs(order.python) and os.path.isabs(order.package)):
        raise AttachdError("the order's paths are not absolute")
    for module in ("attachd.keeper.heir", module_of(table.kept)):
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        words = Words(read)
        argv = [*_program(order, module), "check", *_named(table)]
        try:
            inherit = tuple(table.items().values())
            status = call(
                argv, _environment(order, environment), (0, 1, write), words, CHECK_SECONDS,
                inherit,
            )  # fmt: skip
        finally:
            os.close(read)
            os.close(write)
        if status != 0:
            lines = words.text.strip().splitlines() or [f"{module} ended with {status}"]
            raise AttachdError(lines[-1])


def become(
    order: Order, table: descriptors.Table, post: int, environment: dict[str, str]
) -> None:
    """Become the new code's keeper. Returns only by raising OSError: then all is as before."""
    argv = [*_program(order, "attachd.keeper.heir"), f"post={post}", *_named(table)]
    passed = [post, *table.items().values()]
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        for fd in passed:
            os.set_inheritable(fd, True)
        os.execve(order.python, argv, _environment(order, environment))
    finally:
        for fd in passed:
            os.set_inheritable(fd, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def _program(order: Order, module: str) -> list[str]:
    return [order.python, "-s", "-P", "-m", module]


def _named(table: descriptors.Table) -> list[str]:
    return [f"{name}={fd}" for name, fd in table.items().items()]


def _environment(order: Order, environment: dict[str, str]) -> dict[str, str]:
    return environment | {"PYTHONPATH": order.package}
