"""Words are read as GLib reads them; each refusal has GLib's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attachd.doors.conmon.words import FLAG, INT32, INT64, MANY, TEXT, Option, parse
from attachd.errors import ConmonError

OPTIONS = (
    Option("terminal", FLAG, "t"),
    Option("stdin", FLAG, "i"),
    Option("exit-dir", TEXT, "d"),
    Option("runtime-arg", MANY, "a"),
    Option("runtime-opt", MANY),
    Option("restore-arg", MANY, alias_of="runtime-opt"),
    Option("timeout", INT32, "T"),
    Option("log-size-max", INT64),
)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {}),
        (["--terminal", "-i"], {"terminal": True, "stdin": True}),
        (["-ti"], {"terminal": True, "stdin": True}),
        (["--terminal=no", "--stdin="], {"terminal": True, "stdin": True}),
        (["--exit-dir", "/x"], {"exit_dir": "/x"}),
        (["--exit-dir=/x=y"], {"exit_dir": "/x=y"}),
        (["--exit-dir=", "-t"], {"exit_dir": "", "terminal": True}),
        (["--exit-dir", "", "-d", ""], {"exit_dir": ""}),
        (["-d", "/x", "--exit-dir", "/y"], {"exit_dir": "/y"}),
        (["-td", "/x", "-i"], {"terminal": True, "exit_dir": "/x", "stdin": True}),
        (["-dt", "/x"], {"terminal": True, "exit_dir": "/x"}),
        (["-a", "--log-format=json", "--runtime-arg", "--", "--runtime-arg=-x"],
         {"runtime_arg": ("--log-format=json", "--", "-x")}),
        (["-a", "--help", "-a", "-h"], {"runtime_arg": ("--help", "-h")}),
        (["--runtime-opt", "1", "--restore-arg", "2", "--runtime-opt", ""],
         {"runtime_opt": ("1", "2", "")}),
        (["stray", "-", "-t", "1", "\u00e9"], {"terminal": True}),
        (["-t", "--", "--stdin", "--unknown"], {"terminal": True}),
        (["-T", "5", "--timeout=6"], {"timeout": 6}),
        (["-t", "--help", "--unknown"], {"terminal": True, "help": True}),
        (["--help-all"], {"help": True}),
        (["-t?x"], {"terminal": True, "help": True}),
        (["-h"], {"help": True}),
    ],
)  # fmt: skip
def test_words_and_their_values(words, values) -> None:
    """Only what was given is there; a word that begins with - may be a value."""
    assert parse(words, OPTIONS) == values


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--termin"], "Unknown option --termin"),
        (["--unknown=x"], "Unknown option --unknown=x"),
        (["--Terminal"], "Unknown option --Terminal"),
        (["--="], "Unknown option --="),
        (["--help=x"], "Unknown option --help=x"),
        (["--help-terminal"], "Unknown option --help-terminal"),
        (["-x"], "Unknown option -x"),
        (["-tx"], "Unknown option -tx"),
        (["-t=1"], "Unknown option -t=1"),
        (["-T5", "5"], "Unknown option -T5"),
        (["-d/x", "/x"], "Unknown option -d/x"),
        (["-T5"], "Missing argument for -T"),
        (["--exit-dir"], "Missing argument for --exit-dir"),
        (["-td"], "Missing argument for -d"),
        (["--restore-arg"], "Missing argument for --restore-arg"),
        (["-dT", "/x", "5"], "Error parsing option -T"),
        (["-Td", "x", "/x"], "Cannot parse integer value “x” for -T"),
        (["--unknown", "--help"], "Unknown option --unknown"),
    ],
)
def test_words_that_are_refused(words, text) -> None:
    """The line has the prefix of conmon's parser, and names the word as it was given."""
    with pytest.raises(ConmonError) as refusal:
        parse(words, OPTIONS)

    assert str(refusal.value) == f"conmon: option parsing failed: {text}"


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("-0", 0), ("00", 0), ("7", 7), ("+7", 7), ("-7", -7), (" \t\n\v\f\r7", 7),
     ("0x10", 16), ("0XfF", 255), ("-0x10", -16), ("010", 8), ("-010", -8), ("0" * 5000, 0),
     ("2147483647", 2147483647), ("-2147483648", -2147483648), ("0x7fffffff", 2147483647)],
)  # fmt: skip
def test_numbers(text, number) -> None:
    """As strtol(3) reads them with base 0."""
    assert parse(["-T", text], OPTIONS) == {"timeout": number}
    assert parse([f"--log-size-max={text}"], OPTIONS) == {"log_size_max": number}


