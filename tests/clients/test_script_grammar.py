"""Patterns as in `re`, but for the dollar sign."""

import re

import pytest
import regex
from attachd_clients.script.grammar import (
    LAST_END,
    LINE_END,
    required,
    translate,
    within_line,
)
from attachd_clients.script.patterns import EOF, EXIT, compile_all
from hypothesis import given
from hypothesis import strategies as st

from attachd.errors import UsageError


def found(pattern, text: str, *, final: bool = False) -> str | None:
    wanted = compile_all(pattern)[0]
    match = (wanted.final if final else wanted.live).search(text)
    return match and match[0]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("$ ", "$ "), ("$x", "$x"), ("a$b$", "a$b\n"), (r"\$", "$"), ("[$]", "$"), ("$$", "$\n"),
     ("[^]$]x", "ax"), ("($)? $", "$ \r\n"), ("(?x) $ \\  # a $ sign", "$ "), ("$*x", "$$x")],
)  # fmt: skip
def test_a_dollar_that_could_never_match_is_a_dollar_sign(pattern, text) -> None:
    """Something follows that is no ``)``, no ``|`` and not the end; escapes are as ever."""
    if pattern == "($)? $":
        assert found(pattern, text) == " "
    else:
        assert found(pattern, text) == text.rstrip("\r\n")


@pytest.mark.parametrize("pattern", ["done$", "(done$)", "done$|never", "(?x) done $ # end"])
def test_a_dollar_at_the_end_is_a_line_s_end_and_never_the_end_so_far(pattern) -> None:
    """Before CR LF, before LF, or at the end of all output."""
    assert found(pattern, "done") is None
    assert found(pattern, "done\r") is None
    assert found(pattern, "done\r\nx") == "done"
    assert found(pattern, "done\nx") == "done"
    assert found(pattern, "done", final=True) == "done"
    assert found(pattern, "done x", final=True) is None


def test_compiled_patterns_are_used_as_they_are() -> None:
    """Also their dollars, and flags."""
    assert found(re.compile("done$"), "done") == "done"
    assert found(re.compile("DONE$", re.IGNORECASE), "done") == "done"
    assert found(regex.compile(r"\p{Lu}$"), "dO") == "O"
    assert found(re.compile("$ "), "$ ") is None


def test_what_regex_knows_beyond_re_is_text_in_a_pattern_of_re() -> None:
    """Fuzzy matches and sets in sets."""
    assert found("(?:ab){e}", "xx") is None
    assert found("(?:ab){e}", "ab{e}") == "ab{e}"
    assert found("a{}", "a{}") == "a{}"
    assert found(r"[\w[]:]", "[:]") == "[:]"


texts = st.text(alphabet="ab{}[]()|$\\.*+?^-,0d w", max_size=8)


@given(texts, st.text("ab{}[$ 0", max_size=8))
def test_without_a_dollar_it_matches_what_re_matches(pattern, text) -> None:
    """Whatever is a pattern for `re`."""
    try:
        theirs = re.compile(pattern.replace("$", ""))
    except (re.error, FutureWarning):
        return
    try:
        ours = compile_all(pattern.replace("$", ""))[0].live
    except UsageError:
        return  # what only `re` understands is refused, not misunderstood
    match = theirs.search(text)
    assert (match and match.span()) == ((m := ours.search(text)) and m.span())


@pytest.mark.parametrize(
    ("pattern", "narrow"),
    [("END", True), (r"got (\d+)", True), ("a.*b", True), (r"[^\n]*x", True), ("[a-z$]+", True),
     (r"(a)\1", True), (r"a\bb\B", True), ("done$", True), (r"\S+", True),
     (r"a\s", False), ("[^a]", False), ("(?s)a.*b", False), ("(?s:.)", False), ("a\nb", False),
     (r"\n", False), (r"[\n]", False), (r"\x0a", False), (r"[\t-\r]", False), (r"\D", False),
     (r"\012", False), ("[\x00-\x20]", False)],
)  # fmt: skip
def test_a_pattern_is_within_a_line_only_when_that_is_sure(pattern, narrow) -> None:
    """Otherwise it is searched for as if it could span lines."""
    assert within_line(pattern, verbose=False, dotall=False) is narrow


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("END", "END"), (r"got (\d+) now!", " now!"), ("ab*", "a"), ("ab+c", "ab"), ("a|b", ""),
     (r"(a|b)cd", "cd"), (r"\$ x", "$ x"), ("ab{2}", "a"), ("ab?cde", "cde"), ("(?s).*x", "x"),
     ("[abc]d", "d"), ("", "")],
)  # fmt: skip
def test_what_every_match_needs(pattern, text) -> None:
    """The longest text outside of groups, classes and repetitions."""
    assert required(pattern, verbose=False) == text


@given(texts, st.text("ab{}[$ 0", max_size=8))
def test_no_match_is_without_what_it_needs(pattern, text) -> None:
    """Whatever the pattern."""
    try:
        match = re.search(pattern.replace("$", ""), text)
    except (re.error, FutureWarning):
        return
    assert match is None or required(pattern.replace("$", ""), verbose=False) in match[0]


def test_translate_leaves_the_rest_alone() -> None:
    """Comments, names, repetitions."""
    plain = r"(?P<n>a)(?#no $ here)\N{DIGIT ONE}{2}[^]a](?P=n)"
    assert translate(plain, end=LINE_END) == plain
    assert translate("a$", end=LAST_END) == "a" + LAST_END


@pytest.mark.parametrize(
    ("patterns", "told"),
    [([], "empty"), ("(", "not a regular expression"), (5, "not 5"), ([None], "not None")],
)
def test_what_is_no_pattern_is_refused(patterns, told) -> None:
    """An empty list, a broken one, something else."""
    with pytest.raises(UsageError, match=told):
        compile_all(patterns)


def test_exact_takes_text_bytes_and_the_ends() -> None:
    """And no pattern, and nothing empty."""
    assert [one.given for one in compile_all(["a.b$", b"\xff", EOF, EXIT], exact=True)]
    assert compile_all("a.b$", exact=True)[0].live.search("a.b$")
    assert not compile_all("a.b", exact=True)[0].live.search("axb")
    for wrong in ("", b"", re.compile("a")):
        with pytest.raises(UsageError):
            compile_all(wrong, exact=True)
