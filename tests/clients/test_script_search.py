"""The search of an expectation: whatever is cut, the same is found, and each byte is read once."""

import itertools
import re

import pytest
from attachd_clients.script.buffer import Buffer, Piece
from attachd_clients.script.layer import Layer
from attachd_clients.script.patterns import compile_all
from attachd_clients.script.search import Hit, Search
from hypothesis import given
from hypothesis import strategies as st

#: Patterns that need the past, the next character, several lines, the beginning, or nothing.
PATTERNS = [
    "ab", "a+b", "a.*b", "(?s)a.*b", r"\bab", r"a\b", r"a\B", r"a\Bb", r"b\ba", "!\\ba", "^a",
    "(?m)^ab", r"(?m)^b\b", "(?<=a)b", r"(?<=a\n)b", "a(?=b)", r"a(?!b)", r"a\s+b", "[^a]b",
    r"[^a\n]b", r"(a)\s\1", "(?i)AB", "a|bb", "b{2}", r"\w+\s!", r"(?x) a \ b # c", "é", "a?",
    r"a\Z", "(?:a|b)+!", r"[\w\s]+!", r"\n\n", "a{,2}!", "(?>a+)b", "a*+b", r"[a[]b",
]  # fmt: skip

texts = st.text("ab!\n é{", max_size=30)
cuts = st.lists(st.integers(0, 60), max_size=8)


def no_limit() -> None:
    return None