@pytest.mark.parametrize(
    "text",
    ["", " ", "x", "-", "+", "5 ", "5x", "0x", "0xg", "08", "1_0", "1.0", "1e3", "--5", "- 5",
     "\u0663", "\u00a05", "99999999999x", "0b1", "0o7"],
)  # fmt: skip
def test_what_is_no_number(text) -> None:
    """Nothing may come after a number, and something must be there; its size comes second."""
    for name in ("--timeout", "--log-size-max"):
        with pytest.raises(ConmonError, match="failed: Cannot parse integer value") as refusal:
            parse([name, text], OPTIONS)
        assert str(refusal.value).endswith(f" “{text}” for {name}")


@pytest.mark.parametrize(
    ("name", "text"),
    [("--timeout", "2147483648"), ("--timeout", "-2147483649"), ("-T", "0x80000000"),
     ("-T", "9" * 6000), ("--log-size-max", "9223372036854775808"),
     ("--log-size-max", "-9223372036854775809"), ("--log-size-max", "0x" + "f" * 40)],
)  # fmt: skip
def test_numbers_that_are_too_large(name, text) -> None:
    """32 bits, and 64 for sizes."""
    with pytest.raises(ConmonError) as refusal:
        parse([name, text], OPTIONS)

    assert str(refusal.value).endswith(f": Integer value “{text}” for {name} out of range")


def test_the_largest_sizes() -> None:
    """The whole range of 64 bits can be given."""
    for number in ((1 << 63) - 1, -(1 << 63)):
        assert parse(["--log-size-max", str(number)], OPTIONS) == {"log_size_max": number}


pieces = st.sampled_from(
    [
        "-",
        "--",
        "-t",
        "-T",
        "-dT",
        "--timeout",
        "--exit-dir=",
        "--help",
        "5",
        "0x",
        "",
        "=",
        "?",
    ]
)


@given(st.lists(pieces | st.text() | st.builds("".join, st.lists(pieces, max_size=3))))
def test_any_words_are_read_or_refused(words) -> None:
    """There is no third way."""
    refusal = "conmon: option parsing failed: none"
    try:
        parse(words, OPTIONS)
    except ConmonError as error:
        refusal = str(error)
    assert refusal.startswith("conmon: option parsing failed: ")


@given(st.integers(-(1 << 70), 1 << 70), st.sampled_from(["{}", "{:#x}", " {:+}"]))
def test_a_number_is_read_back_or_out_of_range(number, form) -> None:
    """Whatever its base."""
    words = ["--log-size-max", form.format(number)]
    if -(1 << 63) <= number < 1 << 63:
        assert parse(words, OPTIONS) == {"log_size_max": number}
    else:
        with pytest.raises(ConmonError, match="out of range"):
            parse(words, OPTIONS)


@given(st.lists(st.text()))
def test_whatever_follows_an_option_is_its_value(texts) -> None:
    """Also what looks like an option, in both ways of writing it."""
    apart = [word for text in texts for word in ("--runtime-arg", text)]
    together = [f"--runtime-arg={text}" for text in texts]

    assert parse(apart, OPTIONS).get("runtime_arg", ()) == tuple(texts)
    assert parse(together, OPTIONS).get("runtime_arg", ()) == tuple(texts)
