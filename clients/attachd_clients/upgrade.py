"""Upgrading a running shim: its own keeper is told to go on with the code that we are.

We write ``upgrade.json`` into the state directory, which nobody else may write in, and send the
keeper SIGHUP. It asks this code whether it can take over before anything stops, and tells in
``upgrade-answer.json``.
"""

import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attachd import errors
from attachd.errors import AttachdError, UsageError
from attachd_clients.blocking import attach_blocking
from attachd_clients.places import Place
from attachd_clients.processes import has_ended, pidfd_of
from attachd_clients.removal import check_owner, lock_within

#: The new code may take so long to say whether it can take over, the old server to stop.
ANSWER_SECONDS = 90.0

#: A new server needs a third of a second on an idle machine.
START_SECONDS = 60.0

_POLL_SECONDS = 0.02


def upgrade(place: Place) -> dict[str, object]:
    """Have a container's keeper and server replaced by this code; return the new one's report.

    Raises UsageError when there is nothing to upgrade, when this code cannot take over (then the
    old one goes on as if nothing had been asked), and when the new server does not answer.
    """
    check_owner(place)
    if place.exit_record() is not None:
        raise UsageError(f"{place.id} has ended: there is nothing to upgrade")
    with _alone(place):
        _order(place)
        report = _wait_for_server(place)
        told = place.upgrade_answer() or {}
        if told.get("refusal"):  # it could not be executed after all
            raise UsageError(f"{place.id} is not upgraded, and goes on: {told['refusal']}")
        return report


def running(root: str) -> list[Place]:
    """Return the containers under a root that have not ended."""
    return [p for p in Place.all(root) if p.exists() and p.exit_record() is None]


@contextlib.contextmanager
def _alone(place: Place) -> Iterator[None]:
    """Wait until nobody else upgrades this container, and keep others waiting.

    There is one file for an order: who exchanges another's leaves that one without an answer.
    """
    path = os.path.join(place.path, "upgrade.lock")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UsageError(f"cannot open {path}: {error.strerror}") from None
    try:
        if not lock_within(fd, ANSWER_SECONDS + START_SECONDS):
            raise UsageError(f"{place.id} is being upgraded by somebody else")
        yield
    finally:
        os.close(fd)


def _order(place: Place) -> None:
    """Have the keeper begin; raises UsageError when it does not."""
    token = secrets.token_hex(8)
    state = place.state()
    with pidfd_of(state.get("keeper_pid"), state.get("keeper_start")) as keeper:
        if keeper is None:
            raise _gone(place)
        _write_order(place, token)
        signal.pidfd_send_signal(keeper, signal.SIGHUP)
        refusal = _wait_for_answer(place, token, keeper)
    if refusal:
        raise UsageError(f"{place.id} is not upgraded, and goes on: {refusal}")


def _write_order(place: Place, token: str) -> None:
    """Say which code is wanted: ours."""
    package = Path(errors.__file__).resolve().parent.parent
    order = {"python": sys.executable, "package": str(package), "token": token}
    path = Path(place.path, "upgrade.json")
    beside = path.with_name(f"upgrade.json.{token}.new")
    try:
        beside.touch(0o600, exist_ok=False)
        beside.write_text(json.dumps(order) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def _gone(place: Place) -> UsageError:
    return UsageError(
        f"the keeper of {place.id} is gone: if no other has come, 'attachd recover {place.id}'"
        " takes the container up again"
    )


def _wait_for_answer(place: Place, token: str, keeper: int) -> str:
    """Return why the keeper has refused, or "" when it goes on with this code."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        told = place.upgrade_answer()
        if told is not None and told.get("token") == token:
            return str(told.get("refusal"))
        if has_ended(keeper):
            raise _gone(place)
        time.sleep(_POLL_SECONDS)
    raise UsageError(f"the keeper of {place.id} does not answer: see 'attachctl inspect'")


def _wait_for_server(place: Place) -> dict[str, object]:
    """Return the report of the server that comes now."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(AttachdError, TimeoutError):
            with attach_blocking(
                place.id, root=place.root, since="none", role="viewer", name="attachctl"
            ) as client:
                return dict(client.status(deadline - time.monotonic()))
        time.sleep(_POLL_SECONDS)
    raise UsageError(
        f"{place.id}: the new server does not answer; the container waits: see 'attachctl inspect'"
    )