def pieces(data: bytes, where: list[int]) -> list[bytes]:
    edges = [0, *sorted({min(at, len(data)) for at in where}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def searched(patterns, data: bytes, where: list[int]) -> tuple[Hit | None, int]:
    """Feed what was cut, looking each time; return what was found, and after how much."""
    buffer = Buffer(0)
    search = Search(compile_all(patterns), buffer)
    for piece in pieces(data, where):
        buffer.append(buffer.end, "stdout", piece)
        search.feed()
        if hit := search.scan(no_limit):
            return hit, buffer.end
    return None, buffer.end


def rescanned(
    patterns, data: bytes, where: list[int]
) -> tuple[tuple[int, int, int] | None, int]:
    """The stupid model: search everything again each time."""
    seen = b""
    for piece in pieces(data, where):
        seen += piece
        text = seen.decode()
        found = [(m, i) for i, p in enumerate(patterns) if (m := re.search(p, text))]
        if found:
            match, index = min(found, key=lambda one: (one[0].start(), one[1]))
            start, end = (len(text[:at].encode()) for at in match.span())
            return (index, start, end), len(seen)
    return None, len(seen)


def whole_characters(data: bytes, where: list[int]) -> list[int]:
    return [at for at in where if at >= len(data) or data[at] & 0xC0 != 0x80]


@given(
    st.lists(st.sampled_from([re.compile(p) for p in PATTERNS]), min_size=1, max_size=3),
    texts,
    cuts,
)
def test_it_finds_what_searching_everything_again_would_find(patterns, text, where) -> None:
    """Also where a match depends on what is around it; no match is missed, none comes later."""
    data = text.encode()
    where = whole_characters(data, where)
    hit, after = searched(patterns, data, where)
    expected, seen = rescanned(patterns, data, where)

    assert (hit and (hit.index, hit.start, hit.end), after) == (expected, seen)


@given(
    st.sampled_from(["ab", "a[^!]*!", "éb?!", r"a\s*b!", "(?s)a.*!", "(?m)^b!", r"b\B!"]),
    texts,
    cuts,
)
def test_chunking_never_changes_what_is_found(pattern, text, where) -> None:
    """Of a pattern whose end decides; bytes of one character may come apart."""
    data = text.encode()
    whole, _ = searched([pattern], data, [])
    cut, _ = searched([pattern], data, where)
    expected = re.search(pattern, text)
    if pattern.startswith("(?s)") and expected:  # the first end that is there is taken
        assert cut is not None
        assert cut.start == whole.start
        return

    assert (cut and (cut.start, cut.end)) == (whole and (whole.start, whole.end))
    assert (whole is None) == (expected is None)


@given(st.binary(max_size=40), cuts, st.sampled_from([b"a", b"\x80.", b"(?s)\xff.*\x00"]))
def test_bytes_are_searched_as_they_are(data, where, pattern) -> None:
    """Offsets are indices, whatever the bytes are."""
    hit, _ = searched([pattern], data + b"\xff\x80!a\x00", where)
    expected = re.search(pattern, data + b"\xff\x80!a\x00")

    assert hit is not None
    assert hit.start == expected.start()


@given(st.binary(max_size=40), cuts)
def test_output_that_is_no_text_never_raises(data, where) -> None:
    """What is no UTF-8 is replaced as `bytes.decode` does, and offsets still count bytes."""
    data += b"\xf0\x9f\x98!END"
    hit, _ = searched(["\ufffd!END"], data, where)
    text = data.decode(errors="replace")

    assert hit.found[0] == "\ufffd!END"
    assert (hit.start, hit.end) == (len(data) - 7, len(data))
    assert text.endswith("\ufffd!END")


@given(st.binary(max_size=40), cuts)
def test_every_character_knows_its_bytes(data, where) -> None:
    """Also where some were replaced; pieces that are not next to each other keep their place."""
    layer, at = Layer(str, 7), 7
    for piece in pieces(data, where):
        layer.feed(Piece(at, "stdout", piece))
        at += len(piece)
    layer.finish()
    text = layer.join()
    edges = [layer.start_of(index) for index in range(len(text))]

    assert text == data.decode(errors="replace")
    assert edges == sorted(set(edges))
    for index, (begin, end) in enumerate(itertools.pairwise([*edges, 7 + len(data)])):
        assert data[begin - 7 : end - 7].decode(errors="replace") == text[index]
        assert layer.end_of(index + 1) == end


def test_each_character_is_looked_at_a_few_times() -> None:
    """A pattern that ends a long output: lines, no lines, and one that can always still begin."""
    size, piece = 1_000_000, 4096
    for pattern, unit in (
        ("END", b"x" * 79 + b"\n"),
        (r"x+\s+END", b"x" * 79 + b"\n"),
        ("(?s)x.*END", b"x" * 79 + b"\n"),
        ("x.*END", b"x" * 80),
        (r"[^!]*END", b"y" * 80),
        (r"begin[^!]*\d", b"y" * 79 + b"\n"),
    ):
        buffer = Buffer(0)
        search = Search(compile_all(pattern), buffer)
        hit, data = None, b"begin" + unit * (size // 80) + b" END 4\n"
        for at in range(0, len(data), piece):
            buffer.append(at, "stdout", data[at : at + piece])
            while search.feed():
                if search.due:
                    hit = hit or search.scan(no_limit)
        hit = hit or search.scan(no_limit)

        assert hit is not None, pattern
        assert search.scanned < 6 * len(data), pattern


def test_a_search_for_something_short_takes_what_is_new_alone() -> None:
    """Not even the line that is open, when it is not long."""
    buffer = Buffer(0)
    search = Search(compile_all("END"), buffer)
    for _ in range(100):
        buffer.append(buffer.end, "stdout", b"x" * 999 + b"\n")
        search.feed()
        search.scan(no_limit)

    assert search.scanned == 100_000


def test_the_earliest_wins_and_at_one_place_the_first() -> None:
    """Of several patterns."""
    assert searched(["b", "a"], b"xab", [])[0].index == 1
    assert searched(["ab", "a"], b"xab", [])[0].index == 0
    assert searched([b"a", "ab"], b"xab", [])[0].index == 0


@pytest.mark.parametrize("pattern", [r"(a|aa)+!", r"(?s)(a|aa)+!"])
def test_a_pattern_that_never_ends_ends_in_time(pattern) -> None:
    """By TimeoutError; the search can go on with what is left of the time."""
    buffer = Buffer(0)
    search = Search(compile_all(pattern), buffer)
    buffer.append(0, "stdout", b"a" * 200 + b"? !")
    search.feed()
    with pytest.raises(TimeoutError):
        search.scan(lambda: 0.05)
    with pytest.raises(TimeoutError):
        search.scan(lambda: 0)


def test_nothing_matches_across_a_gap() -> None:
    """What is before it is searched alone, then what is behind it; no line begins there."""
    for pattern in ("ab", "(?s)a.*b", "^b", "(?m)^b"):
        buffer = Buffer(0)
        search = Search(compile_all(pattern), buffer)
        buffer.append(0, "stdout", b"xa")
        buffer.skip(2, 50)
        buffer.append(50, "stdout", b"bb ab!\nb")
        assert search.feed()
        assert search.due
        assert search.scan(no_limit) is None
        assert search.feed()
        hit = search.scan(no_limit)
        assert not search.feed()
        assert (hit and (hit.start, hit.end)) == {
            "ab": (53, 55),
            "(?s)a.*b": (53, 58),
            "(?m)^b": (57, 58),
        }.get(pattern)
        assert (buffer.start, buffer.missing) == (50, 48)


def test_what_is_too_old_is_dropped_and_told() -> None:
    """Nothing that was dropped is in a match; what is kept is bounded."""
    buffer = Buffer(0, limit=100_000)
    search = Search(compile_all("(?s)a.*b"), buffer)
    for _ in range(50):
        buffer.append(buffer.end, "stdout", b"a" + b"x" * 9999)
        search.feed()
        assert search.scan(no_limit) is None
    buffer.append(buffer.end, "stdout", b"b")
    search.feed()
    hit = search.scan(no_limit)

    assert buffer.size <= 110_000
    assert buffer.dropped == 500_001 - buffer.size
    assert hit.start == buffer.start == 500_001 - buffer.size
    assert len(buffer.read(hit.start)) == 0


def test_a_match_near_the_end_of_a_piece_takes_what_is_there_already() -> None:
    """A number is not cut because it came in two pieces, when both are there."""
    buffer = Buffer(0)
    search = Search(compile_all(r"got \d+"), buffer)
    buffer.append(0, "stdout", b"x" * 300_000 + b"got 1")
    buffer.append(buffer.end, "stdout", b"23 ")
    search.feed()
    hit = search.scan(no_limit)
    assert hit.found[0] == "got 1"
    assert search.is_short(hit)
    search.feed()
    hit = search.scan(no_limit)
    assert hit.found[0] == "got 123"
    assert not search.is_short(hit)


def test_streams_that_speak_at_once_cut_no_memory_of_each_other() -> None:
    """An unfinished character of one is replaced when the other speaks; offsets stay right."""
    buffer = Buffer(10)
    search = Search(compile_all("x+"), buffer)
    buffer.append(10, "stdout", b"\xc3")
    buffer.append(11, "stderr", b"xx")
    buffer.append(13, "stdout", b"\xa9")
    search.feed()
    hit = search.scan(no_limit)

    assert (hit.start, hit.end) == (11, 13)
