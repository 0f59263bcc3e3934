"""The container's phases: which step leads where. What is not in the table is an error."""

from enum import StrEnum

from attachd.errors import LifecycleError


class Phase(StrEnum):
    """Where a container is in its life; the values are the words in files and messages."""

    CREATING = "creating"  #: runc create is under way
    CREATED = "created"  #: its init waits for runc start
    RUNNING = "running"  #: its program runs
    STOPPED = "stopped"  #: its init was reaped


class Step(StrEnum):
    """What happens to it."""

    CREATE = "create"
    START = "start"
    EXIT = "exit"


STEPS: dict[Phase, dict[Step, Phase]] = {
    Phase.CREATING: {Step.CREATE: Phase.CREATED},
    Phase.CREATED: {Step.START: Phase.RUNNING, Step.EXIT: Phase.STOPPED},
    Phase.RUNNING: {Step.EXIT: Phase.STOPPED},
    Phase.STOPPED: {},
}


def advance(phase: Phase, step: Step) -> Phase:
    """Return the phase after ``step``; raise LifecycleError when ``phase`` does not allow it."""
    following = STEPS[phase].get(step)
    if following is None:
        raise LifecycleError(f"cannot {step.value} a container that is {phase.value}")
    return following


def phase_of(created: int, started: int, exit_code: int) -> Phase:
    """Return the phase that the header's words tell."""
    if exit_code:
        return Phase.STOPPED
    if started:
        return Phase.RUNNING
    return Phase.CREATED if created else Phase.CREATING
