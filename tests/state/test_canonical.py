"""The gauge against a model that counts each byte, and against the kernel's own terminal."""

import itertools
import os
import select
import termios

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attachd.state.canonical import MAX_LINE, LineGauge, LineRules

ERASE, KILL, END = b"\x7f", b"\x15", b"\x04"
RULES = LineRules(canonical=True, ends=b"\n\r" + END, drops=KILL + b"\x03", erase=ERASE)
RAW = RULES._replace(canonical=False)


class Model:
    """One byte at a time; it has all rules at hand and forgets nothing."""

    def __init__(self, rules: LineRules) -> None:
        self.fresh = frozenset(rules.ends + rules.drops)  # after these a line begins
        self.erase = rules.erase[0]
        self.length = 0
        self.told = False

    def feed(self, data: bytes) -> int | None:
        """Return where in ``data`` a line first loses a byte."""
        losses = [at for at, byte in enumerate(data) if self._loses(byte)]
        return losses[0] if losses else None

    def _loses(self, byte: int) -> bool:
        if byte in self.fresh:
            self.length, self.told = 0, False
        elif byte == self.erase:
            self.length = max(0, self.length - 1)
        elif self.length < MAX_LINE:
            self.length += 1
        elif not self.told:
            self.told = True
            return True
        return False


def _each(data: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in data]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``data`` in pieces."""
    places = sorted({0, len(data), *(at % (len(data) + 1) for at in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


lengths = st.sampled_from([1, 2, 3, 50, 900, 1500, 2500, 4000, 4094, 4095, 4096, 4097, 6000])
runs = st.lists(
    st.one_of(
        st.builds(lambda n: b"x" * n, lengths),
        st.builds(lambda n: b"yz" * (n // 2), lengths),
        st.builds(lambda n: ERASE * n, lengths),
        st.sampled_from([b"\n", b"\n", b"\r", KILL, END, b"\x03", ERASE]),
    ),
    max_size=14,
).map(b"".join)
cuts = st.lists(st.integers(0, 40_000), max_size=12)


def typing(data: bytes, gauge: LineGauge, pieces: list[bytes], rules: LineRules) -> list[int]:
    """Return all positions that the gauge tells, as offsets in the whole."""
    told, at = [], 0
    for piece in pieces:
        where = gauge.feed(piece, rules)
        if where is not None:
            assert 0 <= where < len(piece)
            told.append(at + where)
        at += len(piece)
    return told


@given(runs, cuts)
@example(b"x" * 3000 + ERASE * 2000 + b"x" * 2500 + b"\n", [5000])
@example(b"x" * 3000 + ERASE * 2000 + b"x" * 3500 + b"\n", [5000])
@example(b"x" * 5000 + ERASE * 2000 + b"x" * 3500 + b"\n", [])
@example(b"x" * 5000 + b"\n" + b"x" * 5000 + b"\n", [4000, 5001, 9000])
def test_each_long_line_is_told_once_at_its_first_lost_byte(data, places) -> None:
    """As a model finds it that counts every byte, for the same pieces."""
    gauge, model, at = LineGauge(), Model(RULES), 0
    for piece in cut(data, places):
        assert gauge.feed(piece, RULES) == model.feed(piece), at
        at += len(piece)


@given(runs, cuts, cuts)
def test_any_cutting_of_the_input_finds_the_same_first_line(data, some, others) -> None:
    """Where the first byte is lost does not depend on how it was typed."""
    first = [
        typing(data, LineGauge(), cut(data, places), RULES)[:1] for places in (some, others)
    ]
    whole = LineGauge().feed(data, RULES)
    assert first[0] == first[1] == ([] if whole is None else [whole])


@given(
    st.lists(st.tuples(lengths, st.sampled_from([b"\n", b"\r", END, KILL])), max_size=8), cuts
)
def test_any_cutting_finds_the_same_lines(lines, places) -> None:
    """As long as no piece holds two: then only its first is told."""
    wanted, pieces, at = [], [], 0
    for length, end in lines:
        if length > MAX_LINE:
            wanted.append(at + MAX_LINE)
        line = b"x" * length + end
        pieces += cut(line, places)
        at += len(line)
    assert typing(b"".join(pieces), LineGauge(), pieces, RULES) == wanted


@given(runs, cuts)
def test_a_terminal_in_raw_mode_loses_nothing(data, places) -> None:
    """Without lines there are none that are too long."""
    assert typing(data, LineGauge(), cut(data, places), RAW) == []


def test_what_was_typed_in_raw_mode_counts_for_no_later_line() -> None:
    """Whatever its length."""
    gauge = LineGauge()
    assert gauge.feed(b"x" * 9000, RAW) is None
    assert gauge.feed(b"x" * MAX_LINE + b"\n", RULES) is None


def test_what_was_typed_in_raw_mode_is_no_part_of_a_line() -> None:
    """A program that goes back to canonical mode begins with an empty line."""
    gauge = LineGauge()
    assert gauge.feed(b"x" * 4000, RAW) is None
    assert gauge.feed(b"y" * 200 + b"\n", RULES) is None


def test_a_terminal_may_have_neither_erase_nor_kill() -> None:
    """Characters that are off are no special ones."""
    bare = LineRules(canonical=True, ends=b"\n", drops=b"", erase=b"")
    assert LineGauge().feed(b"x" * 4000 + ERASE * 200 + b"\n", bare) == MAX_LINE


class Kernel:
    """A pseudoterminal in canonical mode, without echo, whose program reads each line."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        settings = termios.tcgetattr(self.slave)
        settings[3] &= ~(termios.ECHO | termios.ISIG)
        settings[3] |= termios.ICANON
        settings[6][termios.VERASE], settings[6][termios.VKILL] = ERASE, KILL
        termios.tcsetattr(self.slave, termios.TCSANOW, settings)
        os.set_blocking(self.master, False)

    def type(self, data: bytes) -> list[bytes]:
        """Type ``data``, which ends with a newline; return the lines that a program reads."""
        lines, rest, wanted = [], data, data.count(b"\n")
        for _ in range(10_000):
            if len(lines) == wanted:
                return lines
            writers = [self.master] if rest else []
            # Asked again in a while: a poll makes the kernel take what it has not looked at yet.
            readable, writable, _ = select.select([self.slave], writers, [], 0.05)
            if writable:
                rest = rest[os.write(self.master, rest) :]
            if readable:
                lines.append(os.read(self.slave, 1 << 16))
        raise AssertionError("the terminal has stopped")

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def kernel():
    """Closed at the end."""
    made = Kernel()
    yield made
    made.close()


