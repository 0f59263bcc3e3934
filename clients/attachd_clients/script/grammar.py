"""Regular expressions as in `re`, made fit for output that grows. Pure: text in, text out.

Three things are changed before the `regex` package compiles what was written for `re`:

* ``$``: behind it, what is not there yet may come. One that could never match (something other
  than ``)``, ``|`` or the end follows) is a dollar sign, so ``"$ "`` is a prompt. Any other one
  matches before a line's end, or when no more can come.
* ``{`` that begins no repetition and ``[`` inside a class are what they are in `re`; `regex`
  knows more.
* In a guide, which tells from where a match can still begin, ``\\b``, ``\\B`` and ``\\Z`` do not
  decide at the end of what is there.
"""

import re
from collections.abc import Iterator

#: A line's end, while more can come and when no more can.
LINE_END, LAST_END = r"(?=\r?\n)", r"(?=\r?\n|\Z)"

_UNDECIDED = r"(?=[\s\S])"  #: fails only at the end, where `regex` calls that a partial match

_TOKEN = re.compile(
    r"""(?P<escape>\\N\{[^}]*\}|\\.)
    |(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])
    |(?P<comment>\(\?\#[^)]*\))
    |(?P<repeat>\{(?:\d+(?:,\d*)?|,\d*)\})
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_SPACE = re.compile(r"(?:\s|#[^\n]*(?:\n|\Z))+")

#: What an escape may be in a pattern that never matches a newline.
_NARROW = re.compile(r"\\(?:[dwSbBAZrtfva]|[1-9]|[^0-9A-Za-z\n])", re.DOTALL)
_DOTALL = re.compile(r"\(\?[a-zA-Z]*s")


def translate(
    pattern: str, *, verbose: bool = False, end: str = "", guide: bool = False
) -> str:
    """Return a pattern of `re` as one of `regex`; ``end`` is what ``$`` means, if anything else."""
    return "".join(_translated(pattern, verbose, end, guide))


def _translated(pattern: str, verbose: bool, end: str, guide: bool) -> Iterator[str]:
    for kind, text, rest in _tokens(pattern, verbose):
        if text == "$" and end:
            yield end if rest in ("", ")", "|") else r"\$"
        elif guide and text in (r"\b", r"\B", r"\Z"):
            yield _UNDECIDED + text
        elif kind == "set":
            yield text[0] + re.sub(r"(\\.)|\[", _escape_bracket, text[1:], flags=re.DOTALL)
        else:
            yield r"\{" if text == "{" else text


def _escape_bracket(found: "re.Match[str]") -> str:
    return found[1] or r"\["


def _tokens(pattern: str, verbose: bool) -> Iterator[tuple[str, str, str]]:
    """Yield kind, text, and the first character that counts behind it."""
    at = 0
    while at < len(pattern):
        end = _after_space(pattern, at) if verbose else at
        if end > at:
            yield "space", pattern[at:end], ""
        elif token := _TOKEN.match(pattern, at):
            end = token.end()
            follower = _after_space(pattern, end) if verbose else end
            yield str(token.lastgroup), token[0], pattern[follower : follower + 1]
        at = end


def _after_space(pattern: str, at: int) -> int:
    space = _SPACE.match(pattern, at)
    return space.end() if space else at


def within_line(pattern: str, *, verbose: bool, dotall: bool) -> bool:
    """Return True when no match can contain a newline; False when it may, or who knows."""
    if dotall or _DOTALL.search(pattern):
        return False
    return all(_is_narrow(kind, text) for kind, text, _ in _tokens(pattern, verbose))


def _is_narrow(kind: str, text: str) -> bool:
    if kind == "escape":
        return _NARROW.fullmatch(text) is not None
    if kind == "set":
        return _is_narrow_set(text[1:-1])
    return kind == "space" or "\n" not in text


def _is_narrow_set(inside: str) -> bool:
    negated = inside.startswith("^")
    members = re.findall(r"\\.|.", inside.removeprefix("^"), re.DOTALL)
    if negated:
        return bool({"\n", r"\n", r"\s"} & set(members))
    plain = all(_NARROW.fullmatch(m) if m[0] == "\\" else m >= " " for m in members)
    return plain and ("-" not in members or not {r"\t", r"\a"} & set(members))


def required(pattern: str, *, verbose: bool) -> str:
    """Return the longest text that surely is in every match; empty when none is known."""
    runs, run, depth = [""], "", 0
    for kind, text, _ in _tokens(pattern, verbose):
        if text == "|" and not depth:
            return ""
        if not depth and _is_literal(kind, text):
            run += text[-1]
        elif kind not in ("space", "comment"):
            optional = text in ("*", "?") or kind == "repeat"
            runs.append(run[:-1] if optional and not depth else run)
            run = ""
        depth += {"(": 1, ")": -1}.get(text, 0)
    return max([*runs, run], key=len)


def _is_literal(kind: str, text: str) -> bool:
    if kind == "escape":
        return not text[1].isalnum() and len(text) == 2
    return kind == "other" and text not in ".^$()|*+?"
