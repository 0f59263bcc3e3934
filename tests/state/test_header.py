"""Words and pairs."""

from mortal import Killed, Words

from attachd.state.header import MAX_LOGS, Header, Pair, Word, header_bytes


def test_a_pair_shows_the_old_or_the_new_values_never_a_mixture() -> None:
    """Whichever store the death comes at."""
    for fuse in range(5):
        words = memoryview(bytearray(8 * 16)).cast("Q")
        Pair(words, 2, 3).store(1, 2, 3)
        try:
            Pair(Words(words, [fuse]), 2, 3).store(7, 8, 9)
        except Killed:
            assert Pair(words, 2, 3).read() == (1, 2, 3)
        else:
            assert Pair(words, 2, 3).read() == (7, 8, 9)


def test_a_fresh_header_knows_its_own_layout() -> None:
    """And one of another version is not worked on."""
    words = memoryview(bytearray(header_bytes(16))).cast("Q")
    header = Header(words)
    assert not header.known
    header.format(4096, 16)
    assert header.known
    assert (header.ring_size, header.index_capacity) == (4096, 16)
    header.version = 99
    assert not header.known
    assert isinstance(Header.version, Word)


def test_no_two_parts_of_the_header_overlap() -> None:
    """Each word has one owner."""
    words = memoryview(bytearray(header_bytes(4))).cast("Q")
    header = Header(words)
    header.format(1, 4)
    header.writers[0] = 1
    header.writers[len(header.writers) - 1] = 2
    header.index[0], header.index[len(header.index) - 1] = 3, 4
    header.intake_mark.store(5, 5, 5, 5, 5)
    for number in range(MAX_LOGS):
        header.log(number).store(*[10 + number] * 4)
    assert header.known
    assert (header.writers[0], header.writers[len(header.writers) - 1]) == (1, 2)
    assert (header.index[0], header.index[len(header.index) - 1]) == (3, 4)
    assert header.intake_mark.read() == (5,) * 5
    assert [header.log(n).read()[0] for n in range(MAX_LOGS)] == [10, 11, 12, 13]
