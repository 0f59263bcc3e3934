"""One file's text in blocks: all of it, whatever its packing, and nothing is left open."""

import gc
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from history.reference import PACKINGS, pack
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attachd.errors import UsageError
from attachd.history import unpack
from attachd.history.segments import Segment
from attachd.history.unpack import TextFile, Unsure

every_packing = pytest.mark.parametrize("packing", sorted(set(PACKINGS)))
needs_zstd = pytest.mark.skipif(shutil.which("zstd") is None, reason="needs zstd")
one_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXTS = st.lists(st.sampled_from([b"\n", b"a", b"x" * 60, b"y" * 250]), max_size=12).map(
    b"".join
)


def open_file(path: Path, packing: str = "", inode: int = 0) -> TextFile:
    """Open a file that must be there."""
    file = TextFile.open(Segment(str(path), 0, 0, None, None, inode, packing))
    assert file is not None
    return file


def joined(blocks) -> bytes:
    """Return the text of blocks; each must begin where the last one ended."""
    out, at = [], None
    for end, text in blocks:
        assert at is None or end - len(text) == at
        at = end
        out.append(text)
    return b"".join(out)


@every_packing
@one_directory
@given(text=TEXTS, data=st.data())
def test_blocks_are_the_text_between_two_positions(tmp_path, packing, text, data) -> None:
    """Of the unpacked file; a position behind its end is its end."""
    start = data.draw(st.integers(0, len(text) + 2))
    size = data.draw(st.none() | st.integers(0, len(text) + 2))
    (tmp_path / "f").write_bytes(pack(text, packing))
    with open_file(tmp_path / "f", packing) as file:
        expected = text[start : len(text) if size is None else max(start, size)]

        assert joined(file.blocks(start, size)) == expected
        whole = expected[: expected.rfind(b"\n") + 1]
        blocks = list(file.line_blocks(start, size))
        assert joined(blocks) == whole
        assert all(text.endswith(b"\n") for _, text in blocks)
        assert [at for at, _ in blocks[-1:]] in ([], [start + len(whole)])


@one_directory
@given(text=TEXTS, data=st.data())
def test_blocks_backward_are_the_same_text(tmp_path, text, data) -> None:
    """From a line's end back to a line's beginning, or between any two positions."""
    (tmp_path / "f").write_bytes(text)
    places = [0, *(at + 1 for at, byte in enumerate(text) if byte == ord("\n"))]
    start = data.draw(st.sampled_from(places))
    end = data.draw(st.sampled_from(places).filter(lambda end: end >= start))
    with open_file(tmp_path / "f") as file:
        blocks = list(file.line_blocks_back(start, end))
        places = [place for place, _ in reversed(blocks)]

        assert b"".join(lines for _, lines in reversed(blocks)) == text[start:end]
        assert all(lines[-1:] in (b"\n", b"") for _, lines in blocks)
        assert all(text.startswith(lines, place) for place, lines in blocks)
        assert places == sorted(places)
        back = file.blocks_back(start, end)
        assert b"".join(reversed([lines for _, lines in back])) == text[start:end]


@pytest.mark.parametrize("end", [3, 5, 999])
def test_the_way_back_begins_at_the_end_of_a_line(tmp_path, end) -> None:
    """Inside a line, or where the file has been cut, only the way forward knows what is what."""
    (tmp_path / "f").write_bytes(b"ab\ncd")
    with open_file(tmp_path / "f") as file:
        if end == 3:
            assert list(file.line_blocks_back(0, end)) == [(0, b"ab\n")]
        else:
            with pytest.raises(Unsure):
                list(file.line_blocks_back(0, end))


def test_a_line_without_end_costs_no_memory(tmp_path) -> None:
    """It is an empty line, which is a record in no format; what stands around it is whole."""
    (tmp_path / "f").write_bytes(b"a\n" + b"x" * 5000 + b"\nb\nc\n")
    with patch.object(unpack, "LONGEST_LINE", 1000), open_file(tmp_path / "f") as file:
        blocks = list(file.line_blocks(0, None))

        assert b"".join(text for _, text in blocks) == b"a\n\nb\nc\n"
        assert max(len(text) for _, text in blocks) <= 1200
        assert blocks[-1][0] == 5007
        with pytest.raises(Unsure):
            list(file.line_blocks_back(0, 5007))


def test_a_line_without_end_at_the_end_is_left_out(tmp_path) -> None:
    """Like any last line that has none."""
    (tmp_path / "f").write_bytes(b"a\n" + b"x" * 5000)
    with patch.object(unpack, "LONGEST_LINE", 1000), open_file(tmp_path / "f") as file:
        assert list(file.line_blocks(0, None)) == [(2, b"a\n")]


# What is open


