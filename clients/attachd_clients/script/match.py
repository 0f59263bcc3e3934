"""What an expectation has found. Pure."""

import attrs

from attachd_clients.script.patterns import Pattern
from attachd_clients.script.search import Found


@attrs.frozen(eq=False)
class Match:
    """A match in the container's output.

    Text patterns give text, bytes patterns bytes; EOF and EXIT match the empty text at the end.
    """

    index: int  #: which pattern it was, of several
    pattern: Pattern  #: as it was given
    start: int  #: the offset of its first byte in the container's output
    end: int  #: the offset behind its last byte: the next expectation begins there
    _before: bytes
    _found: Found | None = None

    @property
    def before(self) -> str | bytes:
        """The output between the last match and this one, or what of it was kept."""
        if isinstance(self.after, bytes):
            return self._before
        return self._before.decode(errors="replace")

    @property
    def after(self) -> str | bytes:
        """What was matched, as pexpect calls it: the same as ``group()``."""
        return "" if self._found is None else self._found[0]

    def group(self, *groups: int | str) -> str | bytes | tuple[str | bytes | None, ...] | None:
        """Return groups as `re.Match.group` does; raises IndexError."""
        if self._found is not None:
            return self._found.group(*groups)
        if groups in ((), (0,)):
            return ""
        raise IndexError("no such group")

    def groups(self) -> tuple[str | bytes | None, ...]:
        """Return all groups but the whole; None for one that did not take part."""
        return () if self._found is None else self._found.groups()

    def groupdict(self) -> dict[str, str | bytes | None]:
        """Return the groups that have names."""
        return {} if self._found is None else {**self._found.groupdict()}

    def __getitem__(self, group: int | str) -> str | bytes | None:
        found = self.group(group)
        assert not isinstance(found, tuple), "one group was asked for"
        return found
