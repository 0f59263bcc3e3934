"""What can be awaited, compiled: text, bytes, patterns, and the ends. Pure."""

import enum
import re
from collections.abc import Iterable

import attrs
import regex

from attachd.errors import UsageError
from attachd_clients.script.grammar import LAST_END, LINE_END, required, translate, within_line


class End(enum.Enum):
    """What can be awaited besides patterns."""

    EOF = "EOF"  #: the output has ended
    EXIT = "EXIT"  #: the exit record is there

    def __repr__(self) -> str:
        return self.value


EOF, EXIT = End.EOF, End.EXIT

Compiled = re.Pattern[str] | re.Pattern[bytes] | regex.Pattern[str] | regex.Pattern[bytes]
Pattern = str | bytes | Compiled | End
Patterns = Pattern | Iterable[Pattern]

#: `re` and `regex` have other numbers for their flags.
_FLAGS = {
    re.IGNORECASE: regex.IGNORECASE,
    re.MULTILINE: regex.MULTILINE,
    re.DOTALL: regex.DOTALL,
    re.VERBOSE: regex.VERBOSE,
    re.ASCII: regex.ASCII,
    re.LOCALE: regex.LOCALE,
}


_VERBOSE = re.compile(r"\(\?[aiLmsu]*x")

Engine = regex.Pattern[str] | regex.Pattern[bytes]


@attrs.frozen(eq=False)
class Wanted:
    """One thing that is awaited.

    ``live`` is searched for while more output can come, ``final`` when none can. A match begins
    in the last line when the pattern is ``narrow``; otherwise the ``guide`` tells where one can
    still begin; without a guide it may be anywhere.
    """

    given: Pattern
    kind: type[str] | type[bytes]
    live: Engine | None = None
    final: Engine | None = None
    guide: Engine | None = None
    narrow: bool = False
    needs: str | bytes = ""  #: a text that is in every match, where one is known

    def __str__(self) -> str:
        """How it is told to a person."""
        return show(self.given)


def show(given: Pattern) -> str:
    """Return a pattern on one line, with what cannot be seen made visible."""
    if isinstance(given, End):
        return given.value
    text = given if isinstance(given, str | bytes) else given.pattern
    told = text if isinstance(text, str) else text.decode("latin-1")
    told = told if told.isprintable() else repr(told)[1:-1]
    return f"{told[:200]}{'…' if len(told) > 200 else ''}"


def compile_all(patterns: Patterns, *, exact: bool = False) -> list[Wanted]:
    """Return what is wanted, in its order; raises UsageError."""
    if isinstance(patterns, str | bytes | re.Pattern | regex.Pattern | End):
        patterns = [patterns]
    elif not isinstance(patterns, Iterable):
        raise UsageError(f"expect takes patterns, not {patterns!r:.80}")
    given = list(patterns)
    if not given:
        raise UsageError("nothing to expect: the list of patterns is empty")
    return [_literal(one) if exact else _compile(one) for one in given]


def _literal(given: Pattern) -> Wanted:
    if isinstance(given, End):
        return Wanted(given, str)
    if not isinstance(given, str | bytes):
        raise UsageError(f"expect_exact takes text and bytes, not {given!r:.80}")
    if not given:
        raise UsageError("nothing to expect: the text is empty")
    found = _make(regex.escape(_source(given)), type(given), regex.VERSION0)
    return Wanted(given, type(given), found, found, found, narrow="\n" not in _source(given))


def _compile(given: Pattern) -> Wanted:
    if isinstance(given, End):
        return Wanted(given, str)
    if isinstance(given, regex.Pattern):
        return Wanted(given, type(given.pattern), given, given)
    if isinstance(given, re.Pattern):
        return _from_re(given, given, dollars=False)
    if not isinstance(given, str | bytes):
        raise UsageError(
            f"expect takes text, bytes, patterns, EOF and EXIT, not {given!r:.80}"
        )
    try:
        pattern = re.compile(_without_dollars(given))
    except (re.error, OverflowError, RecursionError) as error:
        told = show(given)
        raise UsageError(f"{told} is not a regular expression: {error}") from None
    return _from_re(pattern, given, dollars=True)


def _without_dollars(given: str | bytes) -> str | bytes:
    """Return a pattern in which what is a dollar sign is written as one."""
    source = _source(given)
    told = translate(source, verbose=_VERBOSE.match(source) is not None, end="$")
    return told if isinstance(given, str) else told.encode("latin-1")


def _from_re(
    pattern: re.Pattern[str] | re.Pattern[bytes], given: Pattern, *, dollars: bool
) -> Wanted:
    source, kind, flags = _source(pattern.pattern), type(pattern.pattern), pattern.flags
    verbose = bool(flags & re.VERBOSE)
    needs = "" if flags & re.IGNORECASE else required(source, verbose=verbose)

    def make(end: str, *, guide: bool = False) -> Engine:
        told = translate(source, verbose=verbose, end=end if dollars else "", guide=guide)
        return _make(told, kind, _flags(flags))

    return Wanted(
        given,
        kind,
        live=make(LINE_END),
        final=make(LAST_END),
        guide=make(LINE_END, guide=True),
        narrow=within_line(source, verbose=verbose, dotall=bool(flags & re.DOTALL)),
        needs=needs if kind is str else needs.encode("latin-1"),
    )


def _flags(flags: int) -> int:
    return sum(its for ours, its in _FLAGS.items() if flags & ours) | regex.VERSION0


def _source(pattern: str | bytes) -> str:
    return pattern if isinstance(pattern, str) else pattern.decode("latin-1")


def _make(source: str, kind: type[str] | type[bytes], flags: int) -> Engine:
    """Compile for `regex`; raises UsageError for what only `re` understands."""
    try:
        if kind is str:
            return regex.compile(source, flags)
        return regex.compile(source.encode("latin-1"), flags)
    except regex.error as error:
        raise UsageError(f"{show(source)} cannot be searched for: {error}") from None
