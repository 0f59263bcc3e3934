"""What the launcher half tells the server half, as JSON."""

from collections.abc import Mapping
from typing import NamedTuple


class Wishes(NamedTuple):
    """What the server half does besides serving; paths are absolute."""

    attach_file: str
    exit_file: str
    log_level: str  #: of `words.LEVELS`: what of the server's words goes to shim.log

    @classmethod
    def of_json(cls, told: Mapping[str, object]) -> "Wishes":
        """Return what `_asdict` has become in state.json. Raises KeyError."""
        return cls(*(str(told[name]) for name in cls._fields))
