"""Every exception that attachd raises on purpose, so that no room has to import another for one.

An error that may travel to a peer knows its own wire name: ``code`` is what ``error`` and
``goodbye`` messages carry (see protocol.md, "Errors").
"""


class AttachdError(Exception):
    """The root of everything below; its text is one line meant for a person."""

    code = "internal"


class ProtocolError(AttachdError):
    """The conversation broke its rules. Abstract: raise one of the two below."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """We misspoke: a bug in attachd, or in the program that calls the library."""


class RemoteProtocolError(ProtocolError):
    """They misspoke: this one connection ends, nothing else."""


class FrameTooLarge(RemoteProtocolError):
    """A frame was announced that is longer than the limit; nothing of it was buffered."""

    code = "too_large"


class Denied(AttachdError):
    """The peer's credentials or role do not allow this."""

    code = "denied"


class Refused(AttachdError):
    """A request that this state of the container does not allow; ``code`` says which rule."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class LifecycleError(Refused):
    """A step that the container's phase does not allow."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_phase", message)


class UsageError(AttachdError):
    """Bad input from the caller: the text says what to do; nothing was left behind."""

    code = "usage"


class RuntimeFailed(AttachdError):
    """The OCI runtime said no.

    ``verb`` is what was asked of it ("create"), ``status`` its exit status as a shell tells it
    (128+n for signal n), ``stderr`` its own words, bounded.
    """

    code = "runtime"

    def __init__(self, verb: str, status: int, message: str, stderr: str) -> None:
        super().__init__(message)
        self.verb = verb
        self.status = status
        self.stderr = stderr


class ConmonError(AttachdError):
    """What the conmon door refuses; the text is the whole line for stderr, with its prefix.

    Managers show it to people, and conmon's tests look for it: conmon's words, not ours.
    """

    code = "usage"