@pytest.mark.parametrize("packing", sorted(set(PACKINGS)))
def test_a_file_stays_the_same_when_it_is_renamed_and_removed(tmp_path, packing) -> None:
    """And is read as often as one likes, each time from its beginning."""
    (tmp_path / "f").write_bytes(pack(b"text\n", packing))
    with open_file(tmp_path / "f", packing) as file:
        first = file.blocks(0, None)
        next(first)
        (tmp_path / "f").rename(tmp_path / "g")
        (tmp_path / "f").write_bytes(b"another\n")
        (tmp_path / "g").unlink()

        assert joined(file.blocks(0, None)) == joined(file.blocks(0, 5)) == b"text\n"
        first.close()


def test_another_file_in_its_place_is_not_opened(tmp_path) -> None:
    """Nor one that is not there; None says so."""
    path = tmp_path / "f"
    path.write_bytes(b"")
    inode = path.stat().st_ino
    open_file(path, inode=inode).close()

    assert TextFile.open(Segment(str(path), 0, 0, None, None, inode + 1)) is None
    assert TextFile.open(Segment(str(path / "g"), 0, 0, None, None, 0)) is None
    assert TextFile.open(Segment(f"{path}x", 0, 0, None, None, 0)) is None


def test_what_is_no_file_is_an_error(tmp_path) -> None:
    """A FIFO without a writer keeps nobody waiting."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in (
        ("fifo", "it is not a regular file"),
        (".", "it is not a regular file"),
        ("loop", "Too many levels of symbolic links"),
    ):
        with pytest.raises(UsageError, match=rf"cannot read the log .*: {reason}"):
            TextFile.open(Segment(str(tmp_path / name), 0, 0, None, None, 0))


def test_a_link_is_followed(tmp_path) -> None:
    """The path of a log is its owner's business."""
    (tmp_path / "f").write_bytes(b"text")
    (tmp_path / "link").symlink_to("f")
    with open_file(tmp_path / "link", inode=(tmp_path / "f").stat().st_ino) as file:
        assert joined(file.blocks(0, None)) == b"text"


def test_a_disk_that_fails_is_an_error(tmp_path) -> None:
    """It is not the same as a file that ends."""
    (tmp_path / "f").write_bytes(b"text")
    file = open_file(tmp_path / "f")
    file.close()

    with pytest.raises(UsageError, match=r"cannot read the log .*/f: Bad file descriptor"):
        joined(file.blocks(0, None))
    for packing in ("gz", "zst"):
        packed = open_file(tmp_path / "f", packing)
        packed.close()
        packed.close()
        with pytest.raises(UsageError, match=r"cannot read the log .*/f: No such file"):
            joined(packed.blocks(0, None))


@pytest.mark.parametrize("packing", sorted({*PACKINGS} - {""}))
def test_a_damaged_packed_file_is_read_as_far_as_it_goes(tmp_path, packing) -> None:
    """Cut, changed, or with something behind it."""
    text = b"".join(b"%x\n" % pow(3, number, 1 << 61) for number in range(40_000))
    packed = pack(text, packing)
    half = len(packed) // 2
    for damaged, least in (
        (packed[:half], len(text) // 4),
        (packed[:half] + b"\0" * 99 + packed[half + 99 :], len(text) // 4),
        (packed[:-4] + b"\0\0\0\0", len(text) // 4),
        (packed + b"garbage", len(text)),
        (b"garbage" + packed, 0),
        (b"", 0),
    ):
        (tmp_path / "f").write_bytes(damaged)
        with (
            open_file(tmp_path / "f", packing) as file,
            patch.object(unpack, "BLOCK_BYTES", 65536),
        ):
            read = joined(file.blocks(0, None))

        assert len(read) >= least
        assert read[: len(text) // 4] == text[: len(read)][: len(text) // 4]


def test_only_a_plain_file_tells_its_size(tmp_path) -> None:
    """That of the text, which is what positions are in."""
    (tmp_path / "f").write_bytes(b"text")
    for packing, size in (("", 4), ("gz", None)):
        with open_file(tmp_path / "f", packing) as file:
            assert file.size == size


# zstd


@needs_zstd
@pytest.mark.parametrize("blocks", [0, 1, 10_000])
def test_zstd_leaves_no_process_and_no_descriptor(tmp_path, blocks) -> None:
    """Whether reading was begun, broken off, or went to the end."""
    (tmp_path / "f").write_bytes(pack(os.urandom(50_000) + b"\n", "zst"))
    gc.collect()
    before = os.listdir("/proc/self/fd")
    with open_file(tmp_path / "f", "zst") as file:
        texts = file.blocks(0, None)
        for _, _ in zip(texts, range(blocks), strict=False):
            pass
        texts.close()

    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_without_zstd_the_error_says_what_to_install(tmp_path, monkeypatch) -> None:
    """It must not look as if there were no output."""
    (tmp_path / "f").write_bytes(b"")
    monkeypatch.setenv("PATH", str(tmp_path))
    with open_file(tmp_path / "f", "zst") as file:
        with pytest.raises(UsageError, match=r"zstd is needed to read .*/f: install it"):
            joined(file.blocks(0, None))
