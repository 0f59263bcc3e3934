"""Words to values as GLib's option parser reads them, which conmon stands on.

It differs from getopt and argparse, and managers rely on how: the word after an option is its
value also when it begins with ``-`` or is empty (Podman: ``--runtime-arg --log-format=json``,
``--exit-command-arg ''``), a word that belongs to no option is skipped (``--api-version 1``),
no option may be shortened, a flag takes any ``=value`` and ignores it, and ``-T5`` is two short
options. Errors have GLib's texts.

It does not know which options there are, nor what they mean.
"""

from collections.abc import Sequence
from typing import NamedTuple

from attachd.errors import ConmonError

FLAG, TEXT, INT32, INT64, MANY = "flag", "text", "int32", "int64", "many"

#: The field that is set, and at which parsing stops, when help is asked for.
HELP = "help"

_BITS = {INT32: 32, INT64: 64}

#: The spaces of isspace(3), which strtol(3) skips before a number.
_SPACES = " \t\n\v\f\r"

#: More digits than any number of 64 bits has, in octal too; int() has a limit of its own.
_MANY_DIGITS = 30

Value = bool | int | str | tuple[str, ...]


class Option(NamedTuple):
    """One option: ``--long``, perhaps ``-short``, and the field that its value goes to."""

    long: str
    kind: str  #: FLAG, TEXT, INT32, INT64, or MANY: texts that are collected in order
    short: str = ""
    alias_of: str = ""  #: the long name of the option whose field it fills, if not its own

    @property
    def field(self) -> str:
        """Return the name under which the value is found."""
        return (self.alias_of or self.long).replace("-", "_")


def parse(words: Sequence[str], options: Sequence[Option]) -> dict[str, Value]:
    """Return the values of the fields that ``words`` (without the program's name) give.

    A flag is True, numbers are int, MANY is a tuple; of the others the last one given counts.
    Fields that were not given are missing. After ``--``, and after the first word that asks for
    help, nothing is read: what was wrong before it is raised, what is wrong after it is not.

    Raises ConmonError.
    """
    return _Reading(words, options).read()


class _Reading:
    """The words, the place in them, and what they have given so far."""

    def __init__(self, words: Sequence[str], options: Sequence[Option]) -> None:
        self._words = words
        self._at = 0
        self._long = {option.long: option for option in options}
        self._short = {option.short: option for option in options if option.short}
        self._values: dict[str, Value] = {}

    def read(self) -> dict[str, Value]:
        while self._at < len(self._words) and HELP not in self._values:
            word = self._words[self._at]
            self._at += 1
            if word == "--":
                break
            if word.startswith("--"):
                self._read_long(word)
            elif word.startswith("-"):
                self._read_short(word)
        return self._values

    def _read_long(self, word: str) -> None:
        if word in ("--help", "--help-all"):
            self._values[HELP] = True
            return
        name, equals, value = word[2:].partition("=")
        option = self._long.get(name)
        if option is None:
            raise _error(f"Unknown option {word}")
        if option.kind == FLAG:
            self._values[option.field] = True
        else:
            self._keep(option, f"--{name}", value if equals else self._next(f"--{name}"))

    def _read_short(self, word: str) -> None:
        """Read letters of which each is an option; the value of one is the next word."""
        taken = False
        for letter in word[1:]:
            if letter in "h?":
                self._values[HELP] = True
                return
            option = self._short.get(letter)
            if option is None:
                raise _error(f"Unknown option {word}")
            if option.kind == FLAG:
                self._values[option.field] = True
            elif taken:
                raise _error(f"Error parsing option -{letter}")
            else:
                self._keep(option, f"-{letter}", self._next(f"-{letter}"))
                taken = True

    def _next(self, name: str) -> str:
        if self._at == len(self._words):
            raise _error(f"Missing argument for {name}")
        self._at += 1
        return self._words[self._at - 1]

    def _keep(self, option: Option, name: str, text: str) -> None:
        field = option.field
        if option.kind == MANY:
            before = self._values.get(field, ())
            self._values[field] = (*(before if isinstance(before, tuple) else ()), text)
        elif option.kind == TEXT:
            self._values[field] = text
        else:
            self._values[field] = _integer(text, name, _BITS[option.kind])


def _integer(text: str, name: str, bits: int) -> int:
    """Return the number as strtol(3) reads it with base 0; nothing may come after it."""
    rest = text.lstrip(_SPACES)
    sign = rest[0] if rest[:1] in ("+", "-") else ""
    digits = rest.removeprefix(sign).lower()
    if digits.startswith("0x"):
        base, digits = 16, digits[2:]
    else:
        base = 8 if digits.startswith("0") else 10
    if not digits or not set(digits) <= set("0123456789abcdef"[:base]):
        raise _error(f"Cannot parse integer value “{text}” for {name}")
    digits = digits.lstrip("0") or "0"
    limit = 1 << (bits - 1)
    number = int(sign + digits, base) if len(digits) <= _MANY_DIGITS else limit
    if not -limit <= number < limit:
        raise _error(f"Integer value “{text}” for {name} out of range")
    return number


def _error(text: str) -> ConmonError:
    return ConmonError(f"conmon: option parsing failed: {text}")