@pytest.mark.parametrize("length", [4094, 4095, 4096, 5000])
def test_a_line_is_too_long_exactly_when_the_kernel_cuts_it(kernel, length) -> None:
    """MAX_LINE bytes and the newline are what a program is given."""
    (line,) = kernel.type(b"x" * length + b"\n")
    assert line == b"x" * min(length, MAX_LINE) + b"\n"
    lost = LineGauge().feed(b"x" * length + b"\n", RULES)
    assert lost == (MAX_LINE if length > MAX_LINE else None)


LINES = [
    b"x" * 5000 + KILL + b"y" * 4095,
    b"x" * 5000 + KILL + b"y" * 4096,
    b"x" * 4095 + ERASE + b"y",
    b"x" * 4095 + ERASE + b"yz",
    b"x" * 4096 + ERASE + b"y",
    b"x" * 5000 + ERASE * 1000 + b"y" * 1000,
    b"x" * 3000 + ERASE * 2000 + b"y" * 3095,
    b"x" * 3000 + ERASE * 2000 + b"y" * 3096,
    b"x" * 3000 + ERASE * 5000 + b"y" * 4095,
    b"x" * 3000 + KILL + b"y" * 3000,
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_erase_and_kill_shorten_a_line_as_they_do_in_the_kernel(kernel, line) -> None:
    """Told is what the program is not given, whole or in pieces."""
    meant = b""
    for piece in _each(line):
        meant = b"" if piece == KILL else meant[:-1] if piece == ERASE else meant + piece
    survived = kernel.type(line + b"\n") == [meant + b"\n"]
    last = line.rpartition(KILL)[2]
    killed = len(line) - len(last)
    for pieces in ([last], [last[:2500], last[2500:]], cut(last, list(range(0, 9000, 701)))):
        gauge = LineGauge()
        if killed:
            gauge.feed(line[:killed], RULES)
        assert (typing(last, gauge, [*pieces, b"\n"], RULES) == []) == survived


@settings(max_examples=15)
@given(
    st.lists(
        st.one_of(
            st.builds(lambda n: b"x" * n, lengths),
            st.builds(lambda n: ERASE * n, lengths),
            st.sampled_from([b"\n", b"\n", KILL]),
        ),
        max_size=10,
    ).map(b"".join)
)
def test_the_model_is_the_kernels(data) -> None:
    """So that the comparisons with it mean something: every line has the model's length."""
    kernel, model, wanted = Kernel(), Model(RULES._replace(ends=b"\n", drops=KILL)), []
    for line in (data + b"\n").splitlines(keepends=True):
        model.feed(line[:-1])
        wanted.append(model.length + 1)
        model.feed(b"\n")
    try:
        assert [len(line) for line in kernel.type(data + b"\n")] == wanted
    finally:
        kernel.close()
